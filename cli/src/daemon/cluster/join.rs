//! This node becomes a member of another node's cluster.
//!
//! ```text
//! check ─► ask a member (token) ─► identity ─► server, log ─► CONFIG ─► JoinNode
//! ```
//!
//! From `config` on a daemon that starts anew finishes what is left; a refusal takes it back.

use std::{fs, io, time::Duration};

use chrono::Utc;
use stapes_api::{
    backend::{Joining, Refusal},
    joining::{JoinError, ask_to_join},
};
use stapes_control::{Control, Request, SubmitError};
use stapes_core::{
    command::Command,
    ids::NodeId,
    node::{Join, Start},
    port::log::EventLog,
    record::Actor,
    rejection::Rejection,
    world::World,
};
use stapes_nats::managed::Stop;
use stapes_node::{
    files,
    identity::{
        ClusterIdentity, IdentityError, JoinToken, Member as Membership, TokenError, hash_secret,
    },
};
use uuid::Uuid;

use super::{
    super::directory::Directory,
    Alone,
    admit::{Admitted, Asked},
    clear::clear,
    config::{ClusterConfig, ConfigError},
    found::{check_free_of, host},
    member::{MemberError, Reached, reach},
    refused,
    servers::{AddressError, Places},
};

/// Names in a refusal at most.
const NAMED_MAX: usize = 5;
/// How long the log may take to be read once.
const READ_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub(super) enum JoiningError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "the join token is for a member called {token}, not {wanted}; leave the name out, or make a token for it: stapes cluster add {wanted}"
    )]
    OtherName { token: String, wanted: String },
    #[error(
        "this server has another history: {0}; delete or copy away what is to be kept, or join with an empty STAPES_DIR; nothing was changed"
    )]
    OtherHistory(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(
        "{address} cannot be listened on: {source}; give an address of this server whose port, and the two after it, are free"
    )]
    Taken { address: std::net::SocketAddr, source: io::Error },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("no member lets this server in: {0}")]
    Nobody(String),
    #[error(
        "the member that answered is of cluster {found}, the join token of {token}: make a new one with `stapes cluster add NAME` on a member; nothing was changed"
    )]
    OtherCluster { token: Uuid, found: Uuid },
    #[error("the member's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the keys cannot be kept")]
    Keys(#[source] io::Error),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// Why the cluster did not take this node in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// For good: the token is of no use any more.
    #[error("the cluster refuses this server: {0}")]
    Refused(Rejection),
    #[error("the cluster cannot be asked now: {0}")]
    Later(String),
}

pub(super) async fn join(
    directory: &Directory,
    node: NodeId,
    alone: &Alone,
    control: &Control,
    wanted: &Joining,
) -> Result<(), Refusal> {
    clear(directory).await;
    let outcome = Box::pin(attempt(directory, node, alone, control, wanted)).await;
    match &outcome {
        Ok(()) => {}
        // The switch is made; the daemon that starts anew goes on asking.
        Err(JoiningError::Entry(EntryError::Later(why))) => {
            tracing::warn!(why, "the cluster is asked again after the start");
            return Ok(());
        }
        Err(error) => {
            tracing::error!(error = super::told(error), "not joined");
            undo(directory).await;
        }
    }
    outcome.map_err(|error| refused(&error))
}

/// Back to a node that stands alone.
pub(crate) async fn undo(directory: &Directory) {
    if let Err(error) = files::remove(&directory.cluster_config()) {
        tracing::error!(%error, "the node's configuration as a member is still there");
    }
    clear(directory).await;
}

