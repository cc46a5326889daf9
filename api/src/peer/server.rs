//! The serving side: what [`Sources`] writes into a pipe goes out as frames.
//!
//! When the client goes away the body is dropped, with it the pipe's read end, and the source's next
//! write fails. When the source says nothing for a while, pulses tell the client that it lives.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde::Deserialize;
use stapes_core::port::{
    DriverError,
    peer::{Sources, Wanted},
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::{self, Receiver},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::timeout,
};

use super::{
    IsMember, PATH,
    frame::{self, End, HEAD_BYTES},
};
use crate::tls::PeerCertificate;

/// Transfers that are served at a time. A node asks for few, and again when it is told to.
const TRANSFERS_MAX: usize = 16;
const PULSE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
struct Serving {
    sources: Arc<dyn Sources>,
    room: Arc<Semaphore>,
}

/// The routes of transfers, for members only.
pub fn router(sources: Arc<dyn Sources>, is_member: IsMember) -> Router {
    let room = Arc::new(Semaphore::new(TRANSFERS_MAX));
    let router = Router::new().route(PATH, get(transfer)).with_state(Serving { sources, room });
    members_only(router, is_member)
}

/// Lets nodes in that are members now, and nobody else.
pub fn members_only(router: Router, is_member: IsMember) -> Router {
    router.layer(middleware::from_fn(
        move |certificate: Option<Extension<PeerCertificate>>, request: Request, next: Next| {
            let node = certificate.and_then(|Extension(certificate)| certificate.node);
            let admitted = node.is_some_and(|node| is_member(node));
            async move { if admitted { next.run(request).await } else { stranger(node) } }
        },
    ))
}

fn stranger(node: Option<stapes_core::ids::NodeId>) -> Response {
    let text = match node {
        Some(node) => format!("node {node} is no member of this cluster"),
        None => "only members of the cluster may ask for this".to_owned(),
    };
    refuse(StatusCode::FORBIDDEN, DriverError::Refused(text))
}

/// Before there is a body to fail in.
fn refuse(status: StatusCode, error: DriverError) -> Response {
    (status, frame::end(&End::Failed(error.into()))).into_response()
}

#[derive(Deserialize)]
struct Asked {
    wanted: String,
}

async fn transfer(State(serving): State<Serving>, Query(asked): Query<Asked>) -> Response {
    let wanted: Wanted = match serde_json::from_str(&asked.wanted) {
        Ok(wanted) => wanted,
        Err(error) => {
            let text = format!("what is wanted cannot be understood: {error}");
            return refuse(StatusCode::BAD_REQUEST, DriverError::Refused(text));
        }
    };
    let Ok(permit) = serving.room.try_acquire_owned() else {
        let text = format!("{TRANSFERS_MAX} transfers are under way at this node: try again");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, DriverError::Failed(text));
    };
    match Outgoing::begin(serving.sources, wanted, permit) {
        Ok(outgoing) => {
            let frames = futures::stream::unfold(outgoing, async |outgoing| {
                let (frame, rest) = outgoing?.next().await;
                Some((Ok::<_, std::io::Error>(frame), rest))
            });
            Body::from_stream(frames).into_response()
        }
        Err(error) => {
            let text = format!("no pipe could be made: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, DriverError::Failed(text))
        }
    }
}

/// A transfer under way.
struct Outgoing {
    pipe: Receiver,
    /// Open until the pipe's end was seen.
    open: bool,
    source: JoinHandle<Result<u64, DriverError>>,
    bytes: u64,
    hash: blake3::Hasher,
    _permit: OwnedSemaphorePermit,
}

impl Outgoing {
    fn begin(
        sources: Arc<dyn Sources>,
        wanted: Wanted,
        permit: OwnedSemaphorePermit,
    ) -> std::io::Result<Option<Self>> {
        let (sender, pipe) = pipe::pipe()?;
        let into = sender.into_blocking_fd()?;
        // Not aborted when the client goes: it sees its pipe broken, and ends in its own order.
        let source = tokio::spawn(async move {
            let sent = sources.send(&wanted, into).await;
            match &sent {
                Ok(_) => {}
                // A question, answered.
                Err(error @ DriverError::NotFound(_)) => {
                    tracing::debug!(?wanted, %error, "nothing is sent");
                }
                Err(error) => tracing::warn!(?wanted, %error, "nothing more is sent"),
            }
            sent
        });
        let (bytes, hash) = (0, blake3::Hasher::new());
        Ok(Some(Self { pipe, open: true, source, bytes, hash, _permit: permit }))
    }

    /// The next frame, and what comes after it.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        if self.open {
            let mut piece = frame::blank();
            match timeout(PULSE, self.pipe.read_buf(&mut piece)).await {
                Err(_) => return (frame::pulse(), Some(self)),
                Ok(Ok(0)) => self.open = false,
                Ok(Ok(read)) => {
                    self.bytes += read as u64;
                    self.hash.update(&piece[HEAD_BYTES..]);
                    return (frame::seal(piece), Some(self));
                }
                Ok(Err(error)) => {
                    let text = format!("reading what is sent: {error}");
                    return (frame::end(&End::Failed(DriverError::Failed(text).into())), None);
                }
            }
        }
        let Ok(sent) = timeout(PULSE, &mut self.source).await else {
            return (frame::pulse(), Some(self));
        };
        let end = match sent {
            Ok(Ok(bytes)) if bytes == self.bytes => {
                End::Whole { bytes, blake3: self.hash.finalize().to_string() }
            }
            Ok(Ok(bytes)) => {
                let text = format!("{bytes} bytes were to be sent, and {} came", self.bytes);
                End::Failed(DriverError::Failed(text).into())
            }
            Ok(Err(error)) => End::Failed(error.into()),
            Err(error) => {
                let text = format!("sending stopped in the middle: {error}");
                End::Failed(DriverError::Failed(text).into())
            }
        };
        (frame::end(&end), None)
    }
}
