//! What this process knows of the log: where every stream ends, where every commit lies, and the
//! newest records. The tail feeds it, everybody reads it.
//!
//! It always describes a prefix of the log that ends with a whole commit. An acknowledged commit is
//! taken in at once if it is the next one, and waits for those before it otherwise; when it is
//! delivered too, the two are compared.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId},
    port::log::{AppendError, Appended, ReadError},
};
use tokio::sync::watch;

use super::{recent::Recent, record::Arrived};

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub revision: Revision,
    pub sequence: Sequence,
}

/// Where a commit lies: its first sequence, and in the lowest ten bits its records less one.
#[derive(Clone, Copy, Debug)]
struct Place(u64);

impl Place {
    fn new(first: Sequence, count: usize) -> Self {
        Self(first.0 << 10 | (count as u64 - 1) & 0x3ff)
    }

    fn first(self) -> Sequence {
        Sequence(self.0 >> 10)
    }

    fn last(self) -> Sequence {
        Sequence(self.first().0 + (self.0 & 0x3ff))
    }
}

/// Why the log cannot be trusted any more.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Gap { missing: Sequence },
    Regressed { asked: Sequence, head: Sequence },
    Corrupt(String),
}

impl Fault {
    pub(crate) fn read(&self) -> ReadError {
        match self {
            Self::Gap { missing } => ReadError::Gap { missing: *missing },
            Self::Regressed { asked, head } => ReadError::Regressed { asked: *asked, head: *head },
            Self::Corrupt(what) => ReadError::Corrupt(what.clone()),
        }
    }

    pub(crate) fn append(&self) -> AppendError {
        AppendError::Corrupt(self.read().to_string())
    }
}

/// What to do about a record that the tail brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    InOrder,
    /// Records before it were not brought: ask for them again.
    Skipped,
}

#[derive(Debug)]
pub(crate) struct State {
    pub head: Sequence,
    ends: HashMap<StreamId, End>,
    commits: HashMap<CommitId, Place>,
    /// The revisions that no record claims, by sequence, in order.
    counted: Vec<(Sequence, Revision)>,
    pub recent: Recent,
    /// The commit of which not all is there yet.
    partial: Vec<Arrived>,
    /// Acknowledged commits behind the next one.
    ahead: BTreeMap<Sequence, Vec<Arrived>>,
    /// When all that the leader has was known to be here.
    caught_up: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    head: watch::Sender<Sequence>,
    fault: OnceLock<Fault>,
}

