//! Who is heard and who is not: what one member concludes, from its own clock and the log alone.
//!
//! ```text
//! not heard for `offline` ─► Lost ─ still so for `healing` ─► Fenced ─► its instances are taken over
//! ```
//!
//! Architecture Invariant: times here are durations of the judging member's own monotonic clock.
//! What others' clocks say never counts, and a member that cannot write to the log changes nothing.
//!
//! When many fall silent at once it is rather the network, or this member, than they: they are
//! shown as lost, and nothing is taken over until somebody says so (`FencingProof::Operator`).

use std::{collections::BTreeMap, time::Duration};

use crate::{
    ids::NodeId,
    lease::{FENCED_AFTER, LOST_AFTER},
    node::{FencingProof, Node, Reach},
    world::World,
};

/// Beats come every two seconds: less would lose who is there.
const OFFLINE_MIN: Duration = Duration::from_secs(6);
/// Less would take over what may still run: a lease is over by then.
const HEALING_MIN: Duration = Duration::from_secs(20);

/// What a member knows of another that the log does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Since its last beat, or since this member began to listen.
    pub silent_for: Duration,
    /// Since this member read that it is lost; none: it is not.
    pub lost_for: Option<Duration>,
}

/// What is to be said to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    Lost(NodeId),
    /// Of the member itself, or of one that is heard.
    Returned(NodeId),
    Fenced(NodeId, FencingProof),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    pub conclusions: Vec<Conclusion>,
    /// Nothing is taken over, and why.
    pub frozen: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub offline: Duration,
    /// None: nothing is ever taken over by itself.
    pub healing: Option<Duration>,
}

impl Thresholds {
    /// As the server's configuration says, in seconds; a healing threshold of 0 turns healing off.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let seconds = |key: &str| {
            let text = world.server.config.get(key).filter(|text| !text.is_empty())?;
            text.parse::<u64>().ok().map(Duration::from_secs)
        };
        let healing = seconds("cluster.healing_threshold").unwrap_or(FENCED_AFTER);
        Self {
            offline: seconds("cluster.offline_threshold").unwrap_or(LOST_AFTER).max(OFFLINE_MIN),
            healing: (!healing.is_zero()).then_some(healing.max(HEALING_MIN)),
        }
    }
}

/// What `me` concludes of the others and of itself.
#[must_use]
pub fn judge(world: &World, me: NodeId, heard: &BTreeMap<NodeId, Heard>) -> Judgement {
    let mut judgement = Judgement::default();
    let Some(own) = world.nodes.get(&me) else { return judgement };
    if !own.is_online() {
        // Alive, as it writes this; what it thinks of the others waits until it is back.
        judgement.conclusions.push(Conclusion::Returned(me));
        return judgement;
    }
    let Thresholds { offline, healing } = Thresholds::of(world);
    let of = |node: &Node| heard.get(&node.id).copied().unwrap_or_default();
    // Those that were fenced long ago have nothing to do with what happens now.
    let is_silent = |node: &&Node| {
        let is_fenced = matches!(node.reach, Reach::Fenced { .. });
        node.id != me && !is_fenced && of(node).silent_for >= offline
    };
    let silent = world.nodes.values().filter(is_silent).count();
    if silent > 1 && silent * 3 > world.nodes.len() {
        judgement.frozen = Some(format!(
            "{silent} of {} members are silent together: nothing is taken over before an operator fences them (stapes cluster fence NAME)",
            world.nodes.len()
        ));
    }
    for node in world.nodes.values().filter(|node| node.id != me) {
        let Heard { silent_for, lost_for } = of(node);
        let is_silent = silent_for >= offline;
        let conclusion = match node.reach {
            Reach::Online if is_silent => Conclusion::Lost(node.id),
            Reach::Unreachable { .. } if !is_silent && heard.contains_key(&node.id) => {
                Conclusion::Returned(node.id)
            }
            Reach::Unreachable { .. }
                if judgement.frozen.is_none()
                    && healing.zip(lost_for).is_some_and(|(healing, lost)| lost >= healing) =>
            {
                Conclusion::Fenced(node.id, FencingProof::LeaseExpired)
            }
            // One that is fenced comes back by its own word: it has to destroy first what was taken over.
            Reach::Online | Reach::Unreachable { .. } | Reach::Fenced { .. } => continue,
        };
        judgement.conclusions.push(conclusion);
    }
    judgement
}
