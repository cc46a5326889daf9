//! What a joiner and a member say to each other before the joiner has a certificate.

use std::{collections::BTreeMap, fs};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use stapes_api::backend::Refusal;
use stapes_control::Control;
use stapes_core::{ids::NodeId, rejection::Rejection};
use stapes_node::identity::{Admission, AuthorityKey, Member as Membership, Secret, hash_secret};
use uuid::Uuid;

use super::{
    super::directory::Directory,
    config::{LogPlace, Neighbour},
    found::host,
    refused,
    seat::Seat,
    servers,
};

/// So many members hold the authority's key: with one it could be lost, with all it could leak.
const SIGNERS: usize = 3;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) secret: Secret,
    pub(super) node: NodeId,
    /// For its certificate, PEM.
    pub(super) request: String,
    /// Where it will be found: `host:port`.
    pub(super) address: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Admitted {
    pub(super) cluster: Uuid,
    pub(super) name: String,
    pub(super) admission: Admission,
    pub(super) log: LogPlace,
    /// The projects' keys, by file name: what is sealed on one member is opened on another.
    pub(super) keys: BTreeMap<String, Vec<u8>>,
}

pub(super) fn admit(
    directory: &Directory,
    member: &Seat,
    control: &Control,
    asked: serde_json::Value,
) -> Result<serde_json::Value, Refusal> {
    let asked: Asked = serde_json::from_value(asked)
        .map_err(|error| Rejection::Invalid(format!("not a request to join: {error}")))?;
    let hash = hash_secret(asked.secret.expose());
    let (name, members, log) = {
        let world = control.world();
        let cluster = world.cluster()?;
        let mut tokens = cluster.tokens.iter();
        let found =
            tokens.find(|(_, token)| token.secret_hash == hash && token.expires_at > Utc::now());
        let (name, _) = found.ok_or_else(|| Rejection::NotAllowed {
            message: "No matching join token found: it was used, revoked or has expired".to_owned(),
            hint: "make a new one at a member: stapes cluster add NAME".to_owned(),
        })?;
        if let Some(other) = world.nodes.values().find(|node| node.address == asked.address) {
            return Err(Rejection::NotAllowed {
                message: format!(
                    "The cluster already has a member with address: {}",
                    asked.address
                ),
                hint: format!("it is {}; choose another address", other.name),
            }
            .into());
        }
        let log = match &member.config.log {
            external @ LogPlace::External { .. } => external.clone(),
            LogPlace::Managed { .. } => {
                let keep = servers::keepers(&world, &member.keeper_names());
                let peers: Vec<Neighbour> = servers::neighbours(&world, asked.node, &keep);
                LogPlace::Managed { keeper: false, peers }
            }
        };
        (name.clone(), world.nodes.len(), log)
    };
    let cluster = member.config.cluster;
    let hosts = vec![host(&asked.address).to_owned()];
    let membership = Membership { cluster, node: asked.node, hosts };
    let key = if members < SIGNERS { AuthorityKey::Shared } else { AuthorityKey::Kept };
    let admission = member.identity.admit(&asked.request, &membership, key, Utc::now());
    let admission = admission.map_err(|error| refused(&error))?;
    tracing::info!(node = %asked.node, name, address = asked.address, "a joiner is let in");
    let keys = keys(directory).map_err(|error| refused(&error))?;
    serde_json::to_value(Admitted { cluster, name, admission, log, keys })
        .map_err(|error| refused(&error))
}

fn keys(directory: &Directory) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(directory.keys())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".key") {
            keys.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(keys)
}
