//! What a daemon does with the log before it serves anybody: found the installation, say that the
//! node is here, and end what did not survive.

use stapes_core::{
    command::Command,
    config::Config,
    ids::{InstanceId, NodeId, OperationId},
    name::NameKind,
    node::Start,
    operation::{Class, Operation},
    project::{self, Project},
    record::Actor,
    resource,
    session::End,
    world::World,
};

use crate::control::{Control, Request, SubmitError};

/// Decisions that ask a new node for all that there is, at most.
const PREPARATIONS_MAX: usize = 100;

impl Control {
    /// Founds the installation if it is new, and records that the node's daemon started. Answers
    /// whether the host was started since the node's daemon was last seen.
    ///
    /// # Errors
    /// When the log cannot take it.
    pub async fn found(&self, start: Start) -> Result<bool, SubmitError> {
        self.caught_up().await?;
        let by_itself = || Request::by(Actor::system());
        let is_new = !self.world().projects.contains_key(&Project::default_id());
        if is_new {
            let name = project::DEFAULT.to_owned();
            let description = "Default stapes project".to_owned();
            self.submit(
                Command::CreateProject { name, description, config: Config::new() },
                by_itself(),
            )
            .await?;
        }
        let rebooted =
            self.world().nodes.get(&start.node).is_some_and(|node| node.boot != start.boot);
        let node = start.node;
        self.submit(Command::StartNode(Box::new(start)), by_itself()).await?;
        self.prepare(node).await?;
        self.end_lost_sessions(node).await?;
        Ok(rebooted)
    }

    /// Asks the node for the pools and networks that it has not, or failed to make before.
    async fn prepare(&self, node: NodeId) -> Result<(), SubmitError> {
        for _ in 0..PREPARATIONS_MAX {
            if !resource::lacks(&self.world(), node) {
                break;
            }
            self.submit(Command::PrepareNode { node }, Request::by(Actor::system())).await?;
        }
        Ok(())
    }

    /// Programs run inside and consoles end with the daemon that connected them, which is that of
    /// their instance's node.
    async fn end_lost_sessions(&self, node: NodeId) -> Result<(), SubmitError> {
        let lost: Vec<OperationId> = {
            let world = self.world();
            let sessions = world.operations.values().filter(|operation| {
                operation.class == Class::Websocket && !is_elsewhere(&world, operation, node)
            });
            sessions.map(|operation| operation.id).collect()
        };
        for operation in lost {
            let how = End::Failed("The daemon was restarted: the connection is lost".to_owned());
            self.submit(Command::EndSession { operation, how }, Request::by(Actor::system()))
                .await?;
        }
        Ok(())
    }

    /// After its host was started: starts what `boot.autostart` wants on the node, highest priority
    /// first.
    ///
    /// # Errors
    /// When the log cannot take it. What is refused for one instance does not stop the others.
    pub async fn autostart(&self, node: NodeId) -> Result<(), SubmitError> {
        let mut wanted: Vec<(i64, InstanceId)> = {
            let world = self.world();
            let priority = |instance: &stapes_core::instance::Instance| {
                let expanded = instance.expanded(&world).unwrap_or_default();
                let text = expanded.config.get("boot.autostart.priority").cloned();
                text.and_then(|text| text.parse::<i64>().ok()).unwrap_or_default()
            };
            let here = world.instances.values().filter(|instance| instance.node == node);
            here.map(|instance| (priority(instance), instance.id)).collect()
        };
        wanted.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        for (_, instance) in wanted {
            match self
                .submit(Command::AutostartInstance { instance }, Request::by(Actor::system()))
                .await
            {
                Ok(_) => {}
                Err(SubmitError::Rejected(why)) => tracing::warn!(%instance, %why, "not started"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether an operation is about an instance of another node.
fn is_elsewhere(world: &World, operation: &Operation, node: NodeId) -> bool {
    operation.resources.iter().any(|resource| {
        let held = world.holder(NameKind::Instance, operation.project, &resource.name);
        let instance = held.and_then(|held| world.instances.get(&InstanceId(held.holder)));
        instance.is_some_and(|instance| instance.node != node)
    })
}
