//! Why a command did not do what it was asked: a stable code, the facts, and what to type next.
//!
//! ```text
//! error[not-found]: there is no instance `wbe`
//!   nearest: web, web2
//!   hint: stapes list
//!   Nothing was changed.
//! ```
//!
//! Codes are the daemon's (`instance-running`) or the client's own (`unreachable`); `stapes explain`
//! knows both. An answer without one is `http-` and its status.

use std::fmt::{self, Write as _};

use crate::exit::ExitStatus;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    exit: ExitStatus,
    code: String,
    message: String,
    facts: Vec<String>,
    hints: Vec<String>,
    /// What did or did not change, as a whole sentence.
    effect: Option<String>,
    /// The chain of causes, for `--debug`.
    cause: Option<String>,
}

impl Failure {
    pub(crate) fn new(
        exit: ExitStatus,
        code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Report {
            exit,
            code: code.into(),
            message: message.into(),
            facts: Vec::new(),
            hints: Vec::new(),
            effect: None,
            cause: None,
        }))
    }

    /// An end that is no error: the words alone, and how the program ends.
    pub(crate) fn end(exit: ExitStatus, message: impl Into<String>) -> Self {
        Self::new(exit, "", message)
    }

    /// Bad input that clap could not see.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, "usage", message).effect("Nothing was changed.")
    }

    /// A local file or program that did not do its part.
    pub(crate) fn local(message: impl Into<String>, cause: &dyn std::error::Error) -> Self {
        Self::new(ExitStatus::Failed, "local", message).fact(cause.to_string()).cause(cause)
    }

    /// The daemon said something that this client does not understand.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Failed, "protocol", message)
            .hint("stapes version    (the client and the daemon may be of different versions)")
    }

    #[must_use]
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.0.facts.push(fact.into());
        self
    }

    #[must_use]
    pub(crate) fn facts(mut self, facts: impl IntoIterator<Item = String>) -> Self {
        self.0.facts.extend(facts);
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.0.hints.extend(hints);
        self
    }

    #[must_use]
    pub(crate) fn effect(mut self, effect: impl Into<String>) -> Self {
        self.0.effect = Some(effect.into());
        self
    }

    #[must_use]
    pub(crate) fn with_exit(mut self, exit: ExitStatus) -> Self {
        self.0.exit = exit;
        self
    }

    #[must_use]
    pub(crate) fn cause(mut self, error: &dyn std::error::Error) -> Self {
        let mut chain = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let _ = write!(chain, "\n  caused by: {source}");
            next = source.source();
        }
        self.0.cause = Some(chain);
        self
    }

    pub(crate) fn exit(&self) -> ExitStatus {
        self.0.exit
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The report in words, coloured; whoever prints it strips the colour where it has no place.
    pub(crate) fn render(&self, debug: bool) -> String {
        use crate::output::style::{BOLD, DIM, ERROR, HINT};
        let report = &*self.0;
        let mut text = String::new();
        if !report.code.is_empty() {
            let _ = write!(text, "{ERROR}error[{}]{ERROR:#}{BOLD}:{BOLD:#} ", report.code);
        }
        text.push_str(&report.message);
        for fact in &report.facts {
            let _ = write!(text, "\n  {}", fact.replace('\n', "\n  "));
        }
        for hint in &report.hints {
            let _ = write!(text, "\n  {HINT}hint:{HINT:#} {hint}");
        }
        if let Some(effect) = &report.effect {
            let _ = write!(text, "\n  {effect}");
        }
        if let Some(cause) = report.cause.as_ref().filter(|_| debug) {
            let _ = write!(text, "\n  {DIM}{}{DIM:#}", cause.replace('\n', "\n  "));
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_from_what_to_what_next() {
        let failure = Failure::new(ExitStatus::NotFound, "not-found", "there is no instance `wbe`")
            .fact("nearest: web")
            .hint("stapes list")
            .effect("Nothing was changed.");
        let plain = anstream::adapter::strip_str(&failure.render(false)).to_string();
        assert_eq!(
            plain,
            "error[not-found]: there is no instance `wbe`\n  nearest: web\n  hint: stapes list\n  \
             Nothing was changed."
        );
        assert_eq!(failure.exit().code(), 3);
    }

    #[test]
    fn the_chain_of_causes_is_for_debugging_only() {
        let cause = std::io::Error::other("disk on fire");
        let failure = Failure::new(ExitStatus::Failed, "local", "cannot read it").cause(&cause);
        assert!(!failure.render(false).contains("fire"));
        assert!(failure.render(true).contains("disk on fire"));
    }
}
