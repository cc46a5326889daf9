//! A connection to the servers that keep a cluster's log: how to reach them, as whom, and how a
//! question is asked of JetStream.
//!
//! The client reconnects by itself, for ever; whoever waits for an answer has a limit of its own.

use std::{fmt, io, path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, Event, ServerAddr,
    client::{Request, RequestErrorKind},
    connection::State,
    jetstream,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{ApiError, OpenError};

/// How long a server may take to be connected to.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection that carries nothing is known to be dead after two or three of these.
const PING_EVERY: Duration = Duration::from_secs(3);
/// How long a lost connection waits before it is tried again, at most.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long JetStream may take to answer a question.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Where the servers are, and who asks.
#[derive(Clone, Debug, Default)]
pub struct ConnectConfig {
    /// `nats://host:port`, `tls://host:port`, with `user:password@` before the host if need be. The
    /// other servers of a cluster are learnt from the first that answers.
    pub servers: Vec<String>,
    /// Whether to keep to those servers, as when they are reached by a tunnel.
    pub only_these_servers: bool,
    /// What the servers show of this connection.
    pub name: String,
    pub authentication: Authentication,
    pub tls: Option<TlsFiles>,
    /// Who signed the servers' certificates, in PEM, when this side shows none of its own.
    pub authority: Option<PathBuf>,
    /// Answers come on subjects below this; for accounts that may subscribe to no others.
    pub inbox_prefix: Option<String>,
}

/// Who asks, unless the address or the client certificate says it.
#[derive(Clone, Default)]
pub enum Authentication {
    #[default]
    None,
    User {
        name: String,
        password: String,
    },
    /// A file with a JWT and its nkey seed, as `nsc` and the servers' operators hand it out.
    Credentials(PathBuf),
    /// A file with an nkey seed alone.
    Nkey(PathBuf),
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::User { name, .. } => f.debug_struct("User").field("name", name).finish(),
            Self::Credentials(path) => f.debug_tuple("Credentials").field(path).finish(),
            Self::Nkey(path) => f.debug_tuple("Nkey").field(path).finish(),
        }
    }
}

/// The files, in PEM, of TLS with both sides shown.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Who signed the servers' certificates.
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A cheap handle; clones share the connection.
#[derive(Clone)]
pub struct Connection {
    client: Client,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.client.server_info().server_name;
        f.debug_struct("Connection").field("server", &server).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// When none can be reached, or none lets this one in.
    pub async fn open(config: ConnectConfig) -> Result<Self, OpenError> {
        let addresses = parse(&config.servers)?;
        let shown = config.servers.iter().map(|address| without_password(address));
        let servers = shown.collect::<Vec<_>>().join(", ");
        let client = options(config, &addresses)?.connect(addresses).await.map_err(|source| {
            use async_nats::ConnectErrorKind::{
                Authentication, AuthorizationViolation, Dns, Io, MaxReconnects, ServerParse,
                TimedOut, Tls,
            };
            let servers = servers.clone();
            match source.kind() {
                ServerParse => OpenError::Address { address: servers, source: source.into() },
                Authentication | AuthorizationViolation => {
                    OpenError::NotLetIn { servers, source: source.into() }
                }
                Dns | Io | MaxReconnects | TimedOut | Tls => {
                    OpenError::Unreachable { servers, source: source.into() }
                }
            }
        })?;
        Ok(Self { client })
    }

    /// The name of the server that this is connected to, or was last.
    #[must_use]
    pub fn server(&self) -> String {
        self.client.server_info().server_name
    }

