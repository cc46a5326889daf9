//! What a node had before it was a member: its own log is sealed aside as an archive; of a node that
//! joined, what its daemon made on the host for that log is taken away, and the cluster's keys take
//! the place of its own.
//!
//! Each step may be repeated, and is, until it is done.

use std::{fs, io, path::Path};

use serde::de::DeserializeOwned;
use stapes_core::spec::{NetworkSpec, PoolSpec};
use stapes_node::files;

use super::{
    super::{directory::Directory, host::Drivers},
    config::ClusterConfig,
};

/// Seals the old log aside. To be called before anything of the node's state is opened.
///
/// # Errors
/// When a directory cannot be renamed or made.
pub(crate) fn seal(directory: &Directory, config: &ClusterConfig) -> io::Result<()> {
    let suffix = format!("before-{}", config.cluster.simple());
    let aside = |path: &Path| path.with_extension(&suffix);
    let log = directory.log();
    if config.joined_with.is_some() && holds_something(&log)? {
        // The views, the keys and the node's memory are of the old log as well.
        let new_keys = directory.cluster().join("keys");
        if new_keys.exists() && !aside(&directory.keys()).exists() {
            rename(&directory.keys(), &aside(&directory.keys()))?;
        }
        if new_keys.exists() {
            fs::create_dir_all(directory.path())?;
            if holds_nothing_or_is_absent(&directory.keys())? {
                let _ = fs::remove_dir(directory.keys());
                rename(&new_keys, &directory.keys())?;
            }
        }
        if !aside(&directory.node()).exists() {
            rename(&directory.node(), &aside(&directory.node()))?;
        }
        remove(&directory.views())?;
    }
    if holds_something(&log)? {
        rename(&log, &aside(&log))?;
        tracing::info!(archive = %aside(&log).display(), "the old log is sealed aside");
    }
    for path in [directory.log(), directory.node(), directory.views()] {
        fs::create_dir_all(path)?;
    }
    Ok(())
}

fn holds_something(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn holds_nothing_or_is_absent(dir: &Path) -> io::Result<bool> {
    holds_something(dir).map(|some| !some)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }?;
    files::sync_parent(to)
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Takes away the pools and networks of the old log. What cannot be taken away now is tried again at
/// the next start.
pub(crate) async fn clean_host(directory: &Directory, config: &ClusterConfig, drivers: &Drivers) {
    let memory = directory.node().with_extension(format!("before-{}", config.cluster.simple()));
    for (path, pool) in specs::<PoolSpec>(&memory.join("pools")) {
        done(&path, drivers.storage.remove_pool(pool.pool).await);
    }
    for (path, network) in specs::<NetworkSpec>(&memory.join("networks")) {
        done(&path, drivers.networks.remove_network(network.network).await);
    }
}

fn done(path: &Path, outcome: Result<(), stapes_core::port::DriverError>) {
    match outcome {
        Ok(()) => drop(fs::remove_file(path)),
        Err(error) => tracing::warn!(path = %path.display(), %error, "still there from before"),
    }
}

fn specs<T: DeserializeOwned>(dir: &Path) -> Vec<(std::path::PathBuf, T)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter_map(|path| {
            let spec = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, spec))
        })
        .collect()
}
