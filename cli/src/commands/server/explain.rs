//! `explain` and `help TOPIC`: what the codes mean.

use crate::{
    exit::{self, ExitStatus},
    failure::{Failure, Result},
    session::Session,
};

const CODES: &[(&str, &str)] = &[
    ("invalid", "The request makes no sense to the daemon. Its reason is on the first line."),
    (
        "not-found",
        "There is no such thing in this project. What was deleted is still in `stapes log`.",
    ),
    ("already-exists", "Something of this name is there already. Choose another name."),
    ("exists", "Something of this name is there already."),
    (
        "wrong-state",
        "What is asked for cannot be done while the instance runs, or while it does not.",
    ),
    ("busy", "An operation is under way on it: `stapes op list`. Wait for its end and repeat."),
    ("in-use", "Something else needs it. Take it out of that first."),
    ("not-allowed", "It can never be done to this thing. The hint says what can."),
    ("forbidden", "You may not do this as who you are."),
    ("exhausted", "There is no free address, number or room left to give out."),
    ("changed-meanwhile", "It changed after it was read. Look again and repeat."),
    ("changed-since", "Something else changed the same thing since the operation."),
    ("not-kept", "What is asked about is not on the log: too old, removed, or still to come."),
    (
        "unavailable",
        "The daemon cannot serve this now; nothing was changed. Its reason is on the first line.",
    ),
    (
        "outcome-unknown",
        "Whether it was done is not known yet. Look (`stapes log`) before you repeat it.",
    ),
    ("full", "The pool has no room left. Free space, or use another one."),
    ("io", "The daemon cannot read or write a file. Its reason is on the first line."),
    (
        "driver-failed",
        "The host did not do its part. The daemon's own log has the chain of causes.",
    ),
    ("internal", "The daemon made a mistake. Its own log says more."),
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

#[cfg(test)]
mod tests {
    use stapes_core::{
        operation::Verb,
        rejection::{Noun, Rejection},
    };

    use super::CODES;

    #[test]
    fn every_refusal_of_the_daemon_is_explained() {
        let (noun, text) = (Noun::Instance, String::new);
        let all = [
            Rejection::NotFound { noun, name: text() },
            Rejection::AlreadyExists { noun, name: text() },
            Rejection::Busy { verb: Verb::CreateInstance },
            Rejection::WrongState { message: "", hint: text() },
            Rejection::Invalid(text()),
            Rejection::InUse { noun, by: Vec::new() },
            Rejection::NotAllowed { message: text(), hint: text() },
            Rejection::Stale { wanted: 1, actual: 2 },
            Rejection::Exhausted(text()),
        ];
        for refusal in all {
            let code = refusal.code();
            assert!(CODES.iter().any(|(known, _)| *known == code), "{code} is not explained");
        }
    }
}
