//! The queue port: the tasks of one node, in the order in which they were ordered, each again and
//! again until it is done with.
//!
//! [`laws`] are what every implementation is run against.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{
    ids::Sequence,
    port::log::{AppendError, ReadError},
};

pub mod laws;
mod memory;
pub use memory::MemoryTasks;

/// A task on its way to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where the log has it.
    pub sequence: Sequence,
    /// The encoded record, as in the log.
    pub payload: Bytes,
}

pub type Deliveries = BoxStream<'static, Result<Delivery, ReadError>>;

#[async_trait]
pub trait Tasks: Send + Sync + fmt::Debug + 'static {
    /// Every task up to here is done with and never delivered again.
    async fn done(&self) -> Result<Sequence, ReadError>;

    /// The tasks that are not done with, oldest first, then those that are ordered from now on, for
    /// as long as it is held; each once. A task that is done with may come again as long as an older
    /// one is not. To be held once at a time: what comes of an earlier call ends with the next.
    async fn deliver(&self) -> Result<Deliveries, ReadError>;

    /// The task is done with: what came of it is durable. In any order; a crash may bring those again
    /// that were acknowledged last.
    async fn acknowledge(&self, task: Sequence) -> Result<(), AppendError>;
}
