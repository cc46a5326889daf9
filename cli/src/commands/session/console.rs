//! `stapes console`

use stapes_api::{
    client::escape,
    wire::exec::{Control, InstanceConsolePost},
};

use super::{streams, terminal};
use crate::{
    args::session::ConsoleArgs,
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
};

/// Ctrl-a, and then `q`: how Incus's console is left.
const ESCAPE: u8 = 0x01;
const LEAVE: u8 = b'q';

pub(crate) async fn run(session: &Session, args: ConsoleArgs) -> Result<ExitStatus> {
    let object = Object::instance(&args.instance.instance)?;
    if args.show_log {
        let path = format!("/1.0/instances/{}/console", escape(&object.name));
        let log = session.client.download(&path).await.map_err(Failure::from);
        let log = object.explain(session, log).await?.bytes().await?;
        session.printer.bytes(&log)?;
        return Ok(ExitStatus::Done);
    }
    if args.kind != "console" {
        return Err(Failure::usage(format!("this client shows no `{}` console", args.kind))
            .hint(format!("stapes console {}", object.name)));
    }
    if !terminal::interactive() {
        return Err(Failure::usage("a console needs a terminal")
            .hint(format!("stapes console --show-log {}", object.name)));
    }
    let (width, height) = terminal::size();
    let post = InstanceConsolePost { width, height, kind: args.kind, force: args.force };
    let opened = session.client.console(&object.name, &post).await.map_err(Failure::from);
    let console = object.explain(session, opened).await?;
    session.printer.say("To detach from the console, press: <ctrl>+a q");
    let raw = terminal::Raw::enter()?;
    let (mut to, from) = console.terminal.split();
    let mut control = console.control;
    let typing = async {
        let mut input = streams::stdin();
        let mut keys = Keys::default();
        while let Some(piece) = input.recv().await {
            let (kept, leave) = keys.pass(&piece);
            if to.send(kept).await.is_err() || leave {
                break;
            }
        }
    };
    let window = async {
        while let Some((columns, rows)) = terminal::resized().await {
            if control.control(&Control::resize(columns, rows)).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        drained = streams::drain(from, false) => drained,
        () = typing => Ok(()),
        () = window => Ok(()),
    };
    drop(raw);
    session.printer.say("");
    ended.map(|()| ExitStatus::Done)
}

/// Watches for the keys that leave; everything else passes.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut kept = Vec::with_capacity(typed.len());
        for &key in typed {
            match (self.escaped, key) {
                (true, LEAVE) => return (kept, true),
                // Ctrl-a twice is one ctrl-a for the guest.
                (true, ESCAPE) => {
                    kept.push(ESCAPE);
                    self.escaped = false;
                }
                (true, other) => {
                    kept.extend([ESCAPE, other]);
                    self.escaped = false;
                }
                (false, ESCAPE) => self.escaped = true,
                (false, other) => kept.push(other),
            }
        }
        (kept, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ctrl_a_q_leaves() {
        let mut keys = Keys::default();
        assert_eq!(keys.pass(b"ls\x01"), (b"ls".to_vec(), false));
        assert_eq!(keys.pass(b"x"), (b"\x01x".to_vec(), false));
        assert_eq!(keys.pass(b"\x01\x01q"), (b"\x01q".to_vec(), false));
        assert_eq!(keys.pass(b"a\x01qb"), (b"a".to_vec(), true));
    }
}
