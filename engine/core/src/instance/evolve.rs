//! What an event makes of an instance. Total: a fact cannot be refused.

use chrono::{DateTime, Utc};

use super::{Created, Event, Instance, Job, Reconfigured, Snapshot, Status, Step};
use crate::{config, ids::InstanceId, spec::RootSource, template::Trigger};

impl Instance {
    /// The instance that an [`Event::Created`] makes.
    #[must_use]
    pub fn born(id: InstanceId, created: &Created, at: DateTime<Utc>) -> Self {
        let Created {
            name,
            project,
            node,
            kind,
            architecture,
            ephemeral,
            description,
            config,
            devices,
            profiles,
            image,
            pool,
            idmap,
            leases,
            snapshots,
            template,
            placement: _,
        } = created.clone();
        Self {
            tail: crate::world::Tail::default(),
            claim: None,
            id,
            name,
            project,
            node,
            kind,
            architecture,
            ephemeral,
            description,
            created_at: at,
            last_started_at: None,
            config,
            devices,
            profiles,
            image,
            pool,
            idmap,
            leases,
            snapshots,
            incarnation: crate::spec::Incarnation::default(),
            guest: crate::spec::Incarnation::default(),
            status: Status::Creating,
            job: None,
            last_exit: None,
            template,
            replica: None,
            home: None,
        }
    }

    /// [`Event::Created`] and [`Event::Deleted`] are the world's to apply: here they change nothing.
    pub fn evolve(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::Created(_) | Event::Deleted => {}
            Event::Requested { verb, operation, generation, steps, journey } => {
                let overtaken = self.job.take().map_or_else(Vec::new, |job| {
                    let mut overtaken = job.overtaken;
                    overtaken.push(job.operation);
                    overtaken
                });
                self.incarnation.generation = *generation;
                self.job = Some(Job {
                    verb: *verb,
                    operation: *operation,
                    overtaken,
                    steps: steps.clone(),
                    journey: journey.as_deref().cloned(),
                });
            }
            Event::Continued { generation } => self.incarnation.generation = *generation,
            Event::Failed { .. } => self.job = None,
            Event::RootCreated => {
                self.status = Status::Stopped;
                if self.unmade().is_some() {
                    self.replica = None;
                }
                self.step_done(|step| matches!(step, Step::CreateRoot { .. }));
            }
            Event::RootReplaced { image } => {
                self.image.clone_from(image);
                if self.is_being_rebuilt() {
                    self.template = Some(Trigger::Create);
                }
                self.step_done(|step| matches!(step, Step::ReplaceRoot { .. }));
            }
            Event::Started { pid, at, guest } => {
                self.guest = *guest;
                self.status = Status::Running { pid: *pid, since: *at };
                self.last_started_at = Some(*at);
                self.template = None;
                self.back_at(*at);
                self.step_done(|step| matches!(step, Step::Start));
            }
            Event::Stopped { cause, at } => {
                self.status = Status::Stopped;
                self.last_exit = Some((*cause, *at));
                self.stood_still(*cause, *at);
                self.step_done(|step| matches!(step, Step::Stop { .. }));
            }
            Event::Frozen => self.freeze(true),
            Event::Unfrozen => self.freeze(false),
            Event::LimitsApplied => self.step_done(|step| matches!(step, Step::ApplyLimits)),
            Event::ReservationsApplied => {
                self.step_done(|step| matches!(step, Step::ApplyReservations))
            }
            Event::Reconfigured(change) => self.reconfigured(change),
            Event::Renamed { to, .. } => {
                self.name.clone_from(to);
                // What creation owes has the new name too.
                self.template.get_or_insert(Trigger::Rename);
            }
            Event::SnapshotTaken { name, snapshot, expires_at } => {
                let taken = Snapshot {
                    id: *snapshot,
                    created_at: at,
                    expires_at: *expires_at,
                    config: self.config.clone(),
                    devices: self.devices.clone(),
                    profiles: self.profiles.clone(),
                    ephemeral: self.ephemeral,
                    image: self.image.clone(),
                    last_started_at: self.last_started_at,
                };
                // A copy's snapshots are there from the beginning, as they were at the source.
                self.snapshots.entry(name.clone()).or_insert(taken);
                self.step_done(|step| matches!(step, Step::TakeSnapshot { .. }));
            }
            Event::SnapshotDeleted { name } => {
                self.snapshots.remove(name);
                self.step_done(|step| matches!(step, Step::DeleteSnapshot { .. }));
            }
            Event::SnapshotRenamed { from, to } => {
                if let Some(snapshot) = self.snapshots.remove(from) {
                    self.snapshots.insert(to.clone(), snapshot);
                }
            }
            Event::SnapshotExpirySet { name, expires_at } => {
                if let Some(snapshot) = self.snapshots.get_mut(name) {
                    snapshot.expires_at = *expires_at;
                }
            }
            Event::SnapshotRestored { name } => {
                if let Some(snapshot) = self.snapshots.get(name) {
                    self.config.clone_from(&snapshot.config);
                    self.devices.clone_from(&snapshot.devices);
                    self.profiles.clone_from(&snapshot.profiles);
                    self.ephemeral = snapshot.ephemeral;
                    self.image.clone_from(&snapshot.image);
                }
                self.step_done(|step| matches!(step, Step::RestoreSnapshot { .. }));
            }
            Event::MoveAssessed { .. }
            | Event::MoveDegraded { .. }
            | Event::RoundReceived { .. }
            | Event::Checkpointed { .. }
            | Event::Moved { .. }
            | Event::MoveAborted { .. }
            | Event::Activated { .. }
            | Event::Resumed
            | Event::RoundsDropped
            | Event::Fetched { .. }
            | Event::Replicated { .. } => self.travel(event, at),
        }
    }

    fn freeze(&mut self, frozen: bool) {
        if let Status::Running { pid, since } | Status::Frozen { pid, since } = self.status {
            self.status =
                if frozen { Status::Frozen { pid, since } } else { Status::Running { pid, since } };
        }
        self.step_done(|step| {
            matches!((step, frozen), (Step::Freeze, true) | (Step::Unfreeze, false))
        });
    }

    fn reconfigured(&mut self, change: &Reconfigured) {
        config::apply(&mut self.config, &change.config);
        config::apply_devices(&mut self.devices, &change.devices);
        for (name, lease) in &change.leases {
            match lease {
                Some(lease) => self.leases.insert(name.clone(), lease.clone()),
                None => self.leases.remove(name),
            };
        }
        if let Some(profiles) = &change.profiles {
            self.profiles.clone_from(profiles);
        }
        if let Some(description) = &change.description {
            self.description.clone_from(description);
        }
        if let Some(ephemeral) = change.ephemeral {
            self.ephemeral = ephemeral;
        }
    }

    /// From an image: a copy's root is replaced too, by its source's.
    fn is_being_rebuilt(&self) -> bool {
        let step = self.job.as_ref().and_then(|job| job.steps.first());
        matches!(step, Some(Step::ReplaceRoot { source: RootSource::Image(_) }))
    }

    /// The step under way is over if it is the one that `is_it` means; with the last one the job is.
    pub(super) fn step_done(&mut self, is_it: impl Fn(&Step) -> bool) {
        let Some(job) = &mut self.job else { return };
        if job.steps.first().is_some_and(is_it) {
            job.steps.remove(0);
        }
        if job.steps.is_empty() {
            self.job = None;
        }
    }
}
