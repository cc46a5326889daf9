//! The watch: what a member asks for by itself, because it hears or sees something, or because its
//! time has come.
//!
//! ```text
//! every second ─┬─ who is silent, who is back ─► lost, returned, fenced; what HA instances become
//!               ├─ this member's evacuation, or its end ─► a few moves at a time
//!               ├─ pools and networks that this member lacks
//!               └─ replicas that are too old
//! ```
//!
//! Every member watches, and several may ask for the same at once: what is asked for twice happens
//! once, by the log's expected revisions. What must be asked for by one only to spare the log is
//! asked for by the first member that is online, or by the member that it is about.
//!
//! Architecture Invariant: nothing here is remembered that the log does not say, but for what was
//! tried in vain and since when another is lost, by this member's own clock. A new watch starts both
//! anew, and is late by that, never early.

mod emptying;
mod healing;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{sync::Arc, time::Duration};

use stapes_core::{
    command::Command,
    ids::NodeId,
    lease::Boottime,
    record::{Actor, Protocol},
};
use tokio::time::{MissedTickBehavior, interval};

use self::{emptying::Emptying, healing::Healing, upkeep::Upkeep};
use crate::control::{Accepted, Control, Request, SubmitError};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How this member hears the others.
pub trait Ears: Send + Sync + std::fmt::Debug + 'static {
    /// This machine's clock, that counts while it sleeps.
    fn now(&self) -> Boottime;

    /// How long the other has been silent; none: too little is heard now to say so.
    fn silence(&self, node: NodeId) -> Option<Duration>;
}

/// One member's watch.
#[derive(Debug)]
pub struct Watch {
    at: Post,
    healing: Healing,
    emptying: Emptying,
    upkeep: Upkeep,
}

/// Where a watch stands.
#[derive(Debug)]
struct Post {
    control: Control,
    node: NodeId,
    ears: Arc<dyn Ears>,
}

impl Watch {
    #[must_use]
    pub fn new(control: Control, node: NodeId, ears: Arc<dyn Ears>) -> Self {
        let at = Post { control, node, ears };
        Self {
            at,
            healing: Healing::default(),
            emptying: Emptying::default(),
            upkeep: Upkeep::default(),
        }
    }

    /// Watches for as long as the log can be trusted. To be spawned.
    pub async fn run(mut self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(SubmitError::Halted(why)) = self.look().await {
                tracing::error!(why, "the watch ends");
                return;
            }
        }
    }

    /// Looks once. What the log does not take now is asked for again at the next look.
    async fn look(&mut self) -> Result<(), SubmitError> {
        self.at.control.caught_up().await?;
        // What a lost log did not tell must not be concluded from.
        let parts = [
            self.healing.look(&self.at).await,
            self.emptying.look(&self.at).await,
            self.upkeep.look(&self.at).await,
        ];
        for part in parts {
            match part {
                Ok(()) => {}
                Err(halted @ SubmitError::Halted(_)) => return Err(halted),
                Err(error) => tracing::warn!(%error, "the watch could not ask for what it wants"),
            }
        }
        Ok(())
    }
}

impl Post {
    /// Whether this member is to do what one only should.
    fn is_first(&self) -> bool {
        let world = self.control.world();
        let first = world.nodes.values().find(|node| node.is_online());
        first.is_some_and(|node| node.id == self.node)
    }

    /// Asks for it in the member's name.
    async fn ask(&self, command: Command) -> Result<Accepted, SubmitError> {
        let name = {
            let world = self.control.world();
            world.nodes.get(&self.node).map(|node| node.name.clone()).unwrap_or_default()
        };
        self.control.submit(command, Request::by(Actor { protocol: Protocol::Node, name })).await
    }

    /// The same of what may be refused: then why is logged, and that is all.
    async fn suggest(&self, command: Command) -> Result<Option<Accepted>, SubmitError> {
        match self.ask(command).await {
            Ok(accepted) => Ok(Some(accepted)),
            Err(SubmitError::Rejected(why)) => {
                tracing::warn!(%why, hint = why.hint(), "refused");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
