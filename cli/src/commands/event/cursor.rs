//! How far an earlier `tail` came, in a file: `19120`, or `19120+2` when only the first two events
//! of that record were delivered.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::failure::{Failure, Result};

/// While old events are read, the file is written every so many of them; live, after each.
const BETWEEN_SAVES: u64 = 128;

/// A place between two events: after the first `events` of this sequence's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    sequence: u64,
    /// `u32::MAX` is all of them, however many there are.
    events: u32,
}

impl Position {
    /// Before everything.
    pub(super) const START: Self = Self::after(0);

    /// After the whole record.
    pub(super) const fn after(sequence: u64) -> Self {
        Self { sequence, events: u32::MAX }
    }

    /// After the event that comes next, which has this sequence.
    pub(super) const fn next(self, sequence: u64) -> Self {
        if sequence == self.sequence {
            Self { sequence, events: self.events.saturating_add(1) }
        } else {
            Self { sequence, events: 1 }
        }
    }

    /// What to ask the log for: a record that was not finished comes again, whole.
    pub(super) const fn since(self) -> u64 {
        if self.events == u32::MAX { self.sequence } else { self.sequence.saturating_sub(1) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.events {
            u32::MAX => self.sequence.fmt(f),
            events => write!(f, "{}+{events}", self.sequence),
        }
    }
}

impl FromStr for Position {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.split_once('+') {
            Some((sequence, events)) => {
                Ok(Self { sequence: sequence.parse()?, events: events.parse()? })
            }
            None => text.parse().map(Self::after),
        }
    }
}

#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    position: Option<Position>,
    unsaved: u64,
}

impl Cursor {
    pub(super) fn load(path: PathBuf) -> Result<Self> {
        let position = match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|_| {
                Failure::usage(format!("{} holds no sequence", path.display()))
                    .hint(format!("rm {}    (begins anew)", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Failure::local(format!("cannot read {}", path.display()), &error));
            }
        };
        Ok(Self { path, position, unsaved: 0 })
    }

    pub(super) const fn position(&self) -> Option<Position> {
        self.position
    }

    /// The events up to here were delivered.
    pub(super) fn advance(&mut self, position: Position, live: bool) -> Result<()> {
        self.position = Some(position);
        self.unsaved += 1;
        if live || self.unsaved >= BETWEEN_SAVES { self.save() } else { Ok(()) }
    }

    /// Everything up to this sequence was delivered, or was not wanted.
    pub(super) fn caught_up(&mut self, sequence: u64) -> Result<()> {
        self.position = self.position.max(Some(Position::after(sequence)));
        self.unsaved += 1;
        self.save()
    }

    /// Whole or not at all: a run that is killed leaves the old file or the new one.
    pub(super) fn save(&mut self) -> Result<()> {
        let Some(position) = self.position.filter(|_| self.unsaved > 0) else { return Ok(()) };
        let cannot = |error: &io::Error| {
            Failure::local(format!("cannot write {}", self.path.display()), error)
        };
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(parent).map_err(|error| cannot(&error))?;
        io::Write::write_all(&mut file, format!("{position}\n").as_bytes())
            .map_err(|error| cannot(&error))?;
        file.persist(&self.path).map_err(|error| cannot(&error.error))?;
        self.unsaved = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        let stored = || Cursor::load(path.clone()).unwrap().position().map(|at| at.to_string());
        let mut cursor = Cursor::load(path.clone()).unwrap();
        assert_eq!(cursor.position(), None);
        cursor.advance(Position::START.next(7), true).unwrap();
        assert_eq!(stored().as_deref(), Some("7+1"));
        cursor.advance(Position::START.next(8), false).unwrap();
        assert_eq!(stored().as_deref(), Some("7+1"), "saved now and then");
        cursor.caught_up(9).unwrap();
        assert_eq!(stored().as_deref(), Some("9"));
        fs::write(&path, "nonsense").unwrap();
        assert!(Cursor::load(path).is_err());
    }

    #[test]
    fn events_of_one_record_are_told_apart() {
        let first = Position::START.next(7);
        let second = first.next(7);
        assert!(
            first < second && second < Position::after(7) && Position::after(7) < second.next(8)
        );
        assert_eq!((second.since(), Position::after(7).since()), (6, 7));
        assert_eq!("7+2".parse(), Ok(second));
    }
}
