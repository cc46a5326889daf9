//! An imagined host under the shipped judgement: what a node's executor does, without a host.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use stapes_core::{
    agent::{Verdict, answer, judge},
    ids::{InstanceId, SnapshotId, VolumeId},
    port::guest::{ExitCause, Exited, Running},
    spec::{Incarnation, RootSource},
    task::{Failure, FailureKind, Outcome, Report, Subject, Task, Work},
};

use crate::random::Random;

#[derive(Default)]
pub(crate) struct Host {
    /// Volumes with their snapshots.
    pub(crate) volumes: BTreeMap<VolumeId, BTreeSet<SnapshotId>>,
    pub(crate) guests: BTreeMap<InstanceId, Running>,
    performed: BTreeMap<Subject, (Incarnation, Outcome)>,
    last_pid: i32,
}

impl Host {
    /// What the node would answer; `None` when the task is overtaken.
    pub(crate) fn take(
        &mut self,
        task: &Task,
        at: DateTime<Utc>,
        random: &mut Random,
    ) -> Option<Report> {
        let last = self.performed.get(&task.subject);
        let outcome = match judge(task.incarnation, last.map(|(incarnation, _)| *incarnation)) {
            Verdict::Drop => return None,
            Verdict::Answer => {
                let guest = task.subject.instance().and_then(|id| self.guests.get(&id).copied());
                answer(task.incarnation, last?.1.clone(), guest)
            }
            Verdict::Perform => {
                // The host may be out of order: a task fails whole or is done whole.
                let outcome = if random.one_in(12) {
                    failed("the host is out of order")
                } else {
                    self.perform(task, at)
                };
                self.performed.insert(task.subject.clone(), (task.incarnation, outcome.clone()));
                outcome
            }
        };
        Some(task.report(outcome))
    }

    fn perform(&mut self, task: &Task, at: DateTime<Utc>) -> Outcome {
        let Subject::Instance(instance) = task.subject else { return Outcome::Done };
        let volume = VolumeId::from(instance);
        match &task.work {
            Work::CreateRoot { source, .. } | Work::ReplaceRoot { source, .. } => {
                if !self.has(source) {
                    return failed("the source is gone");
                }
                self.volumes.entry(volume).or_default();
            }
            Work::Start { spec, .. } => {
                if !self.volumes.contains_key(&volume) {
                    return failed("there is no root");
                }
                self.last_pid += 1;
                let pid = self.last_pid;
                let (incarnation, started_at) = (spec.incarnation, at);
                let (frozen, held) = (false, None);
                let running = Running { instance, incarnation, pid, started_at, frozen, held };
                return Outcome::Started(*self.guests.entry(instance).or_insert(running));
            }
            Work::Stop { .. } => {
                let cause =
                    self.guests.remove(&instance).map_or(ExitCause::Lost, |_| ExitCause::Forced);
                return Outcome::Stopped { cause, at };
            }
            Work::Freeze | Work::Unfreeze => match self.guests.get_mut(&instance) {
                Some(guest) => guest.frozen = matches!(task.work, Work::Freeze),
                None => return failed("there is no guest"),
            },
            Work::CreateSnapshot { snapshot, .. } => match self.volumes.get_mut(&volume) {
                Some(snapshots) => drop(snapshots.insert(*snapshot)),
                None => return failed("there is no root"),
            },
            Work::DeleteSnapshot { snapshot, .. } => {
                self.volumes.get_mut(&volume).map(|snapshots| snapshots.remove(snapshot));
            }
            Work::RestoreSnapshot { snapshot, .. } => {
                if !self.volumes.get(&volume).is_some_and(|snapshots| snapshots.contains(snapshot))
                {
                    return failed("there is no such snapshot");
                }
            }
            Work::DeleteInstance { .. } => {
                self.guests.remove(&instance);
                self.volumes.remove(&volume);
            }
            Work::SetLimits { .. }
            | Work::Reserve { .. }
            | Work::EnsurePool { .. }
            | Work::RemovePool
            | Work::EnsureNetwork { .. }
            | Work::RemoveNetwork
            | Work::CreateVolume { .. }
            | Work::DeleteVolume { .. }
            | Work::RemoveImage { .. }
            | Work::Assess
            | Work::Receive(_)
            | Work::Checkpoint
            | Work::Restore { .. }
            | Work::Activate
            | Work::Resume
            | Work::DropRounds { .. } => {}
        }
        Outcome::Done
    }

    fn has(&self, source: &RootSource) -> bool {
        match source {
            RootSource::Image(_) | RootSource::Empty => true,
            RootSource::Volume { volume, snapshot: None, .. } => self.volumes.contains_key(volume),
            RootSource::Volume { volume, snapshot: Some(snapshot), .. } => {
                self.volumes.get(volume).is_some_and(|snapshots| snapshots.contains(snapshot))
            }
        }
    }

    /// A guest ends by itself.
    pub(crate) fn end_one(&mut self, at: DateTime<Utc>, random: &mut Random) -> Option<Exited> {
        let nth = random.below(self.guests.len().max(1));
        let (&instance, running) = self.guests.iter().nth(nth)?;
        let causes = [
            ExitCause::GuestShutdown,
            ExitCause::GuestReboot,
            ExitCause::OutOfMemory,
            ExitCause::Signal(9),
        ];
        let cause = causes[random.below(causes.len())];
        let exited = Exited { instance, incarnation: running.incarnation, cause, at };
        self.guests.remove(&instance);
        Some(exited)
    }

    /// The host loses its guests, and may lose what it remembers of them.
    pub(crate) fn reboot(&mut self, at: DateTime<Utc>) -> Vec<Exited> {
        let ended = std::mem::take(&mut self.guests).into_values();
        let cause = ExitCause::HostReboot;
        ended
            .map(|guest| Exited {
                instance: guest.instance,
                incarnation: guest.incarnation,
                cause,
                at,
            })
            .collect()
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Failed, message: why.to_owned() })
}
