//! What all members understand. Daemons are upgraded one after the other: what an older one could
//! not read is not written before the last of them is new enough.

use std::collections::BTreeSet;

use crate::{rejection::Rejection, world::World};

/// Something that the log may hold only when every member's daemon reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Several nodes on one log, and instances that move between them.
    Cluster,
}

/// The first version of the daemon that reads each.
const SINCE: &[(Feature, [u64; 3])] = &[(Feature::Cluster, [0, 1, 0])];

/// What every node's daemon reads, as of its last start.
#[must_use]
pub fn features(world: &World) -> BTreeSet<Feature> {
    let reads = |since: [u64; 3]| world.nodes.values().all(|node| parse(&node.version) >= since);
    SINCE.iter().filter(|(_, since)| reads(*since)).map(|(feature, _)| *feature).collect()
}

/// # Errors
/// When a daemon of this version could not read what the log holds already.
pub(crate) fn check_joins(version: &str) -> Result<(), Rejection> {
    match SINCE.iter().find(|(_, since)| parse(version) < *since) {
        None => Ok(()),
        Some((_, [major, minor, patch])) => Err(Rejection::NotAllowed {
            message: format!(
                "The joining server's version {version} cannot read this cluster's log: it needs {major}.{minor}.{patch} or newer"
            ),
            hint: "upgrade stapes there, then join again".to_owned(),
        }),
    }
}

/// `1.2.3-rc1` is 1.2.3; what is not a version is the oldest.
fn parse(version: &str) -> [u64; 3] {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(parse("0.10.0") > parse("0.9.9"));
        assert_eq!(parse("1.2.3-rc1"), [1, 2, 3]);
        assert!(check_joins("0.0.9").is_err());
        assert!(check_joins("0.1.0").is_ok());
    }
}
