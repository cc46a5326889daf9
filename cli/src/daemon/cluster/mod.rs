//! This node as a member of a cluster, or as one that may become a member.
//!
//! ```text
//!  alone ─ found ─► identity · server · log carried over · config ─┐
//!        ─ join ──► token · admission · server · JoinNode · config ─┴─► the daemon starts anew
//!  member: start ─► seat ─► server · log on JetStream · TLS ─► tend the servers, watch the log
//! ```
//!
//! `config` is the switch: killed before it is written the node stands alone as before, killed after
//! it the node is a member. Whatever else such a death leaves is cleared at the next start.

mod admit;
mod carry;
mod clear;
mod config;
mod ears;
mod external;
mod found;
mod gate;
mod health;
mod history;
mod join;
mod keys;
mod leases;
mod member;
mod seat;
mod servers;
mod tend;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use stapes_api::backend::{Clustering, Connection, DrawnToken, Founding, Health, Joining, Refusal};
use stapes_control::Control;
use stapes_core::{
    ids::{Fingerprint, NodeId},
    node::Start,
    port::peer::PeerAddress,
};
use stapes_node::identity::{JoinToken, Secret, hash_secret};
use tokio::sync::{Mutex, watch};

use super::directory::Directory;

pub(crate) use clear::clear;
pub(crate) use config::{ClusterConfig, ConfigError};
pub(crate) use ears::MemberEars;
pub(crate) use gate::Gated;
pub(crate) use health::listen;
pub(crate) use history::{clean_host, seal};
pub(crate) use join::{EntryError, enter, undo};
pub(crate) use keys::{ClusterKeys, Others};
pub(crate) use leases::GuestLeases;
pub(crate) use member::{Member, MemberError, is_member_by};
pub(crate) use seat::Seat;
pub(crate) use tend::tend;

/// What a node that stands alone has to give to a cluster.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) log: Arc<Gated>,
    pub(crate) start: Start,
}

#[derive(Debug)]
enum Standing {
    Alone(Alone),
    Member(Arc<Seat>),
}

/// The port that the API uses; a cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Here(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: Directory,
    node: NodeId,
    standing: Standing,
    /// Control is made over the log that this opens.
    control: OnceLock<Control>,
    /// One act at a time changes what this node is.
    act: Mutex<()>,
    again: watch::Sender<bool>,
}

impl Here {
    pub(crate) fn alone(directory: Directory, node: NodeId, alone: Alone) -> Self {
        Self::new(directory, node, Standing::Alone(alone))
    }

    pub(crate) fn member(directory: Directory, node: NodeId, seat: Arc<Seat>) -> Self {
        Self::new(directory, node, Standing::Member(seat))
    }

    fn new(directory: Directory, node: NodeId, standing: Standing) -> Self {
        let again = watch::Sender::new(false);
        let (control, act) = (OnceLock::new(), Mutex::default());
        Self(Arc::new(Inner { directory, node, standing, control, act, again }))
    }

    pub(crate) fn governs(&self, control: &Control) {
        // It is told once, by whoever made both.
        let _ = self.0.control.set(control.clone());
    }

    fn control(&self) -> Result<&Control, Refusal> {
        let missing = || Refusal::Unavailable("the daemon is not ready yet".to_owned());
        self.0.control.get().ok_or_else(missing)
    }

    /// Ready when the daemon is to start anew, as something else than it is.
    pub(crate) fn again(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut again = self.0.again.subscribe();
        async move {
            let _ = again.wait_for(|again| *again).await;
        }
    }

    fn begin_again(&self) {
        self.0.again.send_replace(true);
    }

    fn as_member(&self) -> Result<&Arc<Seat>, Refusal> {
        match &self.0.standing {
            Standing::Member(seat) => Ok(seat),
            Standing::Alone(_) => Err(Refusal::Unavailable(
                "this server is a member of no cluster; see: stapes cluster enable".to_owned(),
            )),
        }
    }

    fn as_alone(&self) -> Result<&Alone, Refusal> {
        match &self.0.standing {
            Standing::Alone(alone) => Ok(alone),
            Standing::Member(_) => Err(Refusal::Unavailable(
                "this server is a member of a cluster already; see: stapes cluster list".to_owned(),
            )),
        }
    }
}

#[async_trait]
impl Clustering for Here {
    fn here(&self) -> NodeId {
        self.0.node
    }

    fn health(&self) -> Option<Health> {
        match &self.0.standing {
            Standing::Member(seat) => Some(seat.health()),
            Standing::Alone(_) => None,
        }
    }

    fn roles(&self, node: NodeId) -> Vec<String> {
        self.as_member().map(|member| member.roles(node)).unwrap_or_default()
    }

    fn draw_token(
        &self,
        name: &str,
        addresses: &[String],
        expires_at: DateTime<Utc>,
    ) -> Result<DrawnToken, Refusal> {
        let member = self.as_member()?;
        let secret = Secret::draw();
        let fingerprint: Fingerprint = member.identity.authority_fingerprint().clone();
        let token = JoinToken {
            name: name.to_owned(),
            fingerprint: fingerprint.clone(),
            addresses: addresses.to_vec(),
            secret: secret.clone(),
            expires_at,
            cluster: Some(member.config.cluster),
        };
        Ok(DrawnToken {
            secret_hash: hash_secret(secret.expose()),
            secret: secret.expose().to_owned(),
            fingerprint: fingerprint.to_string(),
            text: token.encode(),
        })
    }

    async fn found(&self, wanted: Founding) -> Result<(), Refusal> {
        let _turn = self.turn()?;
        found::found(&self.0.directory, self.0.node, self.as_alone()?, &wanted).await?;
        self.begin_again();
        Ok(())
    }

    async fn join(&self, wanted: Joining) -> Result<(), Refusal> {
        let _turn = self.turn()?;
        let alone = self.as_alone()?;
        join::join(&self.0.directory, self.0.node, alone, self.control()?, &wanted).await?;
        self.begin_again();
        Ok(())
    }

    async fn admit(&self, asked: serde_json::Value) -> Result<serde_json::Value, Refusal> {
        let member = self.as_member()?;
        admit::admit(&self.0.directory, member, self.control()?, asked)
    }

    async fn connect(&self, to: &PeerAddress) -> Result<Box<dyn Connection>, Refusal> {
        self.as_member()?.connect(to).await
    }
}

impl Here {
    fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Refusal> {
        let busy =
            |_| Refusal::Unavailable("this server is being made a member already; wait".to_owned());
        if *self.0.again.borrow() {
            return Err(Refusal::Unavailable("the daemon is about to start anew".to_owned()));
        }
        self.0.act.try_lock().map_err(busy)
    }
}

/// The error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// Nothing was done, and why.
fn refused(error: &dyn std::error::Error) -> Refusal {
    Refusal::Unavailable(told(error))
}
