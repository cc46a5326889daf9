//! The drivers of a real host.

use std::{path::PathBuf, sync::Arc};

use stapes_core::port::{
    DriverError,
    guest::Guests,
    image::Images,
    network::Networks,
    peer::{Nobody, Peers},
    storage::Storage,
};
use stapes_drivers::{
    exchange::Exchange,
    guest::{Containers, ContainersConfig},
    image::{ImageConfig, ImageStore},
    network::{HostNetworks, NetworkConfig},
    secret::ProjectKeys,
    storage::{HostStorage, StorageConfig},
};

use super::{cluster::ClusterKeys, directory::Directory};

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("the daemon needs root: run it as root, or try it with --simulated")]
    NotRoot,
    #[error("{program} is not beside {beside}: install the whole of stapes")]
    Missing { program: &'static str, beside: String },
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// What the node and the API work with.
#[derive(Clone, Debug)]
pub(crate) struct Drivers {
    pub(crate) guests: Arc<dyn Guests>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) secrets: Arc<ClusterKeys>,
    /// The other nodes; nobody where there is no cluster.
    pub(crate) peers: Arc<dyn Peers>,
    /// What this node has for others, and where it keeps what comes from them.
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) checkpoints: PathBuf,
    /// The real ones, which are told when the daemon goes.
    pub(crate) host: Option<(Arc<Containers>, Arc<HostNetworks>)>,
}

impl Drivers {
    pub(crate) fn for_node(&self) -> stapes_node::Drivers {
        stapes_node::Drivers {
            guests: self.guests.clone(),
            storage: self.storage.clone(),
            networks: self.networks.clone(),
            images: self.images.clone(),
            secrets: self.secrets.clone(),
            peers: self.peers.clone(),
            arrivals: self.exchange.clone(),
            checkpoints: self.checkpoints.clone(),
        }
    }

    pub(crate) fn for_api(&self) -> stapes_api::backend::Drivers {
        stapes_api::backend::Drivers {
            guests: self.guests.clone(),
            images: self.images.clone(),
            storage: self.storage.clone(),
            networks: self.networks.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// Lets go of what runs without stopping it.
    pub(crate) async fn retire(&self) {
        if let Some((containers, networks)) = &self.host {
            containers.retire();
            networks.stop().await;
        }
    }
}

/// # Errors
/// Without root, or when a part of stapes is missing.
pub(crate) fn drivers(
    directory: &Directory,
    secrets: Arc<ClusterKeys>,
) -> Result<Drivers, HostError> {
    if !is_root() {
        return Err(HostError::NotRoot);
    }
    let tag = directory.tag();
    let images =
        Arc::new(ImageStore::new(ImageConfig::new(directory.images(), beside("stapes-unpack")?))?);
    let storage: Arc<dyn Storage> = Arc::new(HostStorage::new(StorageConfig {
        pools_dir: directory.pools(),
        images: images.clone(),
        tag: format!("stapes{tag}"),
    }));
    let networks = Arc::new(HostNetworks::new(NetworkConfig {
        state_dir: directory.networks(),
        tag: tag.clone(),
    })?);
    let parent = if tag.is_empty() { "stapes".to_owned() } else { format!("stapes-{tag}") };
    let mut config = ContainersConfig::new(directory.run(), beside("stapes-shim")?, &parent);
    config.storage = Some(storage.clone());
    let guests = Arc::new(Containers::new(config)?);
    let checkpoints = directory.checkpoints();
    let exchange =
        Exchange::new(storage.clone(), images.clone(), secrets.own(), checkpoints.clone());
    Ok(Drivers {
        guests: guests.clone(),
        storage,
        peers: Arc::new(Nobody),
        exchange: Arc::new(exchange),
        checkpoints,
        networks: networks.clone(),
        images,
        secrets,
        host: Some((guests, networks)),
    })
}

/// The keys of secrets: apart from the log, so that deleting one erases what it sealed.
///
/// # Errors
/// When they cannot be kept.
pub(crate) fn secrets(directory: &Directory) -> Result<Arc<ClusterKeys>, HostError> {
    Ok(Arc::new(ClusterKeys::new(ProjectKeys::open(directory.keys())?)))
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A program of ours, where this one is.
pub(crate) fn beside(program: &'static str) -> Result<PathBuf, HostError> {
    let me = std::env::current_exe().unwrap_or_default();
    let path = me.with_file_name(program);
    if path.is_file() {
        Ok(path)
    } else {
        Err(HostError::Missing { program, beside: me.display().to_string() })
    }
}
