//! What comes from the user while a command runs: YAML on stdin, an editor, a yes.

use std::{
    fs::File,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    failure::{Failure, Result},
    session::Session,
    settings::env,
};

/// A pipe that has said nothing for so long is taken for one that nobody writes to.
const SILENCE: Duration = Duration::from_secs(1);

/// YAML (or JSON) on stdin, when that is a file or a pipe that has something to say.
pub(crate) fn piped_yaml(session: &Session) -> Result<Option<Value>> {
    let text = match piped_text(session)? {
        Some(text) if !text.trim().is_empty() => text,
        _ => return Ok(None),
    };
    yaml(&text, "standard input").map(Some)
}

/// All of stdin, whatever it is.
pub(crate) fn stdin_text() -> Result<String> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::local("cannot read standard input", &error))?;
    Ok(text)
}

pub(crate) fn yaml(text: &str, origin: &str) -> Result<Value> {
    yaml_serde::from_str(text)
        .map_err(|error| Failure::usage(format!("{origin} is not YAML")).fact(error.to_string()))
}

fn piped_text(session: &Session) -> Result<Option<String>> {
    let cannot = |error: &io::Error| Failure::local("cannot read standard input", error);
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|error| cannot(&error))?;
    let mut stdin = File::from(stdin);
    let kind = stdin.metadata().map_err(|error| cannot(&error))?.file_type();
    if kind.is_file() {
        let mut text = String::new();
        stdin.read_to_string(&mut text).map_err(|error| cannot(&error))?;
        return Ok(Some(text));
    }
    if !kind.is_fifo() {
        return Ok(None);
    }
    let (sender, receiver) = mpsc::channel();
    // The thread outlives a silent pipe's timeout; it ends with the process.
    std::thread::spawn(move || read_pipe(stdin, &sender));
    let Ok(first) = receiver.recv_timeout(SILENCE) else {
        session.printer.say("note: standard input is a silent pipe; nothing was read from it");
        return Ok(None);
    };
    let mut bytes = first.map_err(|error| cannot(&error))?;
    for rest in receiver {
        bytes.extend(rest.map_err(|error| cannot(&error))?);
    }
    String::from_utf8(bytes).map(Some).map_err(|_| Failure::usage("standard input is not text"))
}

/// The first bytes as soon as they come, then all the others.
fn read_pipe(mut pipe: File, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut first = vec![0; 4096];
    let read = pipe.read(&mut first).map(|length| {
        first.truncate(length);
        first
    });
    let ended = !matches!(&read, Ok(bytes) if !bytes.is_empty());
    if sender.send(read).is_err() || ended {
        return;
    }
    let mut rest = Vec::new();
    // A receiver that is gone gave up on this pipe.
    let _ = sender.send(pipe.read_to_end(&mut rest).map(|_| rest));
}

/// The user's editor on `text`; the text as it was left.
pub(crate) fn edit(text: &str, suffix: &str) -> Result<String> {
    let mut file = tempfile::Builder::new()
        .prefix("stapes-")
        .suffix(suffix)
        .tempfile()
        .map_err(|error| Failure::local("cannot make a file to edit", &error))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.flush())
        .map_err(|error| Failure::local("cannot write the file to edit", &error))?;
    let editor = env::EDITOR
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    // An editor may come with flags (`code --wait`): the shell splits them, the path is an argument.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .map_err(|error| Failure::local(format!("cannot run the editor `{editor}`"), &error))?;
    if !status.success() {
        return Err(Failure::usage(format!("the editor `{editor}` failed ({status})")));
    }
    std::fs::read_to_string(file.path())
        .map_err(|error| Failure::local("cannot read the edited file", &error))
}

/// Whether the user says yes. Without a terminal there is nobody to ask: `otherwise` says what to
/// type instead.
pub(crate) fn confirm(session: &Session, question: &str, otherwise: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{question} There is no terminal to ask on."))
            .hint(otherwise.to_owned()));
    }
    session.printer.say(&format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::local("cannot read the answer", &error))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
