//! An imagined host of a cluster under the shipped judgement: what its executor does, without a host.
//! What is in a volume is a number, so that it can be told whether the right thing came over.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use stapes_core::{
    agent::{Verdict, answer, judge},
    ids::{InstanceId, OperationId, SnapshotId, VolumeId},
    port::guest::{ExitCause, Exited, Held, Mobility, Preflight, Running},
    spec::{Incarnation, RootSource},
    task::{Failure, FailureKind, Outcome, Report, Subject, Task, Transfer, Work},
};

use crate::random::Random;

pub(crate) type Content = u64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) root: Option<Content>,
    pub(crate) snapshots: BTreeMap<SnapshotId, Content>,
}

impl Volume {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none() && self.snapshots.is_empty()
    }
}

#[derive(Default)]
pub(crate) struct Host {
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    pub(crate) guests: BTreeMap<InstanceId, Running>,
    /// Written down for an operation.
    pub(crate) checkpoints: BTreeSet<OperationId>,
    performed: BTreeMap<Subject, (Incarnation, Outcome)>,
    last_pid: i32,
}

/// None: nothing goes wrong any more.
pub(crate) type Luck<'a> = Option<&'a mut Random>;

fn strikes(luck: &mut Luck<'_>, one_in: usize) -> bool {
    luck.as_mut().is_some_and(|random| random.one_in(one_in))
}

/// What another host gave, or why not.
pub(crate) type Fetched = Result<Vec<(SnapshotId, Content)>, &'static str>;

/// What a task asks another host for.
pub(crate) fn wanted(task: &Task) -> Option<&Transfer> {
    match &task.work {
        Work::Receive(transfer) | Work::Restore { transfer, .. } => Some(transfer),
        Work::CreateRoot { .. }
        | Work::ReplaceRoot { .. }
        | Work::Start { .. }
        | Work::Stop { .. }
        | Work::Freeze
        | Work::Unfreeze
        | Work::SetLimits { .. }
        | Work::Reserve { .. }
        | Work::CreateSnapshot { .. }
        | Work::DeleteSnapshot { .. }
        | Work::RestoreSnapshot { .. }
        | Work::DeleteInstance { .. }
        | Work::EnsurePool { .. }
        | Work::RemovePool
        | Work::EnsureNetwork { .. }
        | Work::RemoveNetwork
        | Work::CreateVolume { .. }
        | Work::DeleteVolume { .. }
        | Work::RemoveImage { .. }
        | Work::Assess
        | Work::Checkpoint
        | Work::Activate
        | Work::Resume
        | Work::DropRounds { .. } => None,
    }
}

impl Host {
    pub(crate) fn verdict(&self, task: &Task) -> Verdict {
        judge(task.incarnation, self.performed.get(&task.subject).map(|(last, _)| *last))
    }

    /// What is sent of a volume to whoever asks for it.
    pub(crate) fn send(&mut self, task: &Task, transfer: &Transfer) -> Fetched {
        if matches!(task.work, Work::Restore { .. }) && !self.checkpoints.contains(&task.operation)
        {
            return Err("there is no such checkpoint");
        }
        let volume = self.volumes.get_mut(&transfer.volume).ok_or("there is no such volume")?;
        if let Some(last) = transfer.snapshots.last().filter(|_| transfer.make_last)
            && !volume.snapshots.contains_key(last)
        {
            volume.snapshots.insert(*last, volume.root.ok_or("there is no root")?);
        }
        let sent = |id: &SnapshotId| volume.snapshots.get(id).map(|content| (*id, *content));
        // Those that are there already are not asked for, and may be gone here.
        Ok(transfer.snapshots.iter().filter_map(sent).collect())
    }

