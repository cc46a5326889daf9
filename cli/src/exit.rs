//! How the program ends: one number a reason, so that scripts need not read text.

use std::process::ExitCode;

/// The outcome of a run. `stapes help exit-codes` prints [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    Done,
    Failed,
    Usage,
    NotFound,
    Denied,
    Conflict,
    TimedOut,
    Unreachable,
    Partial,
    Interrupted,
    /// Of a program that ran inside a guest; of `diff`.
    Own(u8),
}

pub(crate) const TABLE: &str = "\
0    done
1    the operation failed or was rejected
2    wrong usage, or a confirmation is needed and there is no terminal
3    not found
4    not authenticated or not allowed
5    conflict: it exists already, or it changed meanwhile
6    the wait ran out of time; the operation goes on and its id was printed
7    the daemon cannot be reached, or it cannot serve now
8    some of several targets failed; each is listed
130  interrupted before anything was submitted

diff: 0 same, 1 differs, 2 could not tell.
exec: the command's own code; 125 stapes failed, 126 cannot be run, 127 not found.
";

impl ExitStatus {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Denied => 4,
            Self::Conflict => 5,
            Self::TimedOut => 6,
            Self::Unreachable => 7,
            Self::Partial => 8,
            Self::Interrupted => 130,
            Self::Own(code) => code,
        }
    }

    /// What an HTTP status of the daemon means for a script.
    pub(crate) const fn from_http(status: u16) -> Self {
        match status {
            401 | 403 => Self::Denied,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 | 502 | 503 | 504 => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_table_is_the_one_that_is_used() {
        let all = [
            ExitStatus::Done,
            ExitStatus::Failed,
            ExitStatus::Usage,
            ExitStatus::NotFound,
            ExitStatus::Denied,
            ExitStatus::Conflict,
            ExitStatus::TimedOut,
            ExitStatus::Unreachable,
            ExitStatus::Partial,
            ExitStatus::Interrupted,
        ];
        let documented: Vec<u8> = TABLE
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(documented, all.map(ExitStatus::code));
    }
}
