//! Who is lost, who is back, and what becomes of what ran on a node that is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use stapes_core::{
    cluster::liveness::{Conclusion, Heard, Judgement, judge},
    command::Command,
    ids::{InstanceId, NodeId},
    lease::Boottime,
    node::{Node, Reach},
};

use super::Post;
use crate::control::SubmitError;

/// Instances that are taken over at one look at most.
const TAKEN_OVER_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Healing {
    /// When this member read that others are lost, by what the log says of it.
    read: BTreeMap<NodeId, (DateTime<Utc>, Boottime)>,
    /// When this member first saw that others are online, as the log has it: one that comes, or comes
    /// back, has not been silent before.
    online: BTreeMap<NodeId, Boottime>,
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
        let is_online = |id: &NodeId| world.nodes.get(id).is_some_and(Node::is_online);
        self.read.retain(|id, _| !is_online(id) && world.nodes.contains_key(id));
        self.online.retain(|id, _| is_online(id));
        let mut heard = BTreeMap::new();
        for node in world.nodes.values().filter(|node| node.id != at.node) {
            let lost_for = node.away_since().map(|since| {
                let read = self.read.entry(node.id).or_insert((since, now));
                if read.0 != since {
                    *read = (since, now);
                }
                now.since(read.1)
            });
            let present = match lost_for {
                None => now.since(*self.online.entry(node.id).or_insert(now)),
                Some(_) => Duration::MAX,
            };
            if let Some(silence) = at.ears.silence(node.id) {
                let silent_for = silence.min(present);
                heard.insert(node.id, Heard { silent_for, lost_for });
            }
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