    /// Does it, or finds that it is done. A crash in the middle forgets that it was.
    pub(crate) fn take(
        &mut self,
        task: &Task,
        fetched: Option<Fetched>,
        at: DateTime<Utc>,
        mut luck: Luck<'_>,
    ) -> Option<Report> {
        let outcome = match self.verdict(task) {
            Verdict::Drop => return None,
            Verdict::Answer => {
                let guest = task.subject.instance().and_then(|id| self.guests.get(&id).copied());
                answer(task.incarnation, self.performed.get(&task.subject)?.1.clone(), guest)
            }
            Verdict::Perform => {
                // The host may be out of order: a task fails whole or is done whole.
                // A removal that fails leaves what it was to remove, which nobody asks for again.
                let safe = removes(task) || self.is_started(task);
                let outcome = if !safe && strikes(&mut luck, 14) {
                    failed("the host is out of order")
                } else {
                    self.perform(task, fetched, at, &mut luck)
                };
                if strikes(&mut luck, 10) {
                    return None;
                }
                self.performed.insert(task.subject.clone(), (task.incarnation, outcome.clone()));
                outcome
            }
        };
        Some(task.report(outcome))
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are about the volume alone")]
    fn perform(
        &mut self,
        task: &Task,
        fetched: Option<Fetched>,
        at: DateTime<Utc>,
        luck: &mut Luck<'_>,
    ) -> Outcome {
        let Subject::Instance(instance) = task.subject else { return Outcome::Done };
        let done = match &task.work {
            Work::Receive(transfer) => self.receive(instance, transfer, fetched).map(|()| {
                let bytes = if strikes(luck, 2) { 1 << 30 } else { 1 << 10 };
                Outcome::Received { bytes }
            }),
            Work::Restore { transfer, spec, .. } => {
                self.receive(instance, transfer, fetched).map(|()| {
                    self.checkpoints.insert(task.operation);
                    let running = self.start(instance, spec.incarnation, at);
                    self.hold(instance, Some(Held::Restored));
                    Outcome::Restored {
                        running: Running { held: Some(Held::Restored), ..running },
                        bytes: 1,
                    }
                })
            }
            Work::Start { spec, .. } => self.started(instance, spec.incarnation, at),
            Work::Stop { .. } => {
                let cause =
                    self.guests.remove(&instance).map_or(ExitCause::Lost, |_| ExitCause::Forced);
                Ok(Outcome::Stopped { cause, at })
            }
            Work::Assess => self.guest(instance).map(|_| {
                let verdict = if strikes(luck, 6) {
                    Mobility::StopCopy
                } else if strikes(luck, 4) {
                    Mobility::NearLive
                } else {
                    Mobility::Live
                };
                Outcome::Assessed(Preflight { verdict, reasons: vec!["so it is".to_owned()] })
            }),
            Work::Checkpoint => self.guest(instance).map(|_| {
                self.hold(instance, Some(Held::Checkpointed));
                self.checkpoints.insert(task.operation);
                Outcome::Checkpointed { at, bytes: 1 }
            }),
            Work::Freeze | Work::Unfreeze => self.guest(instance).map(|_| {
                let frozen = matches!(task.work, Work::Freeze);
                self.guests.entry(instance).and_modify(|guest| guest.frozen = frozen);
                Outcome::Done
            }),
            Work::Activate | Work::Resume => self.guest(instance).map(|_| {
                self.hold(instance, None);
                self.checkpoints.remove(&task.operation);
                Outcome::Done
            }),
            Work::DeleteInstance { .. } => {
                self.guests.remove(&instance);
                self.volumes.remove(&instance.into());
                self.checkpoints.remove(&task.operation);
                Ok(Outcome::Done)
            }
            work => self.on_volume(task, instance.into(), work).map(|()| Outcome::Done),
        };
        done.unwrap_or_else(failed)
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the rest is of no consequence here")]
    fn on_volume(
        &mut self,
        task: &Task,
        volume: VolumeId,
        work: &Work,
    ) -> Result<(), &'static str> {
        match work {
            Work::CreateRoot { source, .. } => {
                let content = self.content(source)?;
                self.volumes.entry(volume).or_default().root.get_or_insert(content);
            }
            Work::ReplaceRoot { source, .. } => {
                let content = self.content(source)?;
                self.guests.remove(&InstanceId(volume.0));
                self.volumes.entry(volume).or_default().root = Some(content);
            }
            Work::CreateSnapshot { snapshot, .. } => {
                let volume = self.volumes.get_mut(&volume).ok_or("there is no root")?;
                let content = volume.root.ok_or("there is no root")?;
                volume.snapshots.entry(*snapshot).or_insert(content);
            }
            Work::DeleteSnapshot { snapshot, .. } => {
                self.volumes.entry(volume).or_default().snapshots.remove(snapshot);
            }
            Work::RestoreSnapshot { snapshot, .. } => {
                let volume = self.volumes.get_mut(&volume).ok_or("there is no root")?;
                let content = volume.snapshots.get(snapshot).ok_or("there is no such snapshot")?;
                volume.root = Some(*content);
            }
            Work::DropRounds { volume, rounds, .. } => {
                if let Some(volume) = self.volumes.get_mut(volume) {
                    volume.snapshots.retain(|snapshot, _| !rounds.contains(snapshot));
                }
                self.checkpoints.remove(&task.operation);
            }
            _ => {}
        }
        Ok(())
    }

    fn receive(
        &mut self,
        instance: InstanceId,
        transfer: &Transfer,
        fetched: Option<Fetched>,
    ) -> Result<(), &'static str> {
        let sent: BTreeMap<_, _> = fetched.ok_or("nobody was asked")??.into_iter().collect();
        let volume = self.volumes.entry(instance.into()).or_default();
        for id in &transfer.snapshots {
            if !volume.snapshots.contains_key(id) {
                let content = sent.get(id).ok_or("a snapshot is not there")?;
                volume.snapshots.insert(*id, *content);
            }
        }
        volume.snapshots.retain(|id, _| transfer.snapshots.contains(id));
        if transfer.root.is_some() {
            let last = transfer.snapshots.last().ok_or("nothing came over")?;
            volume.root = volume.snapshots.get(last).copied();
        }
        Ok(())
    }

