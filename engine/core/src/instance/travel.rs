//! What the events of a move make of an instance.

use chrono::{DateTime, Utc};

use super::{Event, Instance, Journey, Replica, Status, Step};
use crate::port::guest::ExitCause;

impl Instance {
    pub(super) fn travel(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::MoveAssessed { mode, reasons, steps } => {
                self.replan(steps, |journey| {
                    journey.mode = *mode;
                    journey.reasons.clone_from(reasons);
                });
            }
            Event::MoveDegraded { mode, reason, steps } => {
                self.replan(steps, |journey| {
                    journey.mode = *mode;
                    journey.reasons.push(reason.clone());
                });
            }
            Event::RoundReceived { round, bytes, steps } => {
                self.replan(steps, |journey| {
                    journey.rounds.push(*round);
                    journey.bytes += bytes;
                });
            }
            Event::Checkpointed { at, bytes: _ } => {
                if let Some(journey) = self.journey_mut() {
                    journey.away_since = Some(*at);
                }
                self.step_done(|step| matches!(step, Step::Checkpoint));
            }
            Event::Moved { to, epoch, idmap, guest, bytes, home, steps, as_of, from: _ } => {
                self.node = *to;
                self.incarnation.epoch = *epoch;
                self.idmap = *idmap;
                self.home = *home;
                if let Some((pid, guest)) = guest {
                    self.guest = *guest;
                    let since = self.last_started_at.unwrap_or(at);
                    self.status = Status::Running { pid: *pid, since };
                }
                // What is taken over is its copy until that became the root.
                if as_of.is_none() && self.replica.is_some_and(|replica| replica.node == *to) {
                    self.replica = None;
                }
                self.replan(steps, |journey| journey.bytes += bytes);
            }
            Event::MoveAborted { error, steps } => {
                let landed = self.job.as_ref().is_some_and(super::Job::has_landed);
                let to = self.journey_mut().map(|journey| journey.to);
                // What landed is removed there, and the replica with it.
                if landed && self.replica.is_some_and(|replica| Some(replica.node) == to) {
                    self.replica = None;
                }
                self.replan(steps, |journey| journey.error = Some(error.clone()));
            }
            Event::Activated { at } => {
                self.back_at(*at);
                self.step_done(|step| matches!(step, Step::Activate));
            }
            Event::Resumed => {
                if let Some(journey) = self.journey_mut() {
                    journey.away_since = None;
                }
                self.step_done(|step| matches!(step, Step::Resume));
            }
            Event::RoundsDropped => self.step_done(|step| matches!(step, Step::DropRounds { .. })),
            Event::Fetched { .. } => self.step_done(|step| matches!(step, Step::Fetch { .. })),
            Event::Replicated { node, snapshot, at } => {
                self.replica = Some(Replica { node: *node, snapshot: *snapshot, at: *at });
                self.step_done(|step| matches!(step, Step::Receive { .. }));
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

    /// The copy that it has to be made of first, on its own node: a take-over did not come so far.
    pub(super) fn unmade(&self) -> Option<Replica> {
        self.replica.filter(|replica| replica.node == self.node)
    }

    /// What is left of the job from now on; nothing ends it.
    fn replan(&mut self, steps: &[Step], note: impl FnOnce(&mut Journey)) {
        let Some(job) = &mut self.job else { return };
        job.steps = steps.to_vec();
        if let Some(journey) = &mut job.journey {
            note(journey);
        }
        if job.steps.is_empty() {
            self.job = None;
        }
    }

    fn journey_mut(&mut self) -> Option<&mut Journey> {
        self.job.as_mut()?.journey.as_mut()
    }

    /// It can be reached again.
    pub(super) fn back_at(&mut self, at: DateTime<Utc>) {
        if let Some(journey) = self.journey_mut() {
            journey.back_at = Some(at);
        }
    }

    /// Its guest ended in the middle of a journey: because it was to, or by itself.
    pub(super) fn stood_still(&mut self, cause: ExitCause, at: DateTime<Utc>) {
        let Some(job) = &mut self.job else { return };
        let stopping = matches!(job.steps.first(), Some(Step::Stop { .. }));
        let Some(journey) = &mut job.journey else { return };
        journey.away_since.get_or_insert(at);
        let starts_again = matches!(cause, ExitCause::GuestReboot | ExitCause::HostReboot);
        journey.running &= stopping || starts_again;
    }
}
