//! `STAPES_DIR/cluster/config`: that this node is a member, of which cluster, and how its log is reached.
//!
//! The file is the switch: with it the daemon starts as a member, without it as a server that stands
//! alone, whatever else lies beside it. It appears whole, after all that it speaks of.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use stapes_api::backend::LogAccess;
use stapes_core::ids::NodeId;
use stapes_node::files;
use uuid::Uuid;

use super::super::directory::Directory;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterConfig {
    pub(crate) cluster: Uuid,
    /// `host:port` where the API is served to other members and remote clients.
    pub(crate) address: String,
    pub(crate) name: String,
    /// The hash of the token's secret that this node joined with; `None` of the first member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joined_with: Option<String>,
    pub(crate) log: LogPlace,
}

/// Who runs the log's servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogPlace {
    /// The daemons, one beside each.
    Managed {
        /// Whether this node's server keeps the log, rather than passing on what is said.
        keeper: bool,
        /// The other members, as they were known last: where the server looks when it starts.
        peers: Vec<Neighbour>,
    },
    /// Somebody else.
    External {
        servers: Vec<String>,
        /// Joiners are handed it, too.
        #[serde(default, skip_serializing_if = "LogAccess::is_empty")]
        access: LogAccess,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    pub(crate) node: NodeId,
    /// Of its API.
    pub(crate) address: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path} cannot be used")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not what stapes wrote: {source}; restore it, or remove the member from its \
         cluster and join again"
    )]
    Damaged { path: PathBuf, source: serde_json::Error },
}

impl ClusterConfig {
    /// `None`: this node stands alone.
    pub(crate) fn read(directory: &Directory) -> Result<Option<Self>, ConfigError> {
        let path = directory.cluster_config();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| ConfigError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Io { path, source }),
        }
    }

    /// Durable and whole when it answers: from now on it is what the daemon starts as.
    pub(crate) fn write(&self, directory: &Directory) -> Result<(), ConfigError> {
        let path = directory.cluster_config();
        let failed = |source| ConfigError::Io { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other);
        bytes.and_then(|bytes| files::replace(&path, &bytes)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_torn_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::prepare(dir.path()).unwrap();
        assert_eq!(ClusterConfig::read(&directory).unwrap(), None);
        fs::create_dir(dir.path().join("cluster")).unwrap();
        let config = ClusterConfig {
            cluster: Uuid::from_u128(1),
            address: "10.0.0.1:8443".to_owned(),
            name: "n1".to_owned(),
            joined_with: None,
            log: LogPlace::Managed { keeper: true, peers: Vec::new() },
        };
        config.write(&directory).unwrap();
        assert_eq!(ClusterConfig::read(&directory).unwrap(), Some(config));
        fs::write(directory.cluster_config(), "{\"cluster\"").unwrap();
        let error = ClusterConfig::read(&directory).unwrap_err();
        assert!(error.to_string().contains("join again"), "{error}");
    }

    /// Daemons of other versions read the file, and joiners are sent the place.
    #[test]
    fn what_is_not_needed_to_reach_the_log_is_not_written() {
        let place = |credentials: &str| LogPlace::External {
            servers: vec!["nats://10.0.0.9:4222".to_owned()],
            access: LogAccess { credentials: credentials.to_owned(), ..LogAccess::default() },
        };
        for (place, text) in [
            (place(""), r#"{"external":{"servers":["nats://10.0.0.9:4222"]}}"#),
            (
                place("SU0"),
                r#"{"external":{"servers":["nats://10.0.0.9:4222"],"access":{"credentials":"SU0"}}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&place).unwrap(), text);
            assert_eq!(serde_json::from_str::<LogPlace>(text).unwrap(), place);
        }
    }
}
