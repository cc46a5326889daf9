//! Folding the whole log anew, and comparing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use stapes_core::{ids::Sequence, port::log::EventLog, record::Digest, world::World};

use crate::{
    past::{PAGE, read_page},
    state::State,
    status::QueryError,
};

/// What a replay found. The chains of all streams were checked on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// All records up to here.
    pub sequence: Sequence,
    pub events: u64,
    pub elapsed: Duration,
    pub digest_of_replayed_world: Digest,
    pub digest_of_live_world: Digest,
    pub equal: bool,
    pub counts: Counts,
    /// What is not equal, in words.
    pub differences: Vec<String>,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub instances: usize,
    pub networks: usize,
    pub pools: usize,
    pub volumes: usize,
    pub images: usize,
    pub profiles: usize,
    pub projects: usize,
    pub nodes: usize,
    pub operations: usize,
    pub names: usize,
}

impl Counts {
    #[must_use]
    pub fn of(world: &World) -> Self {
        Self {
            instances: world.instances.len(),
            networks: world.networks.len(),
            pools: world.pools.len(),
            volumes: world.volumes.len(),
            images: world.images.len(),
            profiles: world.profiles.len(),
            projects: world.projects.len(),
            nodes: world.nodes.len(),
            operations: world.operations.len(),
            names: world.names.len(),
        }
    }
}

/// Folds the log from its beginning to where `live` is.
pub(crate) async fn verify(log: &Arc<dyn EventLog>, live: &State) -> Result<Verified, QueryError> {
    let begun = Instant::now();
    let mut replayed = State::default();
    let mut events = 0;
    while replayed.sequence() < live.sequence() {
        let left = live.sequence().0 - replayed.sequence().0;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(PAGE);
        for recorded in read_page(log, replayed.sequence().next(), count).await? {
            replayed.apply(&recorded)?;
            events += recorded.record.events().len() as u64;
        }
    }
    let mut differences = differences(&replayed.world, &live.world);
    if differences.is_empty() && replayed != *live {
        differences.push("operations that ended differ".to_owned());
    }
    Ok(Verified {
        sequence: live.sequence(),
        events,
        elapsed: begun.elapsed(),
        digest_of_replayed_world: digest(&replayed.world),
        digest_of_live_world: digest(&live.world),
        equal: differences.is_empty(),
        counts: Counts::of(&replayed.world),
        differences,
    })
}

/// Of all that the world holds, in order.
#[must_use]
pub fn digest(world: &World) -> Digest {
    // Encoding to memory fails only for types that MessagePack lacks, and these have none.
    Digest::of(&rmp_serde::to_vec(world).expect("a world is encodable"))
}

fn differences(replayed: &World, live: &World) -> Vec<String> {
    if replayed == live {
        return Vec::new();
    }
    let parts = [
        ("the server", replayed.server == live.server),
        ("nodes", replayed.nodes == live.nodes),
        ("projects", replayed.projects == live.projects),
        ("profiles", replayed.profiles == live.profiles),
        ("networks", replayed.networks == live.networks),
        ("pools", replayed.pools == live.pools),
        ("volumes", replayed.volumes == live.volumes),
        ("images", replayed.images == live.images),
        ("instances", replayed.instances == live.instances),
        ("operations", replayed.operations == live.operations),
        ("names", replayed.names == live.names),
    ];
    let differing = parts.iter().filter(|(_, equal)| !equal);
    let mut words: Vec<_> =
        differing.map(|(what, _)| format!("{what} differ from what the log says")).collect();
    if words.is_empty() {
        words.push("the ends of streams differ from what the log says".to_owned());
    }
    words
}
