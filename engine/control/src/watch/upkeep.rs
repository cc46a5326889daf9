//! What a member lacks, and replicas that are too old.

use std::{collections::BTreeMap, time::Duration};

use stapes_core::{
    command::Command, ids::InstanceId, instance::Instance, lease::Boottime, resource, world::World,
};

use super::Post;
use crate::control::{SubmitError, now};

/// Replicas that are asked for at one look at most, so that they do not all begin together.
const REPLICATED_MAX: usize = 2;
/// Sooner is not asked again, whatever the configuration says.
const INTERVAL_MIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// When a replica was asked for last, by this machine's clock.
    asked: BTreeMap<InstanceId, Boottime>,
}

impl Upkeep {
    pub(super) async fn look(&mut self, at: &Post) -> Result<(), SubmitError> {
        let lacks = resource::lacks(&at.control.world(), at.node);
        if lacks {
            at.suggest(Command::PrepareNode { node: at.node }).await?;
        }
        let now = at.ears.now();
        let due = self.due(&at.control.world(), at, now);
        for instance in due {
            self.asked.insert(instance, now);
            at.suggest(Command::ReplicateInstance { instance }).await?;
        }
        Ok(())
    }

    fn due(&mut self, world: &World, at: &Post, now: Boottime) -> Vec<InstanceId> {
        if world.nodes.len() < 2 {
            return Vec::new();
        }
        self.asked.retain(|id, _| world.instances.get(id).is_some_and(|it| it.node == at.node));
        let mut due = Vec::new();
        for instance in world.instances_on(at.node).filter(|instance| instance.job.is_none()) {
            let Some(interval) = interval(world, instance) else { continue };
            let asked = self.asked.get(&instance.id);
            let is_due = match asked {
                Some(asked) => now.since(*asked) >= interval,
                None => is_old(instance, interval),
            };
            if is_due {
                due.push(instance.id);
            }
            if due.len() == REPLICATED_MAX {
                break;
            }
        }
        due
    }
}

/// How old its replica may be; none: it is to have none, or only when somebody asks.
fn interval(world: &World, instance: &Instance) -> Option<Duration> {
    let expanded = instance.expanded(world).ok()?;
    expanded.config.get("replication.target").filter(|target| !target.is_empty())?;
    let seconds = expanded.config.get("replication.interval")?.parse::<u64>().ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds).max(INTERVAL_MIN))
}

/// As the log's times say, for want of anything better since this watch began.
fn is_old(instance: &Instance, interval: Duration) -> bool {
    instance
        .replica
        .is_none_or(|replica| (now() - replica.at).to_std().is_ok_and(|age| age >= interval))
}