    fn content(&self, source: &RootSource) -> Result<Content, &'static str> {
        match source {
            RootSource::Image(_) | RootSource::Empty => Ok(0),
            RootSource::Volume { volume, snapshot, .. } => {
                let volume = self.volumes.get(volume).ok_or("the source is gone")?;
                let content = match snapshot {
                    Some(snapshot) => volume.snapshots.get(snapshot).copied(),
                    None => volume.root,
                };
                content.ok_or("the source is gone")
            }
        }
    }

    /// Whether it was started by an attempt that was forgotten: that is looked at first.
    fn is_started(&self, task: &Task) -> bool {
        let Subject::Instance(instance) = task.subject else { return false };
        let guest = self.guests.get(&instance);
        guest.is_some_and(|guest| guest.incarnation == task.incarnation)
    }

    fn guest(&self, instance: InstanceId) -> Result<Running, &'static str> {
        self.guests.get(&instance).copied().ok_or("there is no guest")
    }

    fn hold(&mut self, instance: InstanceId, held: Option<Held>) {
        self.guests.entry(instance).and_modify(|guest| guest.held = held);
    }

    fn started(
        &mut self,
        instance: InstanceId,
        incarnation: Incarnation,
        at: DateTime<Utc>,
    ) -> Result<Outcome, &'static str> {
        if self.guest(instance).is_ok_and(|guest| guest.incarnation != incarnation) {
            return Err("it runs already as another");
        }
        self.volumes.get(&instance.into()).and_then(|it| it.root).ok_or("there is no root")?;
        Ok(Outcome::Started(self.start(instance, incarnation, at)))
    }

    fn start(
        &mut self,
        instance: InstanceId,
        incarnation: Incarnation,
        at: DateTime<Utc>,
    ) -> Running {
        self.last_pid += 1;
        let (pid, started_at, frozen, held) = (self.last_pid, at, false, None);
        let running = Running { instance, incarnation, pid, started_at, frozen, held };
        *self.guests.entry(instance).or_insert(running)
    }

    /// Guests that are not held write what was never written before.
    pub(crate) fn write(&mut self, next: &mut Content) {
        for guest in self.guests.values().filter(|guest| guest.held.is_none()) {
            if let Some(Volume { root: Some(root), .. }) =
                self.volumes.get_mut(&guest.instance.into())
            {
                *next += 1;
                *root = *next;
            }
        }
    }

    /// These guests end.
    pub(crate) fn end(
        &mut self,
        cause: ExitCause,
        at: DateTime<Utc>,
        which: impl Fn(&Running) -> bool,
    ) -> Vec<Exited> {
        let ended: Vec<_> = self.guests.values().filter(|guest| which(guest)).copied().collect();
        let exited = |guest: Running| {
            self.guests.remove(&guest.instance);
            Exited { instance: guest.instance, incarnation: guest.incarnation, cause, at }
        };
        ended.into_iter().map(exited).collect()
    }
}

const fn removes(task: &Task) -> bool {
    matches!(task.work, Work::DeleteInstance { .. } | Work::DropRounds { .. })
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed(Failure { kind: FailureKind::Failed, message: why.to_owned() })
}
