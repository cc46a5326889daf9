//! Clears what an act left that did not come to its end: there is a directory and no `config` in it.

use std::{fs, io};

use stapes_nats::managed;

use super::super::directory::Directory;

/// Of a node that stands alone. What is left was never the truth.
pub(crate) async fn clear(directory: &Directory) {
    if directory.cluster_config().exists() {
        return;
    }
    if let Err(error) = managed::end_leftover(&directory.nats()).await {
        // Its files stay then, so that it is found again.
        tracing::warn!(error = super::told(&error), "a server of the log is not ended");
        return;
    }
    for path in [directory.cluster(), directory.cluster().with_extension("new"), directory.nats()] {
        match fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "cleared what an act left behind"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "not cleared"),
        }
    }
}
