//! The past, read from the log: one stream, or the whole world as it was.

use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{EventLog, ReadError},
    record::Recorded,
    world::World,
};

use super::{At, Refusal};

/// Records read at a time.
const BATCH: usize = 1000;

/// The records of one stream, oldest first.
pub(super) async fn stream(log: &dyn EventLog, id: StreamId) -> Result<Vec<Recorded>, Refusal> {
    let stored = log.read_stream(id, Revision(0)).await.map_err(|error| unreadable(&error))?;
    let read = stored.iter().map(Recorded::read).collect::<Result<Vec<_>, _>>();
    read.map_err(|error| Refusal::Unavailable(error.to_string()))
}

/// The world after the last whole commit that is not after `at`.
pub(super) async fn fold(log: &dyn EventLog, at: At) -> Result<World, Refusal> {
    let head = log.head().await.map_err(|error| unreadable(&error))?;
    if let At::Sequence(asked) = at
        && asked > head
    {
        return Err(Refusal::Gone(format!("The log ends at {head}, before {asked}")));
    }
    let mut world = World::default();
    let mut commit = Vec::new();
    let mut read = Sequence(0);
    while read < head {
        let first = read.next();
        let batch = log.read(first, BATCH).await.map_err(|error| unreadable(&error))?;
        if batch.is_empty() {
            break;
        }
        for stored in &batch {
            let recorded =
                Recorded::read(stored).map_err(|error| Refusal::Unavailable(error.to_string()))?;
            let later = match at {
                At::Sequence(asked) => recorded.sequence > asked,
                At::Time(asked) => recorded.record.time > asked,
            };
            if later {
                return Ok(world);
            }
            read = recorded.sequence;
            let whole = recorded.last_in_commit;
            commit.push(recorded);
            if whole {
                for recorded in commit.drain(..) {
                    world
                        .apply(&recorded)
                        .map_err(|error| Refusal::Unavailable(error.to_string()))?;
                }
            }
        }
    }
    Ok(world)
}

/// Which nouns are not the same in both, in words.
pub(super) fn differences(served: &World, folded: &World) -> Vec<String> {
    if served == folded {
        return Vec::new();
    }
    let parts = [
        ("server", served.server == folded.server),
        ("nodes", served.nodes == folded.nodes),
        ("projects", served.projects == folded.projects),
        ("profiles", served.profiles == folded.profiles),
        ("networks", served.networks == folded.networks),
        ("pools", served.pools == folded.pools),
        ("volumes", served.volumes == folded.volumes),
        ("images", served.images == folded.images),
        ("instances", served.instances == folded.instances),
        ("operations", served.operations == folded.operations),
        ("names", served.names == folded.names),
        ("sequence", served.sequence == folded.sequence),
    ];
    let mut found: Vec<_> = parts
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(noun, _)| format!("{noun} differ from what the log says"))
        .collect();
    if found.is_empty() {
        found.push("stream positions differ from what the log says".to_owned());
    }
    found
}

pub(super) fn unreadable(error: &ReadError) -> Refusal {
    Refusal::Unavailable(error.to_string())
}