    /// The servers of its cluster, as far as it tells their addresses; itself at least.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.client.server_info().connect_urls.len().max(1)
    }

    /// Whether there is a server to talk to just now. The client's own word: its events come later,
    /// or not at all when there are many.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn jetstream(&self) -> jetstream::Context {
        let mut context = jetstream::new(self.client.clone());
        context.set_timeout(ANSWER_MAX);
        context
    }

    /// Asks JetStream; `subject` is what follows `$JS.API.`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &(impl Serialize + ?Sized),
    ) -> Result<T, ApiError> {
        if !self.is_connected() {
            return Err(ApiError::NotConnected);
        }
        let mut payload =
            serde_json::to_vec(question).map_err(|error| ApiError::Odd(error.into()))?;
        // Nothing to say is said by nothing.
        if payload == b"null" {
            payload.clear();
        }
        let request = Request::new().payload(payload.into()).timeout(Some(ANSWER_MAX));
        let subject = format!("$JS.API.{subject}");
        let answer =
            self.client.send_request(subject, request).await.map_err(|error| {
                match error.kind() {
                    RequestErrorKind::NoResponders => ApiError::NoResponders,
                    RequestErrorKind::TimedOut => ApiError::TimedOut,
                    RequestErrorKind::InvalidSubject
                    | RequestErrorKind::MaxPayloadExceeded
                    | RequestErrorKind::Other => ApiError::Odd(error.into()),
                }
            })?;
        match serde_json::from_slice(&answer.payload) {
            Ok(jetstream::response::Response::Ok(answer)) => Ok(answer),
            Ok(jetstream::response::Response::Err { error }) => Err(ApiError::Refused(error)),
            Err(error) => Err(ApiError::Odd(error.into())),
        }
    }
}

/// What is shown of an address must not hold a password.
fn without_password(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, rest)| rest)
}

fn parse(servers: &[String]) -> Result<Vec<ServerAddr>, OpenError> {
    let address = |text: &String| {
        text.parse().map_err(|source: io::Error| {
            let address = without_password(text).to_owned();
            OpenError::Address { address, source: source.into() }
        })
    };
    servers.iter().map(address).collect()
}

fn options(config: ConnectConfig, addresses: &[ServerAddr]) -> Result<ConnectOptions, OpenError> {
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .connection_timeout(CONNECT_MAX)
        // The own server first: another may not know this node yet.
        .retain_servers_order()
        .ping_interval(PING_EVERY)
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            (Duration::from_millis(50) * attempts.min(100)).min(RECONNECT_PAUSE_MAX)
        })
        .event_callback(event_callback(config.name));
    if config.only_these_servers {
        options = options.ignore_discovered_servers();
    }
    if let Some(prefix) = config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(files) = config.tls {
        options = options
            .require_tls(true)
            .add_root_certificates(files.ca)
            .add_client_certificate(files.certificate, files.key);
    }
    if let Some(authority) = config.authority {
        options = options.require_tls(true).add_root_certificates(authority);
    }
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|source| OpenError::Credentials { path: path.clone(), source })
    };
    let options = match &config.authentication {
        Authentication::None => {
            let named = addresses.iter().find_map(|address| {
                Some((address.username()?.to_owned(), address.password()?.to_owned()))
            });
            match named {
                Some((name, password)) => options.user_and_password(name, password),
                None => options,
            }
        }
        Authentication::User { name, password } => {
            options.user_and_password(name.clone(), password.clone())
        }
        Authentication::Credentials(path) => options
            .credentials(&read(path)?)
            .map_err(|source| OpenError::Credentials { path: path.clone(), source })?,
        Authentication::Nkey(path) => options.nkey(read(path)?.trim().to_owned()),
    };
    Ok(options)
}

/// What becomes of the connection, told to the operator. A refused subject shows here and nowhere else.
fn event_callback(
    name: String,
) -> impl Fn(Event) -> futures::future::Ready<()> + Send + Sync + 'static {
    move |event| {
        match &event {
            Event::Connected => tracing::debug!(%name, "connected to the log's server"),
            Event::Disconnected | Event::Closed => {
                tracing::warn!(%name, "the connection to the log's server is lost");
            }
            Event::LameDuckMode | Event::Draining => {
                tracing::info!(%name, %event, "the log's server is going away");
            }
            Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(%name, %event, "the connection to the log's server");
            }
        }
        futures::future::ready(())
    }
}
