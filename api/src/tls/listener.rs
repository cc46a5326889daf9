//! Serves a router over TLS. Handlers find a [`PeerCertificate`] among the request's extensions if
//! the client showed a certificate, and its [`SocketAddr`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    PeerCertificate, TlsConfig,
    stall::{Impatient, STALL},
};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Of a request; also between two of them on one connection.
const HEAD: Duration = Duration::from_secs(60);
/// Requests under way when the daemon stops have so long.
const GRACE: Duration = Duration::from_secs(10);
/// After an error of accepting, which is the host's (no file descriptors, no memory).
const BREATH: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct TlsListener {
    listener: TcpListener,
    config: TlsConfig,
}

impl TlsListener {
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs, config: TlsConfig) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, config })
    }

    /// Where it listens; the port is a real one.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready; then requests under way have a moment to end, and are cut off.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()> + Send) {
        let stopping = CancellationToken::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = async {
                let permit = room.clone().acquire_owned().await.expect("nobody closes it");
                (permit, self.listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut stop => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (router, config) = (router.clone(), self.config.clone());
                    let stopping = stopping.clone();
                    let connection = Connection { router, config, address, stopping };
                    while connections.try_join_next().is_some() {}
                    connections.spawn(connection.serve(stream, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        drop(self.listener);
        stopping.cancel();
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("connections are cut off: their requests did not end in time");
        }
    }
}

struct Connection {
    router: Router,
    config: TlsConfig,
    address: SocketAddr,
    stopping: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let _permit = permit;
        // Answers are small and awaited.
        let _as_it_is = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(self.config.server.clone());
        let handshake = acceptor.accept(Impatient::new(stream, STALL));
        let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(address = %self.address, %error, "no TLS");
                return;
            }
            Err(_) => {
                tracing::debug!(address = %self.address, "no TLS in time");
                return;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = self.config.peer(shown);
        let service = service_fn(|request| self.answer(request, certificate.as_ref()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(address = %self.address, %error, "a connection broke");
        }
    }

    fn answer(
        &self,
        mut request: Request<Incoming>,
        certificate: Option<&PeerCertificate>,
    ) -> impl Future<Output = Result<axum::response::Response, std::convert::Infallible>> + use<>
    {
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        request.extensions_mut().insert(self.address);
        self.router.clone().call(request)
    }
}