async fn attempt(
    directory: &Directory,
    node: NodeId,
    alone: &Alone,
    control: &Control,
    wanted: &Joining,
) -> Result<(), JoiningError> {
    let token = JoinToken::parse(&wanted.token, Utc::now())?;
    if !wanted.name.is_empty() && wanted.name != token.name {
        let (token, wanted) = (token.name, wanted.name.clone());
        return Err(JoiningError::OtherName { token, wanted });
    }
    refuse_history(&control.world())?;
    let places = Places::of(&wanted.address).await?;
    check_free_of(&places, true)
        .await
        .map_err(|(address, source)| JoiningError::Taken { address, source })?;
    let request = ClusterIdentity::request(directory.path(), node)?;
    let asked =
        Asked { secret: token.secret.clone(), node, request, address: wanted.address.clone() };
    let admitted = ask(&token, &asked).await?;
    // Who answered is proved by the fingerprint; a token without the id takes its word for that.
    if let Some(of_token) = token.cluster.filter(|of_token| *of_token != admitted.cluster) {
        return Err(JoiningError::OtherCluster { token: of_token, found: admitted.cluster });
    }
    let hosts = vec![host(&wanted.address).to_owned()];
    let membership = Membership { cluster: admitted.cluster, node, hosts };
    let identity = ClusterIdentity::install(
        directory.path(),
        &membership,
        &admitted.admission,
        &token.fingerprint,
    )?;
    keep_keys(directory, &admitted).map_err(JoiningError::Keys)?;
    let secret_hash = hash_secret(token.secret.expose());
    let config = ClusterConfig {
        cluster: admitted.cluster,
        address: wanted.address.clone(),
        name: admitted.name,
        joined_with: Some(secret_hash),
        log: admitted.log,
    };
    // That the log can be reached is proved before anything is switched.
    let Reached { server, log, .. } = reach(directory, &identity, &config).await?;
    config.write(directory)?;
    let entered = async {
        let control = Control::new(std::sync::Arc::new(log) as std::sync::Arc<dyn EventLog>);
        let follow = tokio::spawn(control.clone().follow());
        let entered = enter(&control, &config, &identity, alone.start.clone()).await;
        follow.abort();
        entered
    };
    let entered = entered.await;
    if let Err(EntryError::Refused(_)) = &entered
        && let Some(server) = server
        && let Err(error) = server.stop(Stop::Now).await
    {
        tracing::warn!(%error, "the log's server is not ended");
    }
    Ok(entered?)
}

/// Makes this node a member on the log. Repeating it changes nothing.
pub(crate) async fn enter(
    control: &Control,
    config: &ClusterConfig,
    identity: &ClusterIdentity,
    start: Start,
) -> Result<(), EntryError> {
    let Some(secret_hash) = config.joined_with.clone() else { return Ok(()) };
    let later = |error: SubmitError| EntryError::Later(error.to_string());
    match tokio::time::timeout(READ_WITHIN, control.caught_up()).await {
        Ok(read) => read.map_err(later)?,
        Err(_) => return Err(EntryError::Later("the log is not read in time".to_owned())),
    }
    if control.world().nodes.contains_key(&start.node) {
        return Ok(());
    }
    let join = Join {
        start,
        address: config.address.clone(),
        fingerprint: identity.certificate().fingerprint().to_string(),
        secret_hash,
    };
    let joined = control.submit(Command::JoinNode(Box::new(join)), Request::by(Actor::system()));
    match joined.await {
        Ok(_) => Ok(()),
        Err(SubmitError::Rejected(why)) => Err(EntryError::Refused(why)),
        Err(error) => Err(later(error)),
    }
}

/// What it has would be lost: it belongs to another log.
fn refuse_history(world: &World) -> Result<(), JoiningError> {
    let named = |what: &str, mut names: Vec<&str>| {
        let more = if names.len() > NAMED_MAX { ", ..." } else { "" };
        names.truncate(NAMED_MAX);
        JoiningError::OtherHistory(format!("it has {what} of its own: {}{more}", names.join(", ")))
    };
    let instances: Vec<&str> = world.instances.values().map(|it| it.name.as_str()).collect();
    if !instances.is_empty() {
        return Err(named("instances", instances));
    }
    let volumes: Vec<&str> = world.volumes.values().map(|it| it.name.as_str()).collect();
    if !volumes.is_empty() {
        return Err(named("custom volumes", volumes));
    }
    Ok(())
}

async fn ask(token: &JoinToken, asked: &Asked) -> Result<Admitted, JoiningError> {
    let question = serde_json::to_value(asked)?;
    let mut whys = Vec::new();
    for address in &token.addresses {
        match ask_to_join(address, &token.fingerprint, &question).await {
            Ok(answer) => return Ok(serde_json::from_value(answer)?),
            // One that cannot sign is no reason to give up; another may.
            Err(error) if error.is_of_one_member() => whys.push(error.to_string()),
            Err(JoinError::Refused(refusal)) if refusal.error_code == 503 => {
                whys.push(format!("{address}: {}", refusal.text));
            }
            Err(error) => {
                let hint = if let JoinError::Refused(refusal) = &error {
                    refusal.hint.clone()
                } else {
                    None
                };
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                return Err(JoiningError::Nobody(format!("{error}{hint}")));
            }
        }
    }
    Err(JoiningError::Nobody(whys.join("; ")))
}

/// They take the place of this node's own when it is a member.
fn keep_keys(directory: &Directory, admitted: &Admitted) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = directory.cluster().join("keys");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    for (name, bytes) in &admitted.keys {
        if name.contains('/') || !name.ends_with(".key") {
            return Err(io::Error::other(format!("{name:?} is no key's name")));
        }
        files::replace(&dir.join(name), bytes)?;
    }
    Ok(())
}
