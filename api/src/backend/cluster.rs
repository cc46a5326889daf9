//! What the API needs of the cluster beside the log: who this node is, whether the log takes writes,
//! the way to other members, and the acts that make or change a membership.

use std::fmt;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stapes_core::{ids::NodeId, port::peer::PeerAddress};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Refusal;

/// A connection to another member, authenticated on both sides.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How the log is, as this node sees it. Looking at it waits for nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// `None` while the log takes writes; else since when it does not, and why.
    pub lost: Option<Lost>,
    pub log: LogKind,
    pub replicas: u32,
    /// Servers of the log that answer, of those that there are.
    pub servers_answering: u32,
    pub servers: u32,
    /// The end of the log as it was last told.
    pub head: u64,
    /// Members that this one does not hear, whatever the log says of them.
    pub unheard: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub since: DateTime<Utc>,
    pub why: String,
}

/// Whose the servers of the log are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogKind {
    /// Files of this node alone.
    #[default]
    Embedded,
    /// stapes runs one beside each of its first daemons.
    Managed,
    /// Somebody else's.
    External,
}

impl LogKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Managed => "managed",
            Self::External => "external",
        }
    }
}

/// What founds a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// This node's name as a member.
    pub name: String,
    /// `host:port` where it is to be found.
    pub address: String,
    /// Of log servers that are there; empty for own ones.
    pub log_servers: Vec<String>,
    pub log_access: LogAccess,
}

/// How log servers that are not ours let a node in, beside what their URLs say. Texts of files; empty
/// is none.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogAccess {
    /// Who signed the servers' certificates, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority: String,
    /// What this side shows, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What `nsc` hands out: a JWT with its seed, or a seed alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credentials: String,
}

impl LogAccess {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Debug for LogAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { authority, certificate, key, credentials } = self;
        let given = |text: &String| if text.is_empty() { "none" } else { "given" };
        f.debug_struct("LogAccess")
            .field("authority", &given(authority))
            .field("certificate", &given(certificate))
            .field("key", &given(key))
            .field("credentials", &given(credentials))
            .finish()
    }
}

/// What joins one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    pub token: String,
    /// As asked for; the token says it if empty.
    pub name: String,
    pub address: String,
}

/// A join token, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnToken {
    pub secret: String,
    /// What the log knows it by.
    pub secret_hash: String,
    /// Of the cluster's authority.
    pub fingerprint: String,
    /// As `stapes cluster join` takes it.
    pub text: String,
}

#[async_trait]
pub trait Clustering: Send + Sync + fmt::Debug + 'static {
    /// This node.
    fn here(&self) -> NodeId;

    /// `None` for a node that stands alone.
    fn health(&self) -> Option<Health>;

    /// What the member does for all, in the dialect's words: `database-leader`, `database`.
    fn roles(&self, node: NodeId) -> Vec<String>;

    /// Draws a secret for a node that may join; nothing is recorded by this.
    fn draw_token(
        &self,
        name: &str,
        addresses: &[String],
        expires_at: DateTime<Utc>,
    ) -> Result<DrawnToken, Refusal>;

    /// Makes this node the first of a new cluster. When it answers, the daemon is about to start
    /// anew as a member; guests are not touched.
    async fn found(&self, wanted: Founding) -> Result<(), Refusal>;

    /// Makes this node a member of another node's cluster; the same.
    async fn join(&self, wanted: Joining) -> Result<(), Refusal>;

    /// Answers what a joiner sent, JSON to JSON. The joiner is nobody yet: its secret is checked.
    async fn admit(&self, asked: serde_json::Value) -> Result<serde_json::Value, Refusal>;

    /// A connection to another member, for a request that is passed on.
    async fn connect(&self, to: &PeerAddress) -> Result<Box<dyn Connection>, Refusal>;
}
