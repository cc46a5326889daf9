//! Connections to the daemon: one a request, and websockets of their own.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::combinators::BoxBody;
use hyper::{Request, Response, Uri, body::Bytes, body::Incoming};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::UnixStream;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{ApiError, ClientError};
use crate::wire::envelope::Envelope;

pub(super) type Body = BoxBody<Bytes, std::io::Error>;
pub(super) type Socket = WebSocketStream<UnixStream>;

/// The host's name in requests over a unix socket; nobody resolves it.
const HOST: &str = "stapes";

/// How the daemon is reached.
#[derive(Clone)]
pub struct Transport {
    socket: Arc<Path>,
    pool: Client<UnixConnector, Body>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn unix(socket: &Path) -> Self {
        let connector = UnixConnector { socket: socket.to_owned() };
        // A connection that the daemon closes while it is idle fails the request that finds it; a new
        // one costs next to nothing on a socket of this host.
        let pool = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { socket: socket.into(), pool }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn uri(path: &str) -> Result<Uri, ClientError> {
        format!("http://{HOST}{path}").parse().map_err(ClientError::broken)
    }

    pub(super) async fn request(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, ClientError> {
        self.pool.request(request).await.map_err(|problem| {
            if problem.is_connect() {
                self.unreachable(&problem)
            } else {
                ClientError::broken(problem)
            }
        })
    }

    fn unreachable(&self, problem: &(dyn std::error::Error + 'static)) -> ClientError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(problem);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                let source = std::io::Error::new(error.kind(), error.to_string());
                return ClientError::Unreachable { socket: self.socket.to_path_buf(), source };
            }
            cause = error.source();
        }
        ClientError::Broken(problem.to_string())
    }

    /// Opens a websocket at `path`.
    pub(super) async fn websocket(&self, path: &str) -> Result<Socket, ClientError> {
        let stream = UnixStream::connect(&*self.socket).await.map_err(|source| {
            ClientError::Unreachable { socket: self.socket.to_path_buf(), source }
        })?;
        let (socket, _) =
            client_async(format!("ws://{HOST}{path}"), stream).await.map_err(refusal)?;
        Ok(socket)
    }
}

/// The daemon's reason for not opening a websocket, when it gave one.
fn refusal(problem: tokio_tungstenite::tungstenite::Error) -> ClientError {
    use tokio_tungstenite::tungstenite::Error;
    if let Error::Http(response) = &problem {
        let body = response.body().as_deref().unwrap_or_default();
        let status = response.status().as_u16();
        return ClientError::Api(api_error(status, body));
    }
    ClientError::broken(problem)
}

/// What an answer of this status with this body says went wrong.
pub(super) fn api_error(status: u16, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => ApiError {
            error_code: if envelope.error_code == 0 { status } else { envelope.error_code },
            text: envelope.error,
            code: envelope.code,
            hint: envelope.hint,
            facts: envelope.facts,
        },
        Err(_) => ApiError {
            error_code: status,
            text: String::from_utf8_lossy(body).trim().to_owned(),
            code: None,
            hint: None,
            facts: std::collections::BTreeMap::new(),
        },
    }
}

#[derive(Clone)]
struct UnixConnector {
    socket: PathBuf,
}

impl tower::Service<Uri> for UnixConnector {
    type Response = UnixConnection;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<UnixConnection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.socket.clone();
        Box::pin(
            async move { Ok(UnixConnection(TokioIo::new(UnixStream::connect(socket).await?))) },
        )
    }
}

/// hyper wants its own traits on a connection.
struct UnixConnection(TokioIo<UnixStream>);

impl Connection for UnixConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for UnixConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for UnixConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
