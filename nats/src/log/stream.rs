//! The JetStream stream that is the log: how it is set up, whose it is, who leads it.

use std::{collections::HashMap, fmt, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        ErrorCode,
        stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType},
    },
};
use stapes_core::port::log::COMMIT_BYTES_MAX;
use tokio::time::Instant;

use super::{
    LogConfig,
    publish::{Outcome, Outgoing, publish},
    record::Names,
};
use crate::{
    connection::Connection,
    error::{ApiError, OpenError},
};

/// What the records of this version look like.
const FORMAT: &str = "1";
/// How long the servers themselves know an id.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(600);
/// The first version that knows ids within an atomic batch.
const VERSION_MIN: [u64; 3] = [2, 12, 1];
/// The first that syncs replicated commits once each rather than once a message.
const VERSION_ADVISED: [u64; 3] = [2, 15, 0];
/// What a record needs besides its payload.
const HEADERS_BYTES_MAX: usize = 4096;
/// How long servers that have just been started may take to find each other.
const SETTLE_MAX: Duration = Duration::from_secs(30);
/// How long replicas that are asked for may take to be whole.
const COPIED_MAX: Duration = Duration::from_secs(60);
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// The stream of the records.
fn log_config(names: &Names, config: &LogConfig) -> Config {
    Config {
        name: names.log.clone(),
        description: Some("the event log of a stapes cluster; written by stapes alone".to_owned()),
        subjects: vec![names.all()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: config.replicas,
        max_bytes: config.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        allow_direct: true,
        allow_atomic_publish: true,
        metadata: metadata(config),
        ..unlimited()
    }
}

/// The stream of the cursors: only the newest of each is kept.
fn cursors_config(names: &Names, config: &LogConfig) -> Config {
    Config {
        name: names.cursors.clone(),
        description: Some("how far readers of a stapes cluster's log got".to_owned()),
        subjects: vec![names.all_cursors()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        num_replicas: config.replicas,
        max_messages_per_subject: 1,
        metadata: metadata(config),
        ..unlimited()
    }
}

fn unlimited() -> Config {
    Config { max_bytes: -1, max_messages: -1, max_messages_per_subject: -1, ..Config::default() }
}

fn metadata(config: &LogConfig) -> HashMap<String, String> {
    let entry = |key: &str, value: String| (key.to_owned(), value);
    HashMap::from([
        entry("stapes-format", FORMAT.to_owned()),
        entry("stapes-cluster", config.cluster.to_string()),
    ])
}

/// Checks the server and makes what is not there.
pub(crate) async fn ensure(
    connection: &Connection,
    names: &Names,
    config: &LogConfig,
) -> Result<Info, OpenError> {
    check_replicas(config.replicas)?;
    check_server(connection).await?;
    let log = ensure_stream(connection, log_config(names, config), config).await?;
    ensure_stream(connection, cursors_config(names, config), config).await?;
    Ok(log)
}

fn check_replicas(replicas: usize) -> Result<(), OpenError> {
    match replicas {
        1 | 3 | 5 => Ok(()),
        _ => Err(OpenError::Replicas(replicas)),
    }
}

async fn check_server(connection: &Connection) -> Result<(), OpenError> {
    let info = connection.client().server_info();
    let server = info.server_name.clone();
    let version = parse_version(&info.version);
    if version < VERSION_MIN {
        return Err(OpenError::TooOld { server, version: info.version });
    }
    if version < VERSION_ADVISED {
        tracing::warn!(server, version = info.version, "nats-server 2.15 or newer is much faster");
    }
    // One without may pass the questions on to others of its cluster.
    if !info.jetstream && !is_passed_on(connection).await {
        return Err(OpenError::NoJetStream { server });
    }
    let needed = COMMIT_BYTES_MAX + HEADERS_BYTES_MAX;
    if info.max_payload < needed {
        return Err(OpenError::PayloadTooSmall { server, max: info.max_payload, needed });
    }
    match account(connection).await {
        Ok(()) => Ok(()),
        Err(error)
            if error.is(ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT)
                || error.is(ErrorCode::NO_ACCOUNT) =>
        {
            Err(OpenError::NotForAccount { server })
        }
        Err(error) if error.is(ErrorCode::JETSTREAM_NOT_ENABLED) => {
            Err(OpenError::NoJetStream { server })
        }
        Err(error) => Err(OpenError::Unavailable(error.into())),
    }
}

/// Whether some other server's JetStream answers.
async fn is_passed_on(connection: &Connection) -> bool {
    match connection.ask::<serde_json::Value>("INFO", &()).await {
        Err(ApiError::NoResponders) => false,
        Err(error) => !error.is(ErrorCode::JETSTREAM_NOT_ENABLED),
        Ok(_) => true,
    }
}

/// Whether JetStream works for the account.
async fn account(connection: &Connection) -> Result<(), ApiError> {
    let settling = Settling::new();
    loop {
        match connection.ask::<serde_json::Value>("INFO", &()).await {
            Ok(_) => return Ok(()),
            Err(error) => settling.pause(error).await?,
        }
    }
}

/// Major, minor and patch; what follows them, as in `2.12.0-RC.1`, is left out.
fn parse_version(text: &str) -> [u64; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(text.trim_start_matches('v').split('.')) {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        *number = digits.parse().unwrap_or(0);
    }
    numbers
}

async fn ensure_stream(
    connection: &Connection,
    wanted: Config,
    config: &LogConfig,
) -> Result<Info, OpenError> {
    let name = wanted.name.clone();
    let info = get_or_create(connection, &wanted).await.map_err(|error| match error.code() {
        Some(
            ErrorCode::CLUSTER_NO_PEERS
            | ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
            | ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ) => OpenError::TooFewServers { replicas: config.replicas, cause: error.to_string() },
        Some(ErrorCode::STREAM_SUBJECT_OVERLAP) => OpenError::Foreign {
            stream: name.clone(),
            found: "another stream has its subjects".to_owned(),
        },
        _ => OpenError::Unavailable(error.into()),
    })?;
    check_ours(&info.config, &wanted)?;
    Ok(info)
}

async fn get_or_create(connection: &Connection, wanted: &Config) -> Result<Info, ApiError> {
    let name = &wanted.name;
    let settling = Settling::new();
    loop {
        let mut answer = info(connection, name).await;
        if matches!(&answer, Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND)) {
            answer = connection.ask(&format!("STREAM.CREATE.{name}"), wanted).await;
        }
        // Another node was first, perhaps with another number of replicas.
        if matches!(&answer, Err(error) if error.is(ErrorCode::STREAM_NAME_EXIST)) {
            answer = info(connection, name).await;
        }
        match answer {
            Ok(info) => return Ok(info),
            Err(error) => settling.pause(error).await?,
        }
    }
}

/// A stream that is there already must be this cluster's, and keep what the log rests upon.
fn check_ours(found: &Config, wanted: &Config) -> Result<(), OpenError> {
    let foreign = |found: String| Err(OpenError::Foreign { stream: wanted.name.clone(), found });
    for (key, value) in &wanted.metadata {
        match found.metadata.get(key) {
            Some(other) if other == value => {}
            Some(other) => return foreign(format!("its {key} is {other}, not {value}")),
            None => return foreign(format!("it has no {key}")),
        }
    }
    let rules = |config: &Config| {
        let Config { storage, retention, discard, deny_delete, allow_direct, .. } = config;
        let atomic = config.allow_atomic_publish;
        let kept = (config.max_age, config.max_messages, config.max_messages_per_subject);
        (*storage, *retention, *discard, *deny_delete, *allow_direct, atomic, kept)
    };
    if rules(found) != rules(wanted) || found.subjects != wanted.subjects {
        return foreign("somebody changed its configuration".to_owned());
    }
    Ok(())
}

/// Patience with servers that find each other and choose a leader.
struct Settling(Instant);

impl Settling {
    fn new() -> Self {
        Self(Instant::now() + SETTLE_MAX)
    }

    /// Waits a while if asking again may help.
    async fn pause(&self, error: ApiError) -> Result<(), ApiError> {
        let passing = match &error {
            ApiError::NotConnected | ApiError::NoResponders | ApiError::TimedOut => true,
            ApiError::Refused(refusal) => matches!(
                refusal.error_code(),
                ErrorCode::CLUSTER_NOT_AVAILABLE
                    | ErrorCode::CLUSTER_NOT_LEADER
                    | ErrorCode::CLUSTER_NO_PEERS
                    | ErrorCode::STREAM_OFFLINE
                    | ErrorCode::STREAM_OFFLINE_REASON
            ),
            ApiError::Odd(_) => false,
        };
        if !passing || Instant::now() >= self.0 {
            return Err(error);
        }
        tracing::debug!(%error, "waiting for JetStream");
        tokio::time::sleep(SETTLE_PAUSE).await;
        Ok(())
    }
}

/// What the stream's leader knows of it. Without a leader nobody knows.
pub(crate) async fn info(connection: &Connection, stream: &str) -> Result<Info, ApiError> {
    let info: Info = connection.ask(&format!("STREAM.INFO.{stream}"), &()).await?;
    match &info.cluster {
        Some(cluster) if cluster.leader.is_none() => Err(ApiError::NoResponders),
        Some(_) | None => Ok(info),
    }
}

/// Changes how many replicas the log and its cursors have, and waits until they have them. A replica
/// that was never written to has no say when servers come back without the others, so something is
/// written.
pub(crate) async fn set_replicas(
    connection: &Connection,
    names: &Names,
    replicas: usize,
) -> Result<(), OpenError> {
    check_replicas(replicas)?;
    // The log comes last: who sees that it has its replicas knows that the cursors were given theirs.
    for name in [&names.cursors, &names.log] {
        update(connection, name, replicas).await.map_err(|error| match error {
            ApiError::Refused(_) => OpenError::TooFewServers { replicas, cause: error.to_string() },
            ApiError::NotConnected
            | ApiError::NoResponders
            | ApiError::TimedOut
            | ApiError::Odd(_) => OpenError::Unavailable(error.into()),
        })?;
    }
    let until = Instant::now() + COPIED_MAX;
    write_replicas(connection, names, replicas, until).await?;
    for name in [&names.cursors, &names.log] {
        copied(connection, name, replicas, until).await?;
    }
    Ok(())
}

/// Notes the number of replicas among the cursors.
async fn write_replicas(
    connection: &Connection,
    names: &Names,
    replicas: usize,
    until: Instant,
) -> Result<(), OpenError> {
    loop {
        let message = Outgoing {
            subject: names.cursor("replicas"),
            headers: HeaderMap::new(),
            payload: replicas.to_string().into(),
        };
        match publish(connection, message).await {
            Outcome::Stored { .. } | Outcome::Known => return Ok(()),
            Outcome::Full(what) => return Err(OpenError::Unavailable(what.into())),
            Outcome::Stale | Outcome::NotStored(_) | Outcome::Unknown(_)
                if Instant::now() < until =>
            {
                tokio::time::sleep(SETTLE_PAUSE).await;
            }
            Outcome::Stale => return Err(OpenError::Unavailable("others write there".into())),
            Outcome::NotStored(cause) | Outcome::Unknown(cause) => {
                return Err(OpenError::Unavailable(cause));
            }
        }
    }
}

/// Waits until every replica has all that there is.
async fn copied(
    connection: &Connection,
    name: &str,
    replicas: usize,
    until: Instant,
) -> Result<(), OpenError> {
    loop {
        let answer = info(connection, name).await;
        let kept = answer.as_ref().map(Keepers::of).unwrap_or_default();
        let everywhere = kept.others.iter().all(|replica| replica.current && !replica.offline);
        if answer.is_ok() && everywhere && kept.others.len() + 1 == replicas {
            return Ok(());
        }
        if Instant::now() >= until {
            let why = format!(
                "{name} is to have {replicas} replicas, which are still being copied ({kept}); wait, \
                 and set them again to know when they are whole"
            );
            return Err(OpenError::Unavailable(why.into()));
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
}

async fn update(connection: &Connection, name: &str, replicas: usize) -> Result<(), ApiError> {
    let settling = Settling::new();
    loop {
        let error = match info(connection, name).await {
            Ok(info) if info.config.num_replicas == replicas => return Ok(()),
            Ok(info) => {
                let config = Config { num_replicas: replicas, ..info.config };
                match connection.ask::<Info>(&format!("STREAM.UPDATE.{name}"), &config).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        settling.pause(error).await?;
    }
}

/// Who keeps the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepers {
    /// The server that decides the order; there is none while they choose one, or with one server.
    pub leader: Option<String>,
    pub others: Vec<Replica>,
}

/// A server that has a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    /// Whether it has all that the leader has.
    pub current: bool,
    pub offline: bool,
}

impl Keepers {
    pub(crate) fn of(info: &Info) -> Self {
        let Some(cluster) = &info.cluster else { return Self::default() };
        let others = cluster.replicas.iter().map(|peer| Replica {
            name: peer.name.clone(),
            current: peer.current,
            offline: peer.offline,
        });
        Self { leader: cluster.leader.clone(), others: others.collect() }
    }

    /// The same, where a copy has all only if it has all of this, too.
    pub(crate) fn and(mut self, of: &Self) -> Self {
        let whole = |name: &String| {
            of.leader.as_ref() == Some(name)
                || of.others.iter().any(|it| it.name == *name && it.current && !it.offline)
        };
        self.others.iter_mut().for_each(|replica| replica.current &= whole(&replica.name));
        self
    }

    /// How many copies have everything.
    #[must_use]
    pub fn current(&self) -> usize {
        1 + self.others.iter().filter(|replica| replica.current && !replica.offline).count()
    }
}

impl fmt::Display for Keepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.leader.as_deref().unwrap_or("nobody"))?;
        f.write_str(" led")?;
        for Replica { name, current, offline } in &self.others {
            let state = match (offline, current) {
                (true, _) => "offline",
                (false, true) => "current",
                (false, false) => "behind",
            };
            write!(f, ", {name} {state}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("2.15.1"), [2, 15, 1]);
        assert_eq!(parse_version("v2.12.0-RC.1"), [2, 12, 0]);
        assert!(parse_version("2.9.25") < VERSION_MIN);
        assert!(parse_version("2.12.1") >= VERSION_MIN);
        assert_eq!(parse_version("dev"), [0, 0, 0]);
    }
}
