//! The keys of secrets in a cluster: a member that misses one asks the others for it.
//!
//! ```text
//! before a secret is sealed, before a guest starts ─► prepare ─► others, side by side ─► kept for good
//! every so often, and when something could not be opened ─► all that the log has sealed ─┘
//! ```
//!
//! Who joins is handed what there is; what is drawn afterwards comes this way, so that every member has
//! every key soon after it was used, and none is lost with the member that drew it. To erase a
//! project's secrets is therefore to delete its keys on every member.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::StreamExt as _;
use stapes_api::peer::PeerClient;
use stapes_control::Control;
use stapes_core::{
    ids::{NodeId, ProjectId, Sequence},
    port::{
        DriverError,
        peer::{Arrivals as _, PeerAddress, Peers as _, Wanted},
        secret::{Sealed, Sealer, SecretError, looks_sealed},
    },
    world::World,
};
use stapes_drivers::{
    exchange::Exchange,
    secret::{KeyName, ProjectKeys},
};
use tokio::sync::Notify;

/// How often all that the log has sealed is looked at.
const EVERY: Duration = Duration::from_secs(20);
/// How soon it is looked at again when something could not be opened.
const SOON: Duration = Duration::from_secs(1);
/// An answer that takes longer is none.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// Members that are asked at the same time.
const ASKED_AT_ONCE: usize = 8;
/// How long a key that no member had is not asked for again.
const NOWHERE_FOR: Duration = Duration::from_secs(15);
/// Keys that are nowhere, remembered at most.
const NOWHERE_MAX: usize = 1024;

/// A key: of that name, or the one to seal with.
type Sought = (ProjectId, Option<KeyName>);

/// The keys of this node, and the way to the others'.
#[derive(Debug)]
pub(crate) struct ClusterKeys {
    keys: Arc<ProjectKeys>,
    others: OnceLock<Others>,
    /// Looked for in vain, and when.
    nowhere: Mutex<BTreeMap<Sought, Instant>>,
    /// One search at a time: many may want the same.
    turn: tokio::sync::Mutex<()>,
    missed: Notify,
}

/// Who is asked, and who keeps what comes.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) here: NodeId,
    pub(crate) control: Control,
    pub(crate) peers: PeerClient,
    pub(crate) arrivals: Arc<Exchange>,
}

impl ClusterKeys {
    /// Of a node that stands alone, until it is told of others.
    pub(crate) fn new(keys: ProjectKeys) -> Self {
        Self {
            keys: Arc::new(keys),
            others: OnceLock::new(),
            nowhere: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            missed: Notify::new(),
        }
    }

    pub(crate) fn own(&self) -> Arc<ProjectKeys> {
        self.keys.clone()
    }

    /// From now on the others are asked for what is missed.
    pub(crate) fn among(&self, others: Others) {
        if self.others.set(others).is_err() {
            tracing::error!("the keys were told of the other members twice");
        }
    }

    /// Keeps every key that the log's secrets need here, for as long as the node is a member.
    pub(crate) async fn tend(self: Arc<Self>) {
        let Some(others) = self.others.get() else { return std::future::pending().await };
        let mut seen = Sequence(0);
        loop {
            let world = others.control.world().clone();
            if world.sequence != seen {
                seen = world.sequence;
                let sought = tokio::task::spawn_blocking(move || sealed_in(&world)).await;
                for (project, name) in sought.unwrap_or_default() {
                    self.seek((project, Some(name))).await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.missed.notified() => {
                    seen = Sequence(0);
                    tokio::time::sleep(SOON).await;
                }
            }
        }
    }

    /// Whether the key is here. One that cannot be read is told when it is used.
    fn is_here(&self, (project, name): &Sought) -> bool {
        self.keys.has(*project, name.as_ref()).unwrap_or(true)
    }

    fn is_nowhere(&self, sought: &Sought) -> bool {
        let nowhere = self.nowhere.lock().unwrap_or_else(PoisonError::into_inner);
        nowhere.get(sought).is_some_and(|since| since.elapsed() < NOWHERE_FOR)
    }

    fn note_nowhere(&self, sought: Sought) {
        let mut nowhere = self.nowhere.lock().unwrap_or_else(PoisonError::into_inner);
        nowhere.retain(|_, since| since.elapsed() < NOWHERE_FOR);
        if nowhere.len() < NOWHERE_MAX {
            nowhere.insert(sought, Instant::now());
        }
    }

    /// Brings the key here if any member that answers has it.
    async fn seek(&self, sought: Sought) {
        let Some(others) = self.others.get() else { return };
        if self.is_here(&sought) || self.is_nowhere(&sought) {
            return;
        }
        let _turn = self.turn.lock().await;
        if self.is_here(&sought) || self.is_nowhere(&sought) {
            return;
        }
        let asked = futures::stream::iter(others.addresses())
            .map(|address| others.ask(address, sought))
            .buffer_unordered(ASKED_AT_ONCE);
        let mut came = std::pin::pin!(asked.filter(|came| std::future::ready(*came)));
        let project = sought.0;
        match came.next().await {
            Some(_) => tracing::info!(%project, "a key came from another member"),
            None => {
                tracing::debug!(%project, "no member that answers has the key");
                self.note_nowhere(sought);
            }
        }
    }
}

impl Others {
    /// Of the other members that are heard.
    fn addresses(&self) -> Vec<PeerAddress> {
        let world = self.control.world();
        let others = world.nodes.values().filter(|node| node.id != self.here && node.is_online());
        others.map(|node| PeerAddress { node: node.id, address: node.address.clone() }).collect()
    }

