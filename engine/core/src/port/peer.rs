//! The peer port: what one node fetches from another.
//!
//! ```text
//! target: Peers::fetch ──── mutual TLS ────► source: Sources::send (storage, images, checkpoints)
//!            │ pipe                                     │ pipe
//!            ▼                                          ▼
//!         Arrivals::land (whole or not at all) ◄── bytes ┘
//! ```
//!
//! The target always pulls. A stream that breaks off ends early in the pipe, and everything that
//! [`Arrivals`] and [`super::storage::Storage`] take says itself where it ends, so that half of it is never taken
//! for the whole.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{DriverError, secret::KEY_NAME_BYTES};
use crate::ids::{
    Fingerprint, InstanceId, NodeId, OperationId, PoolId, ProjectId, SnapshotId, VolumeId,
};

/// Where a node is found and how it is known: its certificate names the node, and the cluster's
/// authority signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}

/// What a node can ask another for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// A snapshot of a root volume, as the difference to its parent if there is one.
    Root {
        pool: PoolId,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
        /// Take the snapshot first if it is not there.
        make: bool,
    },
    /// An unpacked image: the layer below roots.
    Image { pool: PoolId, fingerprint: Fingerprint },
    /// The files of an image, as uploaded.
    ImageFiles { fingerprint: Fingerprint },
    /// What a held guest was, written down for this operation.
    Checkpoint { instance: InstanceId, operation: OperationId },
    /// The key of a project's secrets: the one of that name, or the one that the node seals with.
    Key { project: ProjectId, name: Option<[u8; KEY_NAME_BYTES]> },
}

/// Where a node keeps what [`Wanted::Checkpoint`] names, below its directory of checkpoints: written
/// there by the guest's driver at the source, landed there at the target.
#[must_use]
pub fn checkpoint_dir(checkpoints: &Path, operation: OperationId) -> PathBuf {
    checkpoints.join(operation.to_string())
}

/// The other nodes, as this one asks them.
#[async_trait]
pub trait Peers: Send + Sync + std::fmt::Debug + 'static {
    /// The read end of a pipe that is being fed. What the other node refuses is answered here; when
    /// it fails later the stream ends before its own end mark. Closing the pipe stops the other side.
    async fn fetch(&self, from: &PeerAddress, wanted: &Wanted) -> Result<OwnedFd, DriverError>;
}

/// Of a node that stands alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

#[async_trait]
impl Peers for Nobody {
    async fn fetch(&self, from: &PeerAddress, _wanted: &Wanted) -> Result<OwnedFd, DriverError> {
        let node = from.node;
        Err(DriverError::Refused(format!("This node is in no cluster and cannot ask {node}")))
    }
}

/// What this node has for others.
#[async_trait]
pub trait Sources: Send + Sync + std::fmt::Debug + 'static {
    /// Writes it into the pipe and says how many bytes that were. Stops when nobody reads.
    async fn send(&self, wanted: &Wanted, into: OwnedFd) -> Result<u64, DriverError>;
}

/// Keeps what was fetched, under the ids that it was asked for by.
#[async_trait]
pub trait Arrivals: Send + Sync + std::fmt::Debug + 'static {
    /// It is there whole, or not at all; fine when it was there. Says how many bytes were read.
    async fn land(&self, wanted: &Wanted, from: OwnedFd) -> Result<u64, DriverError>;
}
