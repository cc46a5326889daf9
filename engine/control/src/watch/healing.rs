//! Who is lost, who is back, and what becomes of what ran on a node that is gone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use stapes_core::{
    cluster::liveness::{Conclusion, Heard, Judgement, judge},
    command::Command,
    ids::{InstanceId, NodeId},
    lease::Boottime,
    node::Reach,
};

use super::Post;
use crate::control::SubmitError;

/// Instances that are taken over at one look at most.
const TAKEN_OVER_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Healing {
    /// Since when others are away, as the log has it, or online; and when this member first saw that.
    seen: BTreeMap<NodeId, (Option<DateTime<Utc>>, Boottime)>,
    /// What could not be taken over; tried again when its node is lost again.
    refused: BTreeSet<InstanceId>,
    frozen: Option<String>,
}

impl Healing {
    pub(super) async fn look(&mut self, at: &Post) -> Result<(), SubmitError> {
        let judgement = self.judge(at);
        if judgement.frozen != self.frozen {
            if let Some(why) = &judgement.frozen {
                tracing::error!(why, "healing is frozen");
            }
            self.frozen.clone_from(&judgement.frozen);
        }
        if !judgement.conclusions.is_empty() {
            // The proof that this member is not the one that is cut off.
            at.control.catch_up().await?;
        }
        for conclusion in judgement.conclusions {
            tracing::info!(?conclusion, "concluded");
            let by = at.node;
            at.suggest(match conclusion {
                Conclusion::Lost(node) => Command::LoseNode { node, by },
                Conclusion::Returned(node) => Command::ReturnNode { node },
                Conclusion::Fenced(node, proof) => Command::FenceNode { node, proof },
            })
            .await?;
        }
        if at.is_first() {
            self.take_over(at).await?;
        }
        Ok(())
    }

    fn judge(&mut self, at: &Post) -> Judgement {
        let now = at.ears.now();
        let world = at.control.world();
        if world.nodes.len() < 2 {
            return Judgement::default();
        }
        self.seen.retain(|id, _| world.nodes.contains_key(id));
        let mut heard = BTreeMap::new();
        for node in world.nodes.values().filter(|node| node.id != at.node) {
            let away_since = node.away_since();
            let seen = self.seen.entry(node.id).or_insert((away_since, now));
            if seen.0 != away_since {
                *seen = (away_since, now);
            }
            let so_for = now.since(seen.1);
            let Some(silence) = at.ears.silence(node.id) else { continue };
            let how = match away_since {
                // One that comes, or comes back, has not been silent before.
                None => Heard { silent_for: silence.min(so_for), lost_for: None },
                Some(_) => Heard { silent_for: silence, lost_for: Some(so_for) },
            };
            heard.insert(node.id, how);
        }
        judge(&world, at.node, &heard)
    }

    /// What has a copy elsewhere goes on as that, once its node is known to run nothing of it.
    async fn take_over(&mut self, at: &Post) -> Result<(), SubmitError> {
        let due: Vec<InstanceId> = {
            let world = at.control.world();
            let fenced = |reach: Reach| matches!(reach, Reach::Fenced { .. });
            let gone = world.nodes.values().filter(|node| fenced(node.reach));
            let left: BTreeMap<_, _> = gone
                .flat_map(|node| world.instances_on(node.id))
                .map(|instance| (instance.id, instance.replica.is_some() && instance.is_ha(&world)))
                .collect();
            self.refused.retain(|id| left.contains_key(id));
            let untried =
                left.into_iter().filter(|(id, copied)| *copied && !self.refused.contains(id));
            untried.map(|(id, _)| id).take(TAKEN_OVER_MAX).collect()
        };
        for instance in due {
            if at
                .suggest(Command::TakeOverInstance { instance })
                .await?
                .is_none_or(|it| !it.pending)
            {
                self.refused.insert(instance);
            }
        }
        Ok(())
    }
}
