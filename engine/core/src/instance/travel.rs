//! What the events of a move make of an instance.

use chrono::{DateTime, Utc};

use super::{Event, Instance, Replica, Status, Step};

impl Instance {
    pub(super) fn travel(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::MoveAssessed { mode, reasons, steps } => {
                if let Some(job) = &mut self.job {
                    job.steps.clone_from(steps);
                    if let Some(journey) = &mut job.journey {
                        journey.mode = *mode;
                        journey.reasons.clone_from(reasons);
                    }
                }
                self.end_if_done();
            }
            Event::RoundReceived { round, bytes, steps } => {
                if let Some(job) = &mut self.job {
                    job.steps.clone_from(steps);
                    if let Some(journey) = &mut job.journey {
                        journey.rounds.push(*round);
                        journey.bytes += bytes;
                    }
                }
                self.end_if_done();
            }
            Event::Checkpointed { at, bytes: _ } => {
                if let Some(journey) = self.job.as_mut().and_then(|job| job.journey.as_mut()) {
                    journey.away_since = Some(*at);
                }
                self.step_done(|step| matches!(step, Step::Checkpoint));
            }
            Event::Moved { from: _, to, epoch, idmap, guest, bytes } => {
                self.node = *to;
                self.incarnation.epoch = *epoch;
                self.idmap = *idmap;
                if let Some((pid, guest)) = guest {
                    self.guest = *guest;
                    self.status =
                        Status::Running { pid: *pid, since: self.last_started_at.unwrap_or(at) };
                }
                if let Some(journey) = self.job.as_mut().and_then(|job| job.journey.as_mut()) {
                    journey.bytes += bytes;
                }
                if self.replica.is_some_and(|replica| replica.node == *to) {
                    self.replica = None;
                }
                self.step_done(|step| {
                    matches!(step, Step::Receive { last: true, .. } | Step::RestoreLive { .. })
                });
            }
            Event::MoveAborted { error: _, steps } => {
                if let Some(job) = &mut self.job {
                    job.steps.clone_from(steps);
                }
                self.end_if_done();
            }
            Event::Activated { at: _ } => self.step_done(|step| matches!(step, Step::Activate)),
            Event::Resumed => self.step_done(|step| matches!(step, Step::Resume)),
            Event::RoundsDropped => self.step_done(|step| matches!(step, Step::DropRounds { .. })),
            Event::Fetched { .. } => self.step_done(|step| matches!(step, Step::Fetch { .. })),
            Event::Replicated { node, snapshot, at } => {
                self.replica = Some(Replica { node: *node, snapshot: *snapshot, at: *at });
            }
            Event::Created(_)
            | Event::Requested { .. }
            | Event::Continued { .. }
            | Event::Failed { .. }
            | Event::RootCreated
            | Event::RootReplaced { .. }
            | Event::Started { .. }
            | Event::Stopped { .. }
            | Event::Frozen
            | Event::Unfrozen
            | Event::LimitsApplied
            | Event::ReservationsApplied
            | Event::Reconfigured(_)
            | Event::Renamed { .. }
            | Event::SnapshotTaken { .. }
            | Event::SnapshotDeleted { .. }
            | Event::SnapshotRenamed { .. }
            | Event::SnapshotExpirySet { .. }
            | Event::SnapshotRestored { .. }
            | Event::Deleted => {}
        }
    }

    fn end_if_done(&mut self) {
        if self.job.as_ref().is_some_and(|job| job.steps.is_empty()) {
            self.job = None;
        }
    }
}
