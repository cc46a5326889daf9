//! Bytes between a guest's descriptors and a client's websockets.
//!
//! Payload is binary frames, the end of a stream an empty text frame. A client that goes away does
//! not stop the other direction: the program finds out by itself, as it would behind a broken pipe.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{sync::watch, time::timeout};

use super::descriptor::{Reader, Writer};

/// Bytes in one frame at most: what a pipe holds.
const CHUNK: usize = 64 << 10;
/// A program's children may keep its output open when it is gone. Nothing said for so long after
/// its end is nothing more to wait for.
const QUIET: Duration = Duration::from_millis(50);
/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Turns true when the program has ended.
pub(super) type Ended = watch::Receiver<bool>;

/// Where a program's output goes.
pub(super) trait Sink: Send {
    /// Takes the next bytes; false when nobody wants more.
    fn take(&mut self, bytes: Bytes) -> impl Future<Output = bool> + Send;
    /// There is no more.
    fn end(&mut self) -> impl Future<Output = ()> + Send;
}

/// The half of a websocket that a client reads.
#[derive(Debug)]
pub(super) struct SocketSink(pub(super) SplitSink<WebSocket, Message>);

impl Sink for SocketSink {
    async fn take(&mut self, bytes: Bytes) -> bool {
        self.0.send(Message::Binary(bytes)).await.is_ok()
    }

    async fn end(&mut self) {
        // The client may be gone; then nobody waits for the barrier.
        let _ = self.0.send(Message::Text("".into())).await;
    }
}

/// From the guest to the sink until the end of the stream, or until the program ended and its
/// output fell silent. Output that nobody wants is read and dropped, so that the program runs on.
pub(super) async fn forward<S: Sink>(from: &mut Reader, to: &mut S, mut ended: Ended) {
    let mut wanted = true;
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            () = fell_silent(&mut ended) => break,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) if wanted => wanted = to.take(Bytes::copy_from_slice(&buffer[..count])).await,
            Ok(_) => {}
        }
    }
    to.end().await;
}

/// Ready a moment after the program's end. Made anew for each read, so every read has its moment.
async fn fell_silent(ended: &mut Ended) {
    // An error means that the sender is gone, and with it the program.
    let _ = ended.wait_for(|ended| *ended).await;
    tokio::time::sleep(QUIET).await;
}

/// From the client to the guest until the client ends the stream.
pub(super) async fn feed(from: &mut SplitStream<WebSocket>, to: &mut Writer) {
    while let Some(Ok(message)) = from.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) if text.is_empty() => return,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if to.write_all(&bytes).await.is_err() {
            // The program reads no more. The client's bytes are taken and dropped.
            while let Some(Ok(_)) = from.next().await {}
            return;
        }
    }
}

/// Closes a socket after all of it was sent, and waits a little for the client to agree.
pub(super) async fn part(
    mut sink: SplitSink<WebSocket, Message>,
    mut rest: SplitStream<WebSocket>,
) {
    let _ = sink.send(Message::Close(None)).await;
    let gone = async { while let Some(Ok(_)) = rest.next().await {} };
    let _ = timeout(GOODBYE, gone).await;
}
