//! What the daemon stands on: the node's own log, or the cluster's.

use std::sync::Arc;

use stapes_core::{node::Start, port::log::EventLog};
use stapes_log::SegmentLog;

use super::{
    cluster::{Alone, ClusterConfig, Gated, Here, Member, clear},
    directory::Directory,
    serve::DaemonError,
};

pub(crate) struct Footing {
    pub(crate) log: Arc<dyn EventLog>,
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
            return Ok(Self { log: member.log.clone(), here, member: Some(member) });
        }
        clear(directory).await;
        let log = SegmentLog::open(directory.log(), stapes_log::Options::default())?;
        let log = Arc::new(Gated::new(Arc::new(log)));
        let alone = Alone { log: log.clone(), start: start.clone() };
        Ok(Self { log, here: Here::alone(directory.clone(), node, alone), member: None })
    }
}
