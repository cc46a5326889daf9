//! `stapes config …`: which thing is meant by the words, and then what all objects do.

use crate::{
    args::config::{EditArgs, GetArgs, SetArgs, ShowArgs},
    commands::object::{self, Object},
    exit::ExitStatus,
    failure::{Failure, Result},
    name::instance_or_snapshot,
    pairs,
    session::Session,
};

pub(crate) async fn edit(session: &Session, args: EditArgs) -> Result<ExitStatus> {
    object::edit(session, &target(args.instance.as_deref())?).await
}

pub(crate) async fn show(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = target(args.instance.as_deref())?;
    let mut value = object.read(session).await?;
    if !args.expanded
        && let Some(fields) = value.as_object_mut()
        && args.instance.is_some()
    {
        fields.remove("expanded_config");
        fields.remove("expanded_devices");
    }
    if args.expanded
        && let Some(fields) = value.as_object_mut()
    {
        for field in ["config", "devices"] {
            if let Some(expanded) = fields.remove(&format!("expanded_{field}")) {
                fields.insert(field.to_owned(), expanded);
            }
        }
    }
    if args.instance.is_none() {
        value = object.writable(&value);
    }
    session.printer.object(args.format.format, &value)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn get(session: &Session, args: GetArgs) -> Result<ExitStatus> {
    let (object, key) = key_of(&args.words)?;
    if args.expanded {
        let value = object.read(session).await?;
        let expanded = value.get("expanded_config").cloned().unwrap_or_default();
        session.printer.line(&super::text(&expanded, key))?;
        return Ok(ExitStatus::Done);
    }
    object::get(session, &object, key, args.property).await
}

pub(crate) async fn unset(session: &Session, args: GetArgs) -> Result<ExitStatus> {
    let (object, key) = key_of(&args.words)?;
    object::unset(session, &object, key, args.property).await
}

/// `web a=1 b=2`, `web a 1`, and for the server `a=1`, `a 1`.
pub(crate) async fn set(session: &Session, args: SetArgs) -> Result<ExitStatus> {
    let (instance, words) = split(&args.words)?;
    let pairs = pairs::parse(words)?;
    object::set(session, &target(instance)?, pairs, args.property).await
}

fn split(words: &[String]) -> Result<(Option<&str>, &[String])> {
    match words {
        [first, ..] if first.contains('=') => Ok((None, words)),
        // Two words without `=`: a key of the server and its value.
        [_, second] if !second.contains('=') => Ok((None, words)),
        [instance, rest @ ..] if !rest.is_empty() => Ok((Some(instance), rest)),
        _ => {
            Err(Failure::usage("say what to set").hint("stapes config set web limits.memory=2GiB"))
        }
    }
}

fn key_of(words: &[String]) -> Result<(Object, &str)> {
    match words {
        [key] => Ok((Object::server(), key)),
        [instance, key] => Ok((target(Some(instance))?, key)),
        _ => Err(Failure::usage("say which key").hint("stapes config get web limits.memory")),
    }
}

fn target(instance: Option<&str>) -> Result<Object> {
    let Some(text) = instance else { return Ok(Object::server()) };
    let named = instance_or_snapshot(text)?;
    match named.snapshot {
        Some(snapshot) => Ok(Object::snapshot(&named.instance, &snapshot)),
        None => Object::instance(&named.instance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_whose_key_is_meant() {
        let split = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            split(&words).map(|(owner, rest)| (owner.map(str::to_owned), rest.join(" "))).ok()
        };
        let web = || Some("web".to_owned());
        assert_eq!(split("web a=1 b=2"), Some((web(), "a=1 b=2".into())));
        assert_eq!(split("web a 1"), Some((web(), "a 1".into())));
        assert_eq!(
            split("core.https_address=:8443"),
            Some((None, "core.https_address=:8443".into()))
        );
        assert_eq!(
            split("core.https_address :8443"),
            Some((None, "core.https_address :8443".into()))
        );
        assert_eq!(split("web"), None);
    }
}
