//! The evacuation of this member, and its end: the moves that it consists of, a few at a time.

use std::collections::{BTreeMap, BTreeSet};

use stapes_core::{
    cluster::evacuation::{self, Act, STOP_TIMEOUT},
    command::Command,
    ids::{InstanceId, OperationId},
    node::Duty,
    world::World,
};

use super::Post;
use crate::control::SubmitError;

/// An instance for which nothing helped so often stays.
const TRIES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Emptying {
    /// What the rest is about.
    operation: Option<OperationId>,
    asked: BTreeMap<InstanceId, OperationId>,
    tries: BTreeMap<InstanceId, u32>,
    /// With its name and why.
    failed: BTreeMap<InstanceId, String>,
}

impl Emptying {
    pub(super) async fn look(&mut self, at: &Post) -> Result<(), SubmitError> {
        let plan = {
            let world = at.control.world();
            let Some(node) = world.nodes.get(&at.node) else { return Ok(()) };
            let operation = match node.duty {
                Duty::Evacuating { operation, .. } | Duty::Restoring { operation } => operation,
                Duty::Serving | Duty::Evacuated => return Ok(()),
            };
            if self.operation != Some(operation) {
                *self = Self { operation: Some(operation), ..Self::default() };
            }
            self.collect(at, &world);
            let failed: BTreeSet<_> = self.failed.keys().copied().collect();
            evacuation::next(&world, at.node, &failed)
        };
        let Some(plan) = plan else { return Ok(()) };
        if plan.is_over() {
            return self.finish(at).await;
        }
        for (instance, act) in plan.acts {
            self.ask(at, instance, act).await?;
        }
        Ok(())
    }

    /// What was asked for and is over now.
    fn collect(&mut self, at: &Post, world: &World) {
        let is_over = |operation: &OperationId| !world.operations.contains_key(operation);
        let over: Vec<_> =
            self.asked.iter().filter(|(_, it)| is_over(it)).map(|(id, it)| (*id, *it)).collect();
        for (instance, operation) in over {
            self.asked.remove(&instance);
            if let Some(error) = at.control.error_of(operation) {
                self.fail(world, instance, &error);
            }
        }
    }

    fn fail(&mut self, world: &World, instance: InstanceId, why: &str) {
        let name = world.instances.get(&instance).map_or("?", |instance| instance.name.as_str());
        tracing::warn!(name, why, "stays where it is");
        self.failed.insert(instance, format!("{name}: {why}"));
    }

    async fn ask(&mut self, at: &Post, id: InstanceId, act: Act) -> Result<(), SubmitError> {
        let target = {
            let world = at.control.world();
            let Some(instance) = world.instances.get(&id) else { return Ok(()) };
            let tries = self.tries.entry(id).or_default();
            *tries += 1;
            if *tries > TRIES_MAX {
                self.fail(&world, id, &format!("asked {TRIES_MAX} times in vain"));
                return Ok(());
            }
            evacuation::target_of(&world, instance)
        };
        let Some(target) = target else { return Ok(()) };
        let command = match act {
            Act::Move { to, live } => Command::MoveInstance { target, to, live },
            Act::Stop { force } => Command::StopInstance { target, force, timeout: STOP_TIMEOUT },
            Act::Start => Command::StartInstance { target },
        };
        match at.ask(command).await {
            Ok(accepted) => {
                self.asked.insert(id, accepted.operation);
            }
            Err(SubmitError::Rejected(why)) => {
                let world = at.control.world();
                self.fail(&world, id, &why.to_string());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn finish(&mut self, at: &Post) -> Result<(), SubmitError> {
        let command = {
            let world = at.control.world();
            let Some(node) = world.nodes.get(&at.node) else { return Ok(()) };
            let failed = self.failed.values().cloned().collect();
            let name = node.name.clone();
            if matches!(node.duty, Duty::Restoring { .. }) {
                Command::FinishRestore { name, failed }
            } else {
                Command::FinishEvacuation { name, failed }
            }
        };
        at.suggest(command).await.map(drop)
    }
}
