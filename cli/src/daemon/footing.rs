//! What the daemon stands on: the node's own log with a cursor behind its tasks, or the cluster's with
//! the node's queue.

use std::sync::Arc;

use stapes_core::{
    node::Start,
    port::{log::EventLog, queue::Tasks},
};
use stapes_log::SegmentLog;
use stapes_nats::JetStreamTasks;
use stapes_node::LogTasks;

use super::{
    cluster::{Alone, ClusterConfig, Gated, Here, Member, clear},
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

impl Footing {
    /// Waits for the cluster's log where there is a cluster.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub(crate) async fn find(directory: &Directory, start: &Start) -> Result<Self, DaemonError> {
        let node = start.node;
        if let Some(config) = ClusterConfig::read(directory)? {
            tracing::info!(cluster = %config.cluster, name = config.name, "a member of a cluster");
            let member = Arc::new(Member::open(directory, config).await?);
            let here = Here::member(directory.clone(), node, member.clone());
            let tasks = Arc::new(JetStreamTasks::new(&member.log, node));
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
