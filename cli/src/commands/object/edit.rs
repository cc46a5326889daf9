//! Edits any object in the user's editor, or takes YAML from a pipe.

use serde_json::Value;

use super::Object;
use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    output::{diff, printer},
    session::Session,
};

/// In an editor on a terminal, from stdin otherwise. A refusal opens the editor again with the
/// reason on top; an unchanged text changes nothing.
pub(crate) async fn edit(session: &Session, object: &Object) -> Result<ExitStatus> {
    let (value, etag) = object.read_with_etag(session).await?;
    if let Some(body) = input::piped_yaml(session)? {
        object.write(session, &body, etag.as_deref()).await?;
        return Ok(ExitStatus::Done);
    }
    let before = printer::yaml(&object.writable(&value))?;
    let mut shown = header(object) + &before;
    loop {
        let edited = input::edit(&shown, ".yaml")?;
        let text = without_comments(&edited);
        if text.trim() == before.trim() {
            session.printer.say("nothing changed");
            return Ok(ExitStatus::Done);
        }
        if edited == shown {
            return Err(Failure::usage("the edit was given up").effect("Nothing was changed."));
        }
        let applied = match parse(&text) {
            Ok(body) => object.write(session, &body, etag.as_deref()).await.map(drop),
            Err(failure) => Err(failure),
        };
        match applied {
            Ok(()) => {
                session.printer.say(diff::unified(&before, &text).trim_end());
                return Ok(ExitStatus::Done);
            }
            // Someone else changed it: editing on would only be refused again.
            Err(failure) if failure.exit() == ExitStatus::Conflict => return Err(failure),
            Err(failure) => {
                shown = format!(
                    "# {}\n# Save it unchanged to give up.\n{text}",
                    failure.message().replace('\n', "\n# ")
                )
            }
        }
    }
}

fn header(object: &Object) -> String {
    format!("# {}. Lines that begin with # are left out.\n", object.title())
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn parse(text: &str) -> Result<Value> {
    let value = input::yaml(text, "the text")?;
    if value.is_object() { Ok(value) } else { Err(Failure::usage("the text is no map of fields")) }
}
