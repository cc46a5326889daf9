//! Keeps the log's servers as the members are: who may connect, who looks for whom, who keeps the log,
//! and how often it is kept. Every member tends its own server; what concerns all is done by the first
//! of those that keep the log.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use stapes_control::Control;
use stapes_core::ids::NodeId;
use stapes_nats::{
    Connection,
    log::set_replicas,
    managed::{ManagedConfig, ManagedServer, server_name},
    remove_queues_of_others,
};

use super::{
    super::directory::Directory,
    member::{Member, MemberError},
    servers::{self, REPLICAS},
};

/// Without a change it is looked at again so often: servers come and go as well.
const EVERY: Duration = Duration::from_secs(5);

/// For as long as the member is there.
pub(crate) async fn tend(directory: Directory, member: Arc<Member>, control: Control) {
    let Some(server) = &member.server else { return };
    let (applied, governs_by) = (None, None);
    let mut tending =
        Tending { directory, member: &member, server, applied, copying: false, governs_by };
    let mut changes = control.changes();
    loop {
        if let Err(error) = tending.turn(&control).await {
            tracing::warn!(
                error = super::told(&error),
                "the log's servers are not as they are to be yet"
            );
        }
        tokio::time::sleep(EVERY).await;
        // Seen or not, the next turn looks for itself.
        let _ = tokio::time::timeout(EVERY, changes.changed()).await;
    }
}

struct Tending<'a> {
    directory: Directory,
    member: &'a Member,
    server: &'a ManagedServer,
    applied: Option<ManagedConfig>,
    /// Copies of the log were ordered, and are not known to be whole yet.
    copying: bool,
    /// For what only who keeps the log may do.
    governs_by: Option<Connection>,
}

impl Tending<'_> {
    async fn turn(&mut self, control: &Control) -> Result<(), MemberError> {
        let pulse = self.member.pulse();
        // Who keeps the log must be known, and not guessed, before anything is changed.
        let keepers = self.member.keeper_names();
        if pulse.lost.is_some() || keepers.is_empty() {
            return Ok(());
        }
        let here = self.member.identity.node();
        let (known, keep, wanted, peers) = {
            let world = control.world();
            if !world.nodes.contains_key(&here) {
                return Ok(());
            }
            let known: BTreeSet<NodeId> = world.nodes.keys().copied().collect();
            let keep = servers::keepers(&world, &keepers);
            let wanted = servers::wanted(&world, &keep);
            let peers = servers::neighbours(&world, here, &wanted);
            (known, keep, wanted, peers)
        };
        let keeper = wanted.contains(&here) || self.member.is_keeper() && keep.contains(&here);
        let config = self.member.remember(&self.directory, keeper, peers)?;
        let identity = &self.member.identity;
        if let Some(managed) = servers::managed(&self.directory, identity, &config, &known).await?
            && self.applied.as_ref().is_none_or(|applied| differs(applied, &managed))
        {
            tracing::info!(
                members = known.len(),
                keeper,
                "the log's server is told of the members"
            );
            self.server.update(managed.clone()).await?;
            self.applied = Some(managed);
        }
        if keep.first() == Some(&here) {
            self.govern(&keepers, &known, wanted.len()).await?;
        }
        Ok(())
    }

    /// What one member does for all.
    async fn govern(
        &mut self,
        keepers: &BTreeSet<String>,
        known: &BTreeSet<NodeId>,
        wanted: usize,
    ) -> Result<(), MemberError> {
        let members: BTreeSet<String> = known.iter().map(|node| server_name(*node)).collect();
        for gone in keepers.difference(&members) {
            let node = gone.strip_prefix("node-").and_then(|id| id.parse::<NodeId>().ok());
            if let Some(node) = node {
                tracing::info!(%node, "its server is no keeper of the log any more");
                self.server.remove_peer(node).await?;
            }
        }
        // Put back at the end: after a failure a new one is opened.
        let connection = match self.governs_by.take() {
            Some(connection) => connection,
            None => Connection::open(self.server.keeper_connection()).await?,
        };
        let cluster = self.member.config.cluster;
        // Who joined since the turn began loses its queue, too, and makes it again by itself.
        for node in remove_queues_of_others(&connection, cluster, known).await? {
            tracing::info!(%node, "its queue of tasks is gone: it is no member any more");
        }
        if wanted == REPLICAS && (keepers.len() < REPLICAS || self.copying) {
            // Who gives up waiting for the copies waits for them again next time.
            self.copying = true;
            set_replicas(&connection, cluster, REPLICAS).await?;
            self.copying = false;
            tracing::info!(replicas = REPLICAS, "the log is kept by three members from now on");
        }
        self.governs_by = Some(connection);
        Ok(())
    }
}

fn differs(one: &ManagedConfig, other: &ManagedConfig) -> bool {
    one.peers != other.peers || one.nodes != other.nodes || one.role != other.role
}