    /// Whether the key came from there.
    async fn ask(&self, from: PeerAddress, (project, name): Sought) -> bool {
        let wanted = Wanted::Key { project, name };
        let fetched = async {
            let pipe = self.peers.fetch(&from, &wanted).await?;
            self.arrivals.land(&wanted, pipe).await
        };
        match tokio::time::timeout(ANSWERS_WITHIN, fetched).await {
            Ok(Ok(_)) => true,
            Ok(Err(DriverError::NotFound(_))) | Err(_) => false,
            Ok(Err(error)) => {
                tracing::warn!(%project, member = %from.node, %error, "a key does not come");
                false
            }
        }
    }
}

/// Whose keys the configurations in the world are sealed with.
fn sealed_in(world: &World) -> BTreeSet<(ProjectId, KeyName)> {
    let instances = world.instances.values().flat_map(|instance| {
        let snapshots = instance.snapshots.values().map(|snapshot| &snapshot.config);
        snapshots.chain([&instance.config])
    });
    let configs = instances.chain(world.profiles.values().map(|profile| &profile.config));
    let texts = configs.flat_map(|config| config.values()).filter(|text| looks_sealed(text));
    texts.filter_map(|text| key_of(text)).collect()
}

fn key_of(sealed: &str) -> Option<(ProjectId, KeyName)> {
    let Sealed { project, key, .. } = sealed.parse().ok()?;
    Some((project, key))
}

#[async_trait]
impl Sealer for ClusterKeys {
    fn seal(&self, project: ProjectId, plain: &str) -> Result<String, SecretError> {
        self.keys.seal(project, plain)
    }

    /// A key that other members may have is not erased for good.
    fn open(&self, sealed: &str) -> Result<String, SecretError> {
        let opened = self.keys.open(sealed);
        if let Err(SecretError::Erased(project)) = &opened
            && self.others.get().is_some()
            && let Some((_, name)) = key_of(sealed)
            && !self.is_nowhere(&(*project, Some(name)))
        {
            self.missed.notify_one();
            return Err(SecretError::Failed(format!(
                "the key of project {project} is being fetched from the other members; try again"
            )));
        }
        opened
    }

    async fn prepare(&self, seals_for: Option<ProjectId>, opens: Vec<String>) {
        let sealed = opens.iter().filter(|text| looks_sealed(text));
        let sought: BTreeSet<_> = sealed.filter_map(|text| key_of(text)).collect();
        for (project, name) in sought {
            self.seek((project, Some(name))).await;
        }
        if let Some(project) = seals_for {
            self.seek((project, None)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missed_alone_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ClusterKeys::new(ProjectKeys::open(dir.path()).unwrap());
        let project = ProjectId::derive(&["test"]);
        keys.prepare(Some(project), Vec::new()).await;
        let sealed = keys.seal(project, "tomato").unwrap();
        keys.prepare(Some(project), vec![sealed.clone(), "clear".to_owned()]).await;
        assert_eq!(keys.open(&sealed).unwrap(), "tomato");
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(keys.open(&sealed), Err(SecretError::Erased(project)));
    }
}
