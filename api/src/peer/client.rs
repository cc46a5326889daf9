//! The asking side: frames from another node become a pipe.
//!
//! The last piece is held back until the end says that all came: what goes wrong at the very end is
//! a short stream for the reader, too, and never a whole one.

use std::{os::fd::OwnedFd, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use stapes_core::port::{
    DriverError,
    peer::{PeerAddress, Peers, Wanted},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        unix::pipe::{self, Sender},
    },
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    IsMember, PATH,
    frame::{End, Frame, Frames},
};
use crate::tls::{Impatient, STALL, TlsConfig, name_of, refusal};

/// Of everything that comes before a body.
const ANSWER: Duration = Duration::from_secs(10);
/// Longer than several pulses of the source.
const SILENCE: Duration = Duration::from_secs(20);
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Fetches from other nodes. Cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    tls: TlsConfig,
    is_member: IsMember,
    silence: Duration,
}

impl std::fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerClient").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl PeerClient {
    #[must_use]
    pub fn new(tls: TlsConfig, is_member: IsMember) -> Self {
        Self { tls, is_member, silence: SILENCE }
    }

    /// For tests: another node is given up when it says nothing for so long.
    #[must_use]
    pub fn giving_up_after(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// A connection to the node, which has proved that it is the one.
    ///
    /// # Errors
    /// When the node is no member, cannot be reached, or is not who it should be.
    pub async fn connect(&self, to: &PeerAddress) -> Result<TlsStream<Impatient>, DriverError> {
        let (node, address) = (to.node, &to.address);
        if !(self.is_member)(node) {
            let text = format!("node {node} is no member of this cluster: nothing is asked of it");
            return Err(DriverError::Refused(text));
        }
        let Some(client) = self.tls.client() else {
            let text = "this node is in no cluster: it has nobody to ask".to_owned();
            return Err(DriverError::Refused(text));
        };
        let unreachable = |error: &dyn std::fmt::Display| {
            DriverError::Failed(format!("node {node} cannot be reached at {address}: {error}"))
        };
        let connecting = async {
            let stream = TcpStream::connect(address.as_str()).await?;
            stream.set_nodelay(true)?;
            let stream = Impatient::new(stream, STALL);
            TlsConnector::from(client).connect(name_of(node), stream).await
        };
        match timeout(self.silence.min(ANSWER), connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if refusal(&error).is_some_and(is_of_certificate) => {
                Err(DriverError::Refused(format!(
                    "what answers at {address} does not prove to be node {node}: {error}. Nothing \
                     was fetched"
                )))
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(unreachable(&"it does not answer in time")),
        }
    }

    async fn ask(
        &self,
        from: &PeerAddress,
        wanted: &Wanted,
    ) -> Result<Response<Incoming>, DriverError> {
        let lost = lost(from);
        let stream = self.connect(from).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        // Ends with the answer's body, or when that is dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another node broke");
            }
        });
        let text = serde_json::to_string(wanted).expect("it has no maps and no failing parts");
        let text = utf8_percent_encode(&text, NON_ALPHANUMERIC);
        let request = Request::get(format!("{PATH}?wanted={text}"))
            .header("host", name_of(from.node).to_str().as_ref())
            .body(Empty::<Bytes>::new())
            .expect("the parts are in order");
        match timeout(self.silence, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(lost(&error)),
            Err(_) => Err(lost(&"it does not answer in time")),
        }
    }
}

#[async_trait]
impl Peers for PeerClient {
    async fn fetch(&self, from: &PeerAddress, wanted: &Wanted) -> Result<OwnedFd, DriverError> {
        let response = self.ask(from, wanted).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refusal(from, response).await);
        }
        let mut incoming = Frameset {
            body: response.into_body(),
            frames: Frames::default(),
            silence: self.silence,
            from: from.clone(),
        };
        // What is refused is told before anything else comes.
        let first = match incoming.next().await? {
            Frame::End(End::Failed(failure)) => return Err(failure.into()),
            first @ (Frame::Data(_) | Frame::Pulse | Frame::End(End::Whole { .. })) => first,
        };
        let no_pipe =
            |error: std::io::Error| DriverError::Failed(format!("no pipe could be made: {error}"));
        let (into, reader) = pipe::pipe().map_err(no_pipe)?;
        let reader = reader.into_blocking_fd().map_err(no_pipe)?;
        let wanted = wanted.clone();
        tokio::spawn(async move {
            if let Err(error) = feed(&mut incoming, first, into).await {
                let node = incoming.from.node;
                tracing::warn!(%node, ?wanted, %error, "what is fetched breaks off");
            }
        });
        Ok(reader)
    }
}

impl PeerClient {
    /// Why there is no body.
    async fn refusal(&self, from: &PeerAddress, response: Response<Incoming>) -> DriverError {
        let status = response.status();
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX);
        let body = timeout(self.silence, body.collect()).await;
        let mut frames = Frames::default();
        if let Ok(Ok(body)) = body {
            frames.take(&body.to_bytes());
        }
        match frames.next() {
            Ok(Some(Frame::End(End::Failed(failure)))) => failure.into(),
            Ok(_) | Err(_) => lost(from)(&format!("it answers {status}")),
        }
    }
}

/// Frames as they come.
struct Frameset {
    body: Incoming,
    frames: Frames,
    silence: Duration,
    from: PeerAddress,
}

impl Frameset {
    /// The next frame that is not a pulse.
    async fn next(&mut self) -> Result<Frame, DriverError> {
        loop {
            match self.frames.next().map_err(|error| lost(&self.from)(&error))? {
                Some(Frame::Pulse) => continue,
                Some(frame @ (Frame::Data(_) | Frame::End(_))) => return Ok(frame),
                None => {}
            }
            let lost = lost(&self.from);
            let piece = timeout(self.silence, self.body.frame());
            match piece.await.map_err(|_| lost(&"it has gone silent"))? {
                Some(Ok(piece)) => {
                    if let Some(data) = piece.data_ref() {
                        self.frames.take(data);
                    }
                }
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(lost(&"it broke off")),
            }
        }
    }
}

/// Writes what comes into the pipe; its last piece when all has come.
async fn feed(incoming: &mut Frameset, first: Frame, mut into: Sender) -> Result<(), DriverError> {
    let gone =
        |error: std::io::Error| DriverError::Failed(format!("nobody takes what came: {error}"));
    let (mut held, mut bytes, mut hash) = (Bytes::new(), 0, blake3::Hasher::new());
    let mut frame = first;
    loop {
        match frame {
            Frame::Data(piece) => {
                bytes += piece.len() as u64;
                hash.update(&piece);
                into.write_all(&held).await.map_err(gone)?;
                held = piece;
            }
            Frame::Pulse => {}
            Frame::End(End::Failed(failure)) => return Err(failure.into()),
            Frame::End(End::Whole { bytes: sent, blake3 }) => {
                if sent != bytes || blake3 != hash.finalize().to_string() {
                    let text = format!("{sent} bytes were sent, and others came");
                    return Err(DriverError::Failed(text));
                }
                return into.write_all(&held).await.map_err(gone);
            }
        }
        frame = incoming.next().await?;
    }
}

fn lost(from: &PeerAddress) -> impl Fn(&dyn std::fmt::Display) -> DriverError + use<> {
    let from = from.clone();
    move |why| {
        let (node, address) = (from.node, &from.address);
        DriverError::Failed(format!("node {node} at {address} failed in the middle: {why}"))
    }
}

/// Whether the other side is not who it should be, rather than broken.
fn is_of_certificate(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}
