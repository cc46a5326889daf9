//! What must be true at each step, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    ids::{NodeId, SnapshotId, VolumeId},
    instance::{Instance, Status},
    name::NameKind,
};

use crate::members::Members;

impl Members {
    pub(crate) fn check_safety(&self) {
        for (instance, places) in self.running() {
            assert!(places.len() <= 1, "{instance} runs on {places:?}");
        }
        let mut seen = BTreeSet::new();
        for instance in self.truth.instances.values() {
            let addresses =
                instance.leases.values().filter_map(|lease| lease.ipv4).map(|ip| ip.to_string());
            let slot = format!("{} on {}", instance.idmap.base, instance.node);
            for thing in addresses.chain([instance.name.clone(), slot]) {
                assert!(seen.insert(thing.clone()), "two hold {thing}");
            }
            assert!(
                self.truth.nodes.contains_key(&instance.node),
                "{} has no owner",
                instance.name
            );
            if let Some(job) = &instance.job {
                assert!(!job.steps.is_empty(), "a job without steps: {job:?}");
                assert!(
                    self.truth.operations.contains_key(&job.operation),
                    "a job for nobody: {job:?}"
                );
            }
        }
    }

    pub(crate) fn check_replay(&self) {
        assert_eq!(self.log.replayed(), self.truth, "memory and log disagree");
        for member in self.members.iter().filter(|member| member.read == self.log.len()) {
            assert_eq!(member.world, self.truth, "{} read something else", member.name);
        }
    }

    pub(crate) fn check_liveness(&self) {
        self.history.check_over();
        assert!(self.truth.operations.is_empty(), "for ever: {:?}", self.truth.operations);
        for instance in self.truth.instances.values() {
            self.check_instance(instance);
        }
        self.check_nothing_left();
        let held = |kind| self.truth.names.keys().filter(|name| name.kind == kind).count();
        let count = self.truth.instances.len();
        assert_eq!(held(NameKind::Instance), count, "names are left over");
        assert_eq!(held(NameKind::IdMap), count, "ranges of host ids are left over");
    }

    fn check_instance(&self, instance: &Instance) {
        let name = &instance.name;
        assert!(instance.job.is_none(), "{name}: {:?}", instance.job);
        assert_ne!(instance.status, Status::Creating, "{name}");
        for member in &self.members {
            let guest = member.host.guests.get(&instance.id);
            let is_here = member.node == instance.node;
            let runs = is_here && instance.status.is_up();
            assert_eq!(guest.is_some(), runs, "{name} on {}: {:?}", member.name, instance.status);
            assert!(guest.is_none_or(|guest| guest.held.is_none()), "{name} is held");
            let volume = member.host.volumes.get(&VolumeId::from(instance.id));
            let snapshots: BTreeSet<SnapshotId> =
                volume.iter().flat_map(|it| it.snapshots.keys().copied()).collect();
            if is_here {
                // What a take-over did not make yet is made by its next start.
                let unmade = instance.replica.is_some_and(|replica| replica.node == instance.node);
                let has_root = volume.is_some_and(|it| it.root.is_some());
                assert!(has_root || unmade, "{name} has no root");
                let own = instance.snapshots.values().map(|it| it.id);
                let expected = own.chain(instance.replica.map(|it| it.snapshot)).collect();
                // A round may be left that was asked for so late that it was swept before.
                assert!(snapshots.is_superset(&expected), "{name}'s snapshots: {snapshots:?}");
            } else if let Some(replica) = instance.replica.filter(|it| it.node == member.node) {
                assert!(snapshots.contains(&replica.snapshot), "{name}'s copy is not there");
            }
        }
    }

    fn check_nothing_left(&self) {
        let mut expected: BTreeMap<NodeId, BTreeSet<VolumeId>> = BTreeMap::new();
        for instance in self.truth.instances.values() {
            let replica = instance.replica.map(|replica| replica.node);
            for node in [instance.node].into_iter().chain(replica) {
                expected.entry(node).or_default().insert(instance.id.into());
            }
        }
        for member in &self.members {
            let there = member.host.volumes.iter().filter(|(_, volume)| !volume.is_empty());
            let there: BTreeSet<_> = there.map(|(id, _)| *id).collect();
            let expected = expected.remove(&member.node).unwrap_or_default();
            assert_eq!(there, expected, "volumes are left over or missing on {}", member.name);
        }
    }
}
