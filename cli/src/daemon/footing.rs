//! What the daemon stands on: the node's own log with a cursor behind its tasks, or the cluster's with
//! the node's queue.

use std::sync::Arc;

use stapes_core::{
    ids::NodeId,
    node::Start,
    port::{log::EventLog, queue::Tasks},
};
use stapes_log::SegmentLog;
use stapes_nats::JetStreamTasks;
use stapes_node::LogTasks;

use super::{
    cluster::{Alone, ClusterConfig, Gated, Here, Member, Seat, clear},
    directory::Directory,
    serve::DaemonError,
};

pub(crate) struct Footing {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) tasks: Arc<dyn Tasks>,
    pub(crate) here: Here,
    /// Of a cluster.
    pub(crate) member: Option<Arc<Member>>,
}

/// What is known of a member before its log is there.
pub(crate) struct Seated {
    pub(crate) seat: Arc<Seat>,
    pub(crate) here: Here,
}

impl Seated {
    /// `None`: this node stands alone.
    ///
    /// # Errors
    /// When what the node has of its cluster cannot be used.
    pub(crate) fn find(directory: &Directory, node: NodeId) -> Result<Option<Self>, DaemonError> {
        let Some(config) = ClusterConfig::read(directory)? else { return Ok(None) };
        tracing::info!(cluster = %config.cluster, name = config.name, "a member of a cluster");
        let seat = Arc::new(Seat::take(directory, config)?);
        let here = Here::member(directory.clone(), node, seat.clone());
        Ok(Some(Self { seat, here }))
    }
}

impl Footing {
    /// Waits for the cluster's log where there is a cluster.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub(crate) async fn find(
        directory: &Directory,
        start: &Start,
        seated: Option<&Seated>,
    ) -> Result<Self, DaemonError> {
        let node = start.node;
        if let Some(Seated { seat, here }) = seated {
            let member = Arc::new(Member::open(directory, seat.clone()).await?);
            let tasks = Arc::new(JetStreamTasks::new(&member.log, node));
            let here = here.clone();
            return Ok(Self { log: member.log.clone(), tasks, here, member: Some(member) });
        }
        clear(directory).await;
        let log = SegmentLog::open(directory.log(), stapes_log::Options::default())?;
        let log = Arc::new(Gated::new(Arc::new(log)));
        let alone = Alone { log: log.clone(), start: start.clone() };
        let tasks = Arc::new(LogTasks::new(log.clone(), node));
        Ok(Self { log, tasks, here: Here::alone(directory.clone(), node, alone), member: None })
    }
}
