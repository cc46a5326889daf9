//! What one step of a job orders from a node, and what is ordered besides.

use std::collections::BTreeSet;

use super::{
    Instance, Step,
    specify::{guest_spec, limits, reservations},
};
use crate::{
    decision::Decision,
    ids::{Fingerprint, InstanceId, NodeId, OperationId, SnapshotId},
    image,
    name::{Name, NameKind},
    placement,
    port::{image::ImageKind, peer::PeerAddress},
    project::Project,
    rejection::Rejection,
    spec::{IdMap, Incarnation, RootSource},
    task::{ReceivedRoot, Subject, Transfer, Work},
    world::World,
};

/// The first host id that guests are given, and how many each.
const IDMAP_FIRST: u32 = 1_000_000;
const IDMAP_SIZE: u32 = 65_536;
/// Whom a node is told to ask for an image at most.
const PEERS_MAX: usize = 5;

/// The work of one step on `instance` as it is now.
pub(super) fn work(
    world: &World,
    instance: &Instance,
    step: &Step,
    operation: OperationId,
) -> Result<Work, Rejection> {
    let Instance { pool, incarnation, .. } = *instance;
    Ok(match step {
        Step::CreateRoot { source } => {
            let expanded = instance.expanded(world)?;
            Work::CreateRoot {
                pool,
                source: source.clone(),
                quota_bytes: limits(world, instance, &expanded)?.disk_bytes,
                reservations: reservations(world, instance, &expanded),
                image_at: image_at(world, instance, source),
            }
        }
        Step::ReplaceRoot { source } => {
            let quota_bytes = limits(world, instance, &instance.expanded(world)?)?.disk_bytes;
            let image_at = image_at(world, instance, source);
            Work::ReplaceRoot { pool, source: source.clone(), quota_bytes, image_at }
        }
        Step::Start => {
            if instance.kind == ImageKind::VirtualMachine {
                let message = "Virtual machines cannot be started on this node".to_owned();
                return Err(Rejection::NotAllowed {
                    message,
                    hint: "use a container image".to_owned(),
                });
            }
            let expanded = instance.expanded(world)?;
            let spec = Box::new(guest_spec(world, instance, &expanded, incarnation, operation)?);
            Work::Start { spec, reservations: reservations(world, instance, &expanded) }
        }
        Step::Stop { force, timeout } => Work::Stop { force: *force, timeout: *timeout },
        Step::Freeze => Work::Freeze,
        Step::Unfreeze => Work::Unfreeze,
        Step::ApplyLimits => {
            Work::SetLimits { pool, limits: limits(world, instance, &instance.expanded(world)?)? }
        }
        Step::ApplyReservations => Work::Reserve {
            reservations: reservations(world, instance, &instance.expanded(world)?),
        },
        Step::TakeSnapshot { snapshot, .. } => Work::CreateSnapshot { pool, snapshot: *snapshot },
        Step::DeleteSnapshot { snapshot, .. } => Work::DeleteSnapshot { pool, snapshot: *snapshot },
        Step::RestoreSnapshot { snapshot, .. } => {
            Work::RestoreSnapshot { pool, snapshot: *snapshot }
        }
        Step::Delete => Work::DeleteInstance { pool },
        Step::Assess => Work::Assess,
        Step::Receive { round, last } => {
            Work::Receive(Box::new(transfer(world, instance, *round, *last)?))
        }
        Step::Checkpoint => Work::Checkpoint,
        Step::RestoreLive { round } => {
            let there = arrived(instance);
            let expanded = there.expanded(world)?;
            let spec = Box::new(guest_spec(world, &there, &expanded, incarnation, operation)?);
            let reservations = reservations(world, &there, &expanded);
            let transfer = Box::new(transfer(world, instance, *round, true)?);
            Work::Restore { transfer, spec, reservations }
        }
        Step::Activate => Work::Activate,
        Step::Resume => Work::Resume,
        Step::DropRounds { rounds } => {
            Work::DropRounds { pool, volume: instance.id.into(), rounds: rounds.clone() }
        }
        Step::Fetch { from, volume, snapshots, made, image } => Work::Receive(Box::new(Transfer {
            from: peer(world, *from)?,
            pool,
            volume: *volume,
            snapshots: snapshots.iter().chain(made).copied().collect(),
            make_last: made.is_some(),
            image: image.clone(),
            root: None,
        })),
    })
}

/// Orders what nobody waits for: what a node has of the instance goes.
pub(super) fn remove(
    decision: &mut Decision,
    instance: &Instance,
    node: NodeId,
    operation: OperationId,
    incarnation: Incarnation,
) {
    let work = Work::DeleteInstance { pool: instance.pool };
    decision.order(node, operation, Subject::Instance(instance.id), incarnation, work);
}

