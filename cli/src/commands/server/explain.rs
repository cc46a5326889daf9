//! `explain` and `help TOPIC`: what the codes mean.

use crate::{
    exit::{self, ExitStatus},
    failure::{Failure, Result},
    session::Session,
};

const CODES: [(&str, &str); 22] = [
    ("invalid", "The request makes no sense to the daemon. Its reason is on the first line."),
    (
        "not-found",
        "There is no such thing in this project. What was deleted is still in `stapes log`.",
    ),
    ("exists", "Something of this name is there already."),
    ("changed-since", "Something else changed the same thing meanwhile. Look again and repeat."),
    ("not-implemented", "The daemon knows this path but not this request on it."),
    ("instance-running", "The instance must be stopped for this: `stapes stop NAME`."),
    ("cannot-undo", "What the operation took away is gone; the log still says what it was."),
    (
        "replay-differs",
        "What the log says and what is served differ. A restart rebuilds what is served.",
    ),
    (
        "log-broken",
        "The daemon cannot read on in its log: a file is damaged or missing. `stapes log verify` says where.",
    ),
    (
        "unreachable",
        "Nobody answers at the daemon's socket. Is `stapes daemon` running, with the same STAPES_DIR?",
    ),
    (
        "no-access",
        "You may not do this as who you are: be root, or of the group that owns the daemon's socket.",
    ),
    (
        "no-quorum",
        "Most of the log's servers are not heard, so nothing can be changed; guests run on, and what is read may be old. `stapes cluster status` says who is missing.",
    ),
    (
        "node-unreachable",
        "The member that has the guest is not heard. What it runs goes on there; `stapes cluster status`.",
    ),
    ("usage", "What was typed makes no sense. Nothing was sent."),
    (
        "operation-failed",
        "The operation was accepted and then failed. `stapes op show ID` says how.",
    ),
    ("partly-failed", "Some of several targets failed. Each is listed with its reason."),
    (
        "timed-out",
        "The wait ran out of time. The operation goes on; `stapes op watch ID` returns to it.",
    ),
    ("local", "A file or a program on this side did not do its part."),
    (
        "connection-broke",
        "The connection broke. Whether the request had an effect is unknown: `stapes op list --all`.",
    ),
    (
        "protocol",
        "The daemon said something that this client does not understand. Compare `stapes version`.",
    ),
    ("no-daemon", "This program was built without the daemon."),
    ("http-500", "The daemon failed. Its own log has the chain of causes."),
];

pub(crate) fn run(session: &Session, code: &str) -> Result<ExitStatus> {
    let typed = code.to_lowercase();
    let known = CODES.iter().find(|(name, _)| *name == typed);
    let Some((name, meaning)) = known else {
        let names: Vec<&str> = CODES.iter().map(|(name, _)| *name).collect();
        return Err(Failure::new(
            ExitStatus::NotFound,
            "not-found",
            format!("nothing is known of `{code}`"),
        )
        .fact(format!("Known: {}.", names.join(", ")))
        .fact("Other codes that begin with http- end in the status of the daemon's answer."));
    };
    session.printer.line(&format!("{name}  {meaning}"))?;
    Ok(ExitStatus::Done)
}

/// Topics that are no verbs; `None` when it is not one of them.
pub(crate) fn topic(name: &str) -> Option<&'static str> {
    match name {
        "exit-codes" => Some(exit::TABLE),
        "environment" => Some(ENVIRONMENT),
        _ => None,
    }
}

const ENVIRONMENT: &str = "\
STAPES_DIR      the daemon's directory [/var/lib/stapes]
STAPES_PROJECT  the project to work in
STAPES_CONF     where the client keeps its own file [~/.config/stapes]
VISUAL, EDITOR  the editor of `edit` [vi]
NO_COLOR, CLICOLOR_FORCE, TERM=dumb   colour, as everywhere
COLUMNS         the width of tables that do not go to a terminal
";
