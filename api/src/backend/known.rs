//! The backend of a member that has not heard its log yet: what it knew last, until it hears it.
//!
//! ```text
//! checkpoint ─► reads (old, and marked so) ─► the log is there ─► the real backend, for all requests
//! ```
//!
//! It gives way once, and whoever was served before is served on: nobody has to connect again.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use stapes_core::{
    command::Command,
    ids::{OperationId, Sequence, StreamId},
    operation::Operation,
    world::World,
};
use stapes_projections::Recalled;
use tokio::sync::watch;

use super::{Accepted, At, Backend, Following, Refusal, Request, Told, Verified};

#[derive(Debug)]
pub struct Known {
    then: Recalled,
    now: watch::Sender<Option<Arc<dyn Backend>>>,
}

impl Known {
    #[must_use]
    pub fn new(then: Recalled) -> Self {
        Self { then, now: watch::Sender::new(None) }
    }

    /// From now on everything is asked of this one.
    pub fn give_way(&self, now: Arc<dyn Backend>) {
        self.now.send_replace(Some(now));
    }

    fn now(&self) -> Option<Arc<dyn Backend>> {
        self.now.borrow().clone()
    }

    fn heard(&self) -> Result<Arc<dyn Backend>, Refusal> {
        self.now().ok_or_else(|| {
            let text = "this member has not heard the log since it started, and answers only from \
                        what it knew last; see: stapes cluster status";
            Refusal::Unavailable(text.to_owned())
        })
    }
}

#[async_trait]
impl Backend for Known {
    fn is_whole(&self) -> bool {
        self.now.borrow().is_some()
    }

    async fn submit(&self, command: Command, request: Request) -> Result<Accepted, Refusal> {
        self.heard()?.submit(command, request).await
    }

    async fn reach(&self, sequence: Sequence) {
        if let Some(now) = self.now() {
            now.reach(sequence).await;
        }
    }

    fn read(&self, look: &mut dyn FnMut(&World)) {
        match self.now() {
            Some(now) => now.read(look),
            None => look(self.then.world()),
        }
    }

    async fn world_at(&self, at: At) -> Result<Arc<World>, Refusal> {
        self.heard()?.world_at(at).await
    }

    async fn operation(&self, id: OperationId) -> Option<Operation> {
        match self.now() {
            Some(now) => now.operation(id).await,
            None => self.then.operation(id).map(|view| view.operation.clone()),
        }
    }

    async fn ended_operations(&self, count: usize) -> Result<Vec<Operation>, Refusal> {
        match self.now() {
            Some(now) => now.ended_operations(count).await,
            None => Ok(self.then.ended().take(count).map(|view| view.operation.clone()).collect()),
        }
    }

    async fn follow(&self, after: Option<Sequence>) -> Result<Following, Refusal> {
        if after.is_some() || self.is_whole() {
            return self.heard()?.follow(after).await;
        }
        // What is new is all that comes after what is known; there is nothing to tell until then.
        let (mut now, known) = (self.now.subscribe(), self.then.sequence());
        let follows = async move {
            let heard = now.wait_for(Option::is_some).await.ok().and_then(|now| now.clone());
            match heard {
                Some(now) => match now.follow(Some(known)).await {
                    Ok(following) => following,
                    Err(refusal) => stream::iter([Err(refusal)]).boxed(),
                },
                None => stream::empty().boxed(),
            }
        };
        Ok(stream::once(follows).flatten().boxed())
    }

    async fn history(&self, stream: StreamId) -> Result<Vec<Told>, Refusal> {
        self.heard()?.history(stream).await
    }

    async fn verify(&self) -> Result<Verified, Refusal> {
        self.heard()?.verify().await
    }
}
