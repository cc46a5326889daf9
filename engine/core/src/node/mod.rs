//! A node: a machine that runs `stapes daemon`. The dialect calls it a member.
//!
//! ```text
//! started ─► online ─ lost ─► unreachable ─ fenced ─► fenced
//!              ▲  ▲               │ returned            │ started
//!              │  └───────────────┘                     │
//!              └────────────────────────────────────────┘
//! online ─ evacuation requested ─► evacuating ─ evacuated ─► evacuated ─ restored ─► online
//! ```

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    cluster::GROUP_DEFAULT,
    config::{self, Changes, Config},
    ids::{NodeId, OperationId, StreamId, StreamKind},
    name::{Name, NameKind},
};

mod evacuate;
mod join;
mod manage;
mod reach;
mod remove;
mod start;

pub use evacuate::{Evacuation, evacuate, finish_evacuation, finish_restore, restore};
pub use join::{Join, join};
pub(crate) use manage::check_name;
pub use manage::{Configure, configure, rename};
pub use reach::{fence, lose, recover};
pub use remove::remove;
pub use start::{Start, start};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Of its last start.
    pub boot: Uuid,
    pub started_at: DateTime<Utc>,
    pub version: String,
    /// `host:port` where the other nodes and remote clients find it; empty when it stands alone.
    #[serde(default)]
    pub address: String,
    /// Of its certificate: sha256, hexadecimal.
    #[serde(default)]
    pub fingerprint: String,
    #[serde(default)]
    pub reach: Reach,
    /// Whether it takes instances.
    #[serde(default)]
    pub duty: Duty,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub config: Config,
    #[serde(default)]
    pub groups: BTreeSet<String>,
    #[serde(default)]
    pub failure_domain: String,
}

/// Whether the others hear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    #[default]
    Online,
    Unreachable {
        since: DateTime<Utc>,
    },
    /// What may run elsewhere does not run on it any more.
    Fenced {
        since: DateTime<Utc>,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    #[default]
    Serving,
    Evacuating {
        operation: OperationId,
        #[serde(default)]
        mode: Evacuation,
    },
    Evacuated,
    Restoring {
        operation: OperationId,
    },
}

/// How the cluster knows that a lost node runs nothing that may run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FencingProof {
    /// Its lease ran out, so that it fenced itself.
    LeaseExpired,
    /// Somebody says so who looked.
    Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Its daemon started. The first one makes the node known.
    Started {
        node: NodeId,
        name: String,
        /// e.g. `x86_64`.
        architecture: String,
        cpus: u32,
        memory_bytes: u64,
        /// Changes when the machine is rebooted.
        boot: Uuid,
        version: String,
    },
    /// It became a member, or its address or certificate changed.
    Joined {
        address: String,
        fingerprint: String,
    },
    /// The others hear nothing of it.
    Lost,
    /// It is heard again.
    Returned,
    Fenced {
        proof: FencingProof,
    },
    EvacuationRequested {
        operation: OperationId,
        #[serde(default)]
        mode: Evacuation,
    },
    Evacuated,
    /// Something stayed: it takes instances again.
    EvacuationFailed {
        error: String,
    },
    RestoreRequested {
        operation: OperationId,
    },
    /// It takes instances again; what came back is back.
    Restored,
    /// What is `None` stays.
    Configured {
        changes: Changes,
        description: Option<String>,
        groups: Option<BTreeSet<String>>,
        failure_domain: Option<String>,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed,
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Joined { .. } => "joined",
            Self::Lost => "lost",
            Self::Returned => "returned",
            Self::Fenced { .. } => "fenced",
            Self::EvacuationRequested { .. } => "evacuation-requested",
            Self::Evacuated => "evacuated",
            Self::EvacuationFailed { .. } => "evacuation-failed",
            Self::RestoreRequested { .. } => "restore-requested",
            Self::Restored => "restored",
            Self::Configured { .. } => "configured",
            Self::Renamed { .. } => "renamed",
            Self::Removed => "removed",
        }
    }
}

impl Node {
    #[must_use]
    pub fn stream(node: NodeId) -> StreamId {
        StreamId::new(StreamKind::Node, node)
    }

    /// The reservation of its name.
    #[must_use]
    pub fn held(name: &str) -> Name {
        Name::new(NameKind::Node, Uuid::nil(), name)
    }

    /// Whether instances may be put on it.
    #[must_use]
    pub const fn takes_instances(&self) -> bool {
        matches!(self.reach, Reach::Online) && matches!(self.duty, Duty::Serving)
    }

    /// Whether it can be asked to do something now.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        matches!(self.reach, Reach::Online)
    }

    /// As the dialect calls them.
    #[must_use]
    pub const fn roles(&self) -> &'static [&'static str] {
        if self.address.is_empty() { &[] } else { &["database"] }
    }

    /// The node that an [`Event::Started`] makes known.
    #[must_use]
    pub fn born(event: &Event, at: DateTime<Utc>) -> Option<Self> {
        let Event::Started { node, name, architecture, cpus, memory_bytes, boot, version } = event
        else {
            return None;
        };
        Some(Self {
            id: *node,
            name: name.clone(),
            architecture: architecture.clone(),
            cpus: *cpus,
            memory_bytes: *memory_bytes,
            boot: *boot,
            started_at: at,
            version: version.clone(),
            address: String::new(),
            fingerprint: String::new(),
            reach: Reach::Online,
            duty: Duty::Serving,
            description: String::new(),
            config: Config::new(),
            groups: BTreeSet::new(),
            failure_domain: String::new(),
        })
    }

    /// [`Event::Removed`] is the world's to apply: here it changes nothing.
    pub fn evolve(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::Started { architecture, cpus, memory_bytes, boot, version, .. } => {
                self.architecture.clone_from(architecture);
                (self.cpus, self.memory_bytes) = (*cpus, *memory_bytes);
                (self.boot, self.started_at) = (*boot, at);
                self.version.clone_from(version);
                self.reach = Reach::Online;
            }
            Event::Joined { address, fingerprint } => {
                self.address.clone_from(address);
                self.fingerprint.clone_from(fingerprint);
                if self.groups.is_empty() {
                    self.groups.insert(GROUP_DEFAULT.to_owned());
                }
            }
            Event::Lost => self.reach = Reach::Unreachable { since: at },
            Event::Returned => self.reach = Reach::Online,
            Event::Fenced { .. } => self.reach = Reach::Fenced { since: at },
            Event::EvacuationRequested { operation, mode } => {
                self.duty = Duty::Evacuating { operation: *operation, mode: *mode };
            }
            Event::Evacuated => self.duty = Duty::Evacuated,
            Event::RestoreRequested { operation } => {
                self.duty = Duty::Restoring { operation: *operation };
            }
            Event::Restored | Event::EvacuationFailed { .. } => self.duty = Duty::Serving,
            Event::Configured { changes, description, groups, failure_domain } => {
                config::apply(&mut self.config, changes);
                if let Some(description) = description {
                    self.description.clone_from(description);
                }
                if let Some(groups) = groups {
                    self.groups.clone_from(groups);
                }
                if let Some(failure_domain) = failure_domain {
                    self.failure_domain.clone_from(failure_domain);
                }
            }
            Event::Renamed { to, .. } => self.name.clone_from(to),
            Event::Removed => {}
        }
    }
}
