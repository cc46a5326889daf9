//! What must be true of the facts as they come: of each journey exactly one end, of each instance one
//! owner after the other, and what arrives is what left.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    event::Event,
    ids::{Epoch, InstanceId, NodeId, VolumeId},
    instance,
    operation::Verb,
    record::Recorded,
};

use crate::member::Member;

#[derive(Default)]
pub(crate) struct History {
    /// Journeys whose end is open.
    leaving: BTreeSet<InstanceId>,
    epochs: BTreeMap<InstanceId, Epoch>,
    /// How often things happened that are to happen in a simulation.
    pub(crate) counts: BTreeMap<&'static str, u32>,
}

impl History {
    pub(crate) fn note(&mut self, recorded: &Recorded, members: &[Member]) {
        let id = InstanceId(recorded.stream.id);
        for event in recorded.record.events() {
            match event {
                Event::Instance(event) => self.note_instance(id, event, members),
                Event::Node(event) => self.count(event.name()),
                Event::Server(_)
                | Event::Project(_)
                | Event::Profile(_)
                | Event::Network(_)
                | Event::Pool(_)
                | Event::Volume(_)
                | Event::Image(_)
                | Event::Operation(_)
                | Event::Name(_) => {}
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the others end no journey")]
    fn note_instance(&mut self, id: InstanceId, event: &instance::Event, members: &[Member]) {
        match event {
            instance::Event::Requested { verb: Verb::MoveInstance, .. } => {
                assert!(self.leaving.insert(id), "{id} leaves twice");
            }
            instance::Event::Moved { from, to, epoch, as_of, guest, .. } => {
                assert_eq!(self.leaving.remove(&id), as_of.is_none(), "{id} moves once: {event:?}");
                let last = self.epochs.insert(id, *epoch).unwrap_or_default();
                assert!(*epoch > last, "{id} is owned anew");
                if as_of.is_none() {
                    arrived(id, *from, *to, members);
                }
                self.count(match (as_of, guest) {
                    (Some(_), _) => "taken over",
                    (None, Some(_)) => "moved alive",
                    (None, None) => "moved",
                });
            }
            instance::Event::MoveAborted { .. } => {
                assert!(self.leaving.remove(&id), "{id} does not leave");
                self.count("move aborted");
            }
            // Of a take-over, or of a job after its journey's end.
            instance::Event::Failed { verb: Verb::MoveInstance, .. } => {
                self.leaving.remove(&id);
            }
            instance::Event::Deleted => {
                self.leaving.remove(&id);
            }
            instance::Event::Replicated { .. } => self.count("replicated"),
            instance::Event::Fetched { .. } => self.count("fetched"),
            _ => {}
        }
    }

    pub(crate) fn check_over(&self) {
        assert!(self.leaving.is_empty(), "under way for ever: {:?}", self.leaving);
    }
}

fn arrived(id: InstanceId, from: NodeId, to: NodeId, members: &[Member]) {
    let content = |node: NodeId| {
        let member = members.iter().find(|member| member.node == node)?;
        member.host.volumes.get(&VolumeId::from(id))?.root
    };
    assert!(content(to).is_some(), "{id} has no root where it is");
    assert_eq!(content(to), content(from), "{id} arrives as another");
}