impl Shared {
    pub(crate) fn new(recent_bytes: usize) -> Self {
        let state = State {
            head: Sequence(0),
            ends: HashMap::new(),
            commits: HashMap::new(),
            counted: Vec::new(),
            recent: Recent::new(recent_bytes),
            partial: Vec::new(),
            ahead: BTreeMap::new(),
            caught_up: None,
        };
        Self {
            state: RwLock::new(state),
            head: watch::Sender::new(Sequence(0)),
            fault: OnceLock::new(),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head(&self) -> Sequence {
        *self.head.borrow()
    }

    pub(crate) fn heads(&self) -> watch::Receiver<Sequence> {
        self.head.subscribe()
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// From now on nothing is written and nobody is told anything but this.
    pub(crate) fn fail(&self, fault: Fault) {
        tracing::error!(error = %fault.read(), "the log cannot be trusted: no more is written");
        let _ = self.fault.set(fault);
        self.head.send_modify(|_| {});
    }

    /// Takes in what the tail brought.
    pub(crate) fn deliver(&self, arrived: Vec<Arrived>) -> Result<Taken, Fault> {
        let mut state = self.write();
        let taken = arrived.into_iter().try_fold(Taken::InOrder, |taken, arrived| match taken {
            Taken::InOrder => state.deliver(arrived),
            Taken::Skipped => Ok(Taken::Skipped),
        });
        self.publish(&state);
        taken
    }

    /// Takes in a commit of this process that the leader acknowledged.
    pub(crate) fn acknowledge(&self, commit: Vec<Arrived>) -> Result<(), Fault> {
        let Some(first) = commit.first().map(|arrived| arrived.sequence) else { return Ok(()) };
        let mut state = self.write();
        if first == state.head.next() {
            state.partial.clear();
            state.publish(commit)?;
            state.publish_ahead()?;
        } else if first > state.head {
            state.ahead.insert(first, commit);
        } else {
            state.compare(&commit[0])?;
        }
        self.publish(&state);
        Ok(())
    }

    fn publish(&self, state: &State) {
        self.head.send_if_modified(|head| std::mem::replace(head, state.head) != state.head);
    }

    /// Notes that all that the leader has is here.
    pub(crate) fn note_caught_up(&self) {
        self.write().caught_up = Some(Instant::now());
    }
}

impl State {
    pub(crate) fn end(&self, stream: StreamId) -> End {
        self.ends.get(&stream).copied().unwrap_or_default()
    }

    pub(crate) fn find(&self, commit: CommitId) -> Option<Appended> {
        let place = self.commits.get(&commit)?;
        Some(Appended { first: place.first(), last: place.last(), duplicate: true })
    }

    /// The revision of a record that was read again.
    pub(crate) fn revision(&self, arrived: &Arrived) -> Option<Revision> {
        arrived.claimed.or_else(|| {
            let found = self.counted.binary_search_by_key(&arrived.sequence, |counted| counted.0);
            found.ok().map(|index| self.counted[index].1)
        })
    }

    /// Whether all that the leader had `within` this time is here.
    pub(crate) fn is_fresh(&self, within: Duration) -> bool {
        self.caught_up.is_some_and(|at| at.elapsed() < within)
    }

    fn deliver(&mut self, arrived: Arrived) -> Result<Taken, Fault> {
        if arrived.sequence <= self.head {
            self.compare(&arrived)?;
            return Ok(Taken::InOrder);
        }
        let expected = Sequence(self.head.0 + self.partial.len() as u64 + 1);
        if arrived.sequence != expected {
            self.partial.clear();
            return Ok(Taken::Skipped);
        }
        let same = self
            .partial
            .first()
            .is_none_or(|first| (first.commit, first.count) == (arrived.commit, arrived.count));
        if arrived.index != self.partial.len() || !same {
            let sequence = arrived.sequence;
            return Err(Fault::Corrupt(format!(
                "the commit before record {sequence} is not whole"
            )));
        }
        let last = arrived.is_last();
        self.partial.push(arrived);
        if last {
            let commit = std::mem::take(&mut self.partial);
            self.publish(commit)?;
            self.publish_ahead()?;
        }
        Ok(Taken::InOrder)
    }

    /// A record that is known must be the same again.
    fn compare(&self, arrived: &Arrived) -> Result<(), Fault> {
        match self.recent.get(arrived.sequence) {
            Some(known) if known.commit != arrived.commit || known.stream != arrived.stream => {
                let head = Sequence(arrived.sequence.0 - 1);
                Err(Fault::Regressed { asked: self.head, head })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn publish_ahead(&mut self) -> Result<(), Fault> {
        while let Some(entry) = self.ahead.first_entry() {
            if *entry.key() > self.head.next() {
                break;
            }
            let commit = entry.remove();
            if commit[0].sequence == self.head.next() {
                self.partial.clear();
                self.publish(commit)?;
            } else {
                self.compare(&commit[0])?;
            }
        }
        Ok(())
    }

    /// Takes in the next commit.
    fn publish(&mut self, commit: Vec<Arrived>) -> Result<(), Fault> {
        let (id, first, count) = (commit[0].commit, commit[0].sequence, commit.len());
        for arrived in commit {
            let end = self.ends.entry(arrived.stream).or_default();
            let revision = end.revision.next();
            match arrived.claimed {
                Some(claimed) if claimed != revision => {
                    let Arrived { sequence, stream, .. } = arrived;
                    return Err(Fault::Corrupt(format!(
                        "record {sequence} claims to be revision {claimed} of {stream} and is {revision}"
                    )));
                }
                Some(_) => {}
                None => self.counted.push((arrived.sequence, revision)),
            }
            let previous = std::mem::replace(end, End { revision, sequence: arrived.sequence });
            self.head = arrived.sequence;
            self.recent.push(arrived.stored(revision), previous.sequence);
        }
        self.commits.insert(id, Place::new(first, count));
        Ok(())
    }
}
