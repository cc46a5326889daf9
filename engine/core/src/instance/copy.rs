//! A copy of an instance: on its source's node by cloning, on another by fetching.
//!
//! ```text
//! here       CreateRoot, TakeSnapshot, ReplaceRoot, ... each from what the source has
//! elsewhere  Fetch ─► CreateRoot of what was fetched last ─► DropRounds of what was made to be sent
//! ```
//!
//! What is fetched lies among the copy's own snapshots, under the ids that it has at the source, so
//! that it comes over once.

use std::collections::BTreeMap;

use super::{Considered, Instance, Snapshot, Step};
use crate::{
    config::{Config, Devices},
    decision::Context,
    ids::{InstanceId, NodeId, SnapshotId, VolumeId},
    node::Node,
    placement,
    rejection::{Noun, Rejection},
    spec::RootSource,
    world::{World, missing},
};

/// What is to be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Original<'a> {
    pub source: &'a Instance,
    /// As it was then; none: as it is.
    snapshot: Option<&'a Snapshot>,
    /// Whether its snapshots come with it.
    whole: bool,
}

/// How a copy is made, and the snapshots that it has then.
#[derive(Debug, Default)]
pub(super) struct Making {
    pub steps: Vec<Step>,
    pub snapshots: BTreeMap<String, Snapshot>,
}

impl<'a> Original<'a> {
    /// # Errors
    /// When there is no such snapshot.
    pub(super) fn find(
        source: &'a Instance,
        snapshot: Option<&str>,
        instance_only: bool,
    ) -> Result<Self, Rejection> {
        let taken = snapshot
            .map(|name| source.snapshots.get(name).ok_or_else(|| missing(Noun::Snapshot, name)));
        let snapshot = taken.transpose()?;
        Ok(Self { source, snapshot, whole: snapshot.is_none() && !instance_only })
    }

    pub(super) fn config(&self) -> Config {
        self.snapshot.map_or(&self.source.config, |taken| &taken.config).clone()
    }

    /// Without what is its source's alone.
    pub(super) fn devices(&self) -> Devices {
        let devices = self.snapshot.map_or(&self.source.devices, |taken| &taken.devices);
        let mut devices = devices.clone();
        devices.values_mut().for_each(|device| {
            device.remove("hwaddr");
            device.remove("ipv4.address");
        });
        devices
    }

    pub(super) fn profiles(&self) -> Vec<String> {
        self.snapshot.map_or(&self.source.profiles, |taken| &taken.profiles).clone()
    }

    /// Beside its source, where it is made at once, if nothing else is asked for and it can be
    /// there.
    ///
    /// # Errors
    /// When nobody hears the node that has the source, or no node can take the copy.
    pub(super) fn place(
        &self,
        world: &World,
        wanted: &placement::Wanted<'_>,
    ) -> Result<(NodeId, Vec<Considered>), Rejection> {
        let has_it = world.nodes.get(&self.source.node);
        has_it.map_or(Ok(()), Node::reachable)?;
        if wanted.target.is_none() {
            let beside = placement::Wanted { bound_to: Some(self.source.node), ..wanted.clone() };
            if let Ok(placed) = placement::choose(world, &beside) {
                return Ok(placed);
            }
        }
        placement::choose(world, wanted)
    }

    /// What makes the copy `id` on `node`.
    pub(super) fn making(&self, context: &Context, id: InstanceId, node: NodeId) -> Making {
        if node == self.source.node {
            self.clone_here(context, id)
        } else {
            self.fetch(context, id)
        }
    }

    fn oldest_first(&self) -> Vec<(&'a String, &'a Snapshot)> {
        let mut oldest_first: Vec<_> =
            self.source.snapshots.iter().filter(|_| self.whole).collect();
        oldest_first.sort_by_key(|(_, snapshot)| (snapshot.created_at, snapshot.id));
        oldest_first
    }

    /// Each snapshot is copied by making the root what the snapshot is, and taking one of that.
    fn clone_here(&self, context: &Context, id: InstanceId) -> Making {
        let root = |snapshot: Option<SnapshotId>| RootSource::Volume {
            volume: VolumeId::from(self.source.id),
            snapshot,
            image: self.source.image.clone(),
        };
        let mut making = Making::default();
        for (name, taken) in self.oldest_first() {
            let snapshot =
                SnapshotId::derive(&[&context.operation.to_string(), &id.to_string(), name]);
            making.steps.push(root_step(making.steps.is_empty(), root(Some(taken.id))));
            let expires_at = taken.expires_at;
            making.steps.push(Step::TakeSnapshot { name: name.clone(), snapshot, expires_at });
            making.snapshots.insert(name.clone(), Snapshot { id: snapshot, ..taken.clone() });
        }
        let last = root(self.snapshot.map(|taken| taken.id));
        making.steps.push(root_step(making.steps.is_empty(), last));
        making
    }

    fn fetch(&self, context: &Context, id: InstanceId) -> Making {
        let mut snapshots: Vec<_> =
            self.oldest_first().into_iter().map(|(_, taken)| taken.id).collect();
        snapshots.extend(self.snapshot.map(|taken| taken.id));
        let made = SnapshotId::derive(&[&context.operation.to_string(), &id.to_string()]);
        let made = Some(made).filter(|_| self.snapshot.is_none());
        // What the root is made of, and of no more use then.
        let last: Vec<_> = made.or_else(|| snapshots.last().copied()).into_iter().collect();
        let image = self.source.image.clone();
        let (volume, snapshot) = (VolumeId::from(id), last.first().copied());
        let fetch = Step::Fetch {
            from: self.source.node,
            volume: VolumeId::from(self.source.id),
            snapshots,
            made,
            image: image.clone(),
        };
        let source = RootSource::Volume { volume, snapshot, image };
        let steps = vec![fetch, Step::CreateRoot { source }, Step::DropRounds { rounds: last }];
        let snapshots = self.source.snapshots.iter().filter(|_| self.whole);
        Making {
            steps,
            snapshots: snapshots.map(|(name, it)| (name.clone(), it.clone())).collect(),
        }
    }
}

fn root_step(first: bool, source: RootSource) -> Step {
    if first { Step::CreateRoot { source } } else { Step::ReplaceRoot { source } }
}
