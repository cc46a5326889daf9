//! What a node remembers between two starts: what it performed on each subject and with what
//! outcome, which pools and networks it has, and who is in the address plan.
//!
//! What changes with each task is in [ledgers](Ledger), the rest in small JSON files, replaced
//! atomically. A killed daemon loses nothing that it wrote. What was performed is forgotten when the
//! host starts anew: a loss of power may have undone it, so the tasks that are not
//! [settled](crate::settling) are performed once more. The rest is on the disk before those are.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stapes_core::{
    ids::{InstanceId, NetworkId, PoolId, Sequence},
    spec::{Incarnation, NetworkSpec, PoolSpec, Reservation},
    task::{Outcome, Subject},
};
use uuid::Uuid;

use crate::{files, ledger::Ledger};

/// Outcomes that are remembered before those that are not needed are forgotten.
const PERFORMED_MAX: usize = 4096;

/// The last task performed on a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Performed {
    pub incarnation: Incarnation,
    pub outcome: Outcome,
    /// Where the log has the task.
    pub sequence: Sequence,
    /// The host's, when it was performed.
    #[serde(default)]
    pub boot: Uuid,
}

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    dir: PathBuf,
    boot: Uuid,
    performed: Arc<Ledger<Performed>>,
    reservations: Arc<Ledger<Vec<Reservation>>>,
}

impl Memory {
    pub(crate) fn open(dir: &Path, boot: Uuid) -> io::Result<Self> {
        for part in ["pools", "networks"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let performed: Ledger<Performed> = Ledger::open(dir.join("performed.log"))?;
        performed.retain(|performed| performed.boot == boot)?;
        let reservations = Arc::new(Ledger::open(dir.join("reservations.log"))?);
        Ok(Self { dir: dir.to_owned(), boot, performed: Arc::new(performed), reservations })
    }

    /// What was remembered so far survives a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.reservations.sync()
    }

    pub(crate) fn performed(&self, subject: &Subject) -> Option<Performed> {
        self.performed.get(&key_of(subject))
    }

    pub(crate) fn set_performed(
        &self,
        subject: &Subject,
        incarnation: Incarnation,
        outcome: Outcome,
        sequence: Sequence,
    ) -> io::Result<()> {
        let performed = Performed { incarnation, outcome, sequence, boot: self.boot };
        self.performed.set(&key_of(subject), Some(&performed))
    }

    /// Whether so much is remembered that it is time to forget.
    pub(crate) fn is_full(&self) -> bool {
        self.performed.len() > PERFORMED_MAX
    }

    /// Tasks up to the cursor never come again: what came of them may be forgotten.
    pub(crate) fn forget_until(&self, cursor: Sequence) -> io::Result<()> {
        self.performed.retain(|performed| performed.sequence > cursor)
    }

    pub(crate) fn pools(&self) -> io::Result<Vec<PoolSpec>> {
        read_all(&self.dir.join("pools"))
    }

    pub(crate) fn set_pool(&self, pool: PoolId, spec: Option<&PoolSpec>) -> io::Result<()> {
        set(&self.dir.join("pools").join(format!("{pool}.json")), spec)
    }

    pub(crate) fn networks(&self) -> io::Result<Vec<NetworkSpec>> {
        read_all(&self.dir.join("networks"))
    }

    pub(crate) fn set_network(
        &self,
        network: NetworkId,
        spec: Option<&NetworkSpec>,
    ) -> io::Result<()> {
        set(&self.dir.join("networks").join(format!("{network}.json")), spec)
    }

    /// Of all instances, each with at least one.
    pub(crate) fn reservations(&self) -> Vec<Vec<Reservation>> {
        self.reservations.values()
    }

    pub(crate) fn set_reservations(
        &self,
        instance: InstanceId,
        reservations: &[Reservation],
    ) -> io::Result<()> {
        let reservations = reservations.to_vec();
        let reservations = (!reservations.is_empty()).then_some(&reservations);
        self.reservations.set(&instance.to_string(), reservations)
    }
}

fn key_of(subject: &Subject) -> String {
    match subject {
        Subject::Instance(id) => format!("instance-{id}"),
        Subject::Network(id) => format!("network-{id}"),
        Subject::Pool(id) => format!("pool-{id}"),
        Subject::Volume(id) => format!("volume-{id}"),
        Subject::Image(fingerprint) => format!("image-{fingerprint}"),
    }
}

fn set<T: Serialize>(path: &Path, value: Option<&T>) -> io::Result<()> {
    match value {
        Some(value) => files::replace(path, &serde_json::to_vec(value)?),
        None => files::remove(path),
    }
}

/// A file that cannot be read as what it should be is as good as none: the log knows better.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "unreadable, ignored"),
            )
            .ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_all<T: DeserializeOwned>(dir: &Path) -> io::Result<Vec<T>> {
    let mut values = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            values.extend(read(&path)?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered in `dir` on a host that was started so often.
    fn open(dir: &Path, boot: u128) -> Memory {
        Memory::open(dir, Uuid::from_u128(boot)).unwrap()
    }

    /// The subject of a task that was performed on the first.
    fn performed(dir: &Path) -> Subject {
        let subject = Subject::Instance(InstanceId::derive(&["a"]));
        let (at, outcome) = (Incarnation::default(), Outcome::Done);
        open(dir, 1).set_performed(&subject, at, outcome, Sequence(7)).unwrap();
        subject
    }

    #[test]
    fn what_was_performed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let subject = performed(dir.path());
        let again = open(dir.path(), 1);
        let known = again.performed(&subject).unwrap();
        assert_eq!((known.incarnation, known.sequence), (Incarnation::default(), Sequence(7)));
        assert_eq!(known.outcome, Outcome::Done);
        again.forget_until(Sequence(6)).unwrap();
        assert_eq!(again.performed(&subject), Some(known));
        again.forget_until(Sequence(7)).unwrap();
        assert_eq!(again.performed(&subject), None);
        assert_eq!(open(dir.path(), 1).performed(&subject), None);
    }

    #[test]
    fn what_was_performed_before_the_host_started_anew_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let subject = performed(dir.path());
        assert_eq!(open(dir.path(), 2).performed(&subject), None);
        assert_eq!(open(dir.path(), 1).performed(&subject), None);
    }
}
