//! Log servers that are not ours: reached as their operators say, in URLs and in files that they hand
//! out.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stapes_api::backend::LogAccess;
use stapes_nats::{Authentication, ConnectConfig, TlsFiles, managed::server_name};
use stapes_node::{files, identity::ClusterIdentity};

use super::super::directory::Directory;

/// How a seed alone begins: of a user's nkey.
const SEED: &str = "SU";

#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("{path} cannot be written")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "a client certificate needs its key, and the authority of the servers' certificates: give \
         --nats-cert, --nats-key and --nats-ca together"
    )]
    Halves,
}

/// The client library reads files, so what was handed out lies beside the node's own identity.
///
/// # Errors
/// When they do not belong together, or cannot be written.
pub(super) fn reached_by(
    directory: &Directory,
    identity: &ClusterIdentity,
    servers: &[String],
    access: &LogAccess,
) -> Result<ConnectConfig, AccessError> {
    let dir = directory.cluster().join("external");
    let file = |name: &str, text: &String| match text.is_empty() {
        true => Ok(None),
        false => keep(&dir, name, text).map(Some),
    };
    let LogAccess { authority, certificate, key, credentials } = access;
    let (authority, certificate) = (file("ca.pem", authority)?, file("cert.pem", certificate)?);
    let (key, path) = (file("key.pem", key)?, file("user", credentials)?);
    let (authority, tls) = match (authority, certificate, key) {
        (authority, None, None) => (authority, None),
        (Some(ca), Some(certificate), Some(key)) => (None, Some(TlsFiles { ca, certificate, key })),
        (None, ..) | (_, None, _) | (_, _, None) => return Err(AccessError::Halves),
    };
    let authentication = match path {
        None => Authentication::None,
        Some(path) if credentials.trim_start().starts_with(SEED) => Authentication::Nkey(path),
        Some(path) => Authentication::Credentials(path),
    };
    Ok(ConnectConfig {
        servers: servers.to_vec(),
        name: server_name(identity.node()),
        authentication,
        tls,
        authority,
        ..ConnectConfig::default()
    })
}

fn keep(dir: &Path, name: &str, text: &str) -> Result<PathBuf, AccessError> {
    let path = dir.join(name);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    match made.and_then(|()| files::replace(&path, text.as_bytes())) {
        Ok(()) => Ok(path),
        Err(source) => Err(AccessError::Write { path, source }),
    }
}