/// The same of snapshots that were only made to be sent.
pub(super) fn drop_snapshots(
    decision: &mut Decision,
    instance: &Instance,
    node: NodeId,
    operation: OperationId,
    incarnation: Incarnation,
    rounds: Vec<SnapshotId>,
) {
    let work = Work::DropRounds { pool: instance.pool, volume: instance.id.into(), rounds };
    decision.order(node, operation, Subject::Instance(instance.id), incarnation, work);
}

/// The instance as it is to be on the node that it goes to.
fn arrived(instance: &Instance) -> Instance {
    let mut there = instance.clone();
    if let Some(journey) = instance.job.as_ref().and_then(|job| job.journey.as_ref()) {
        there.node = journey.to;
        there.idmap = journey.idmap;
    }
    there
}

/// The name that a range of host ids is held under on a node.
pub(super) fn slot(node: NodeId, idmap: IdMap) -> Name {
    let slot = idmap.base.saturating_sub(IDMAP_FIRST) / idmap.size.max(1);
    Name::new(NameKind::IdMap, node, slot.to_string())
}

/// A free range of host ids on a node: `wanted` if it is. Else one that is free on every node if
/// there is one, because only an instance that keeps its range can move while it runs.
pub(super) fn free_slot(
    world: &World,
    node: NodeId,
    instance: InstanceId,
    wanted: Option<IdMap>,
) -> Result<IdMap, Rejection> {
    if let Some(wanted) = wanted
        && world.holder(NameKind::IdMap, node, &slot(node, wanted).name).is_none()
    {
        return Ok(wanted);
    }
    let slot = placement::slot(world, node, instance)?;
    Ok(IdMap { base: IDMAP_FIRST + slot * IDMAP_SIZE, size: IDMAP_SIZE })
}

/// The nodes that an instance can get its image from; one that is made from an instance, or is one
/// already, gets it from there too.
pub(super) fn holders(
    world: &World,
    project: &Project,
    image: Option<&Fingerprint>,
    beside: Option<NodeId>,
) -> BTreeSet<NodeId> {
    let Some(image) = image else { return BTreeSet::new() };
    let mut holders = image::holders(world, project.images_in(), image);
    holders.extend(beside);
    holders
}

/// Whom the instance's node can ask for the image that the root is made of, if it has it not.
fn image_at(world: &World, instance: &Instance, source: &RootSource) -> Vec<PeerAddress> {
    let (RootSource::Image(fingerprint), Ok(project)) = (source, instance.project_of(world)) else {
        return Vec::new();
    };
    let holders = image::holders(world, project.images_in(), fingerprint);
    if holders.contains(&instance.node) {
        return Vec::new();
    }
    let nodes = holders.iter().filter_map(|id| world.nodes.get(id));
    let (online, away): (Vec<_>, Vec<_>) = nodes.partition(|node| node.is_online());
    let known = online.into_iter().chain(away).filter(|node| !node.address.is_empty());
    let peers = known.map(|node| PeerAddress { node: node.id, address: node.address.clone() });
    peers.take(PEERS_MAX).collect()
}

/// What the node that the instance moves to fetches for a round.
fn transfer(
    world: &World,
    instance: &Instance,
    round: SnapshotId,
    last: bool,
) -> Result<Transfer, Rejection> {
    let root = if last {
        let there = arrived(instance);
        let expanded = there.expanded(world)?;
        Some(ReceivedRoot {
            quota_bytes: limits(world, &there, &expanded)?.disk_bytes,
            reservations: reservations(world, &there, &expanded),
        })
    } else {
        None
    };
    // The replica's goes along wherever the instance goes, so that the next one can build on it.
    let snapshots = instance.snapshots.values().map(|snapshot| (snapshot.created_at, snapshot.id));
    let replica = instance.replica.iter().map(|replica| (replica.at, replica.snapshot));
    let mut oldest_first: Vec<_> = snapshots.chain(replica).collect();
    oldest_first.sort();
    let mut snapshots: Vec<_> = oldest_first.into_iter().map(|(_, snapshot)| snapshot).collect();
    snapshots.extend(rounds(instance));
    snapshots.push(round);
    Ok(Transfer {
        from: peer(world, instance.node)?,
        pool: instance.pool,
        volume: instance.id.into(),
        snapshots,
        make_last: true,
        image: instance.image.clone(),
        root,
    })
}

/// The rounds of the job under way that are over.
fn rounds(instance: &Instance) -> Vec<SnapshotId> {
    let journey = instance.job.as_ref().and_then(|job| job.journey.as_ref());
    journey.map_or_else(Vec::new, |journey| journey.rounds.clone())
}

fn peer(world: &World, node: NodeId) -> Result<PeerAddress, Rejection> {
    let found = world.nodes.get(&node).filter(|node| !node.address.is_empty());
    let found = found.ok_or_else(|| Rejection::NotAllowed {
        message: format!("Cluster member {node} has no address to fetch from"),
        hint: "see: stapes cluster list".to_owned(),
    })?;
    Ok(PeerAddress { node, address: found.address.clone() })
}
