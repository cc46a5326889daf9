//! The events socket.

use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::{Client, ClientError, transport::Socket};
use crate::wire::event::Event;

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    socket: Socket,
}

impl EventStream {
    /// The next event; `None` when the daemon closed the stream.
    ///
    /// # Errors
    /// When the connection breaks or an event cannot be read.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        match text(&mut self.socket).await? {
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|source| ClientError::Decode { what: "/1.0/events".into(), source }),
            None => Ok(None),
        }
    }

    /// Says goodbye. Dropping the stream does without.
    pub async fn close(mut self) {
        // The daemon notices the end of the connection as well.
        let _ = self.socket.send(Message::Close(None)).await;
    }
}

/// The next text on a socket that carries text; `None` at its end.
pub(super) async fn text(socket: &mut Socket) -> Result<Option<String>, ClientError> {
    while let Some(message) = socket.next().await {
        match message.map_err(ClientError::broken)? {
            Message::Text(text) => return Ok(Some(text.to_string())),
            Message::Binary(bytes) => {
                return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
            }
            Message::Close(_) => return Ok(None),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(None)
}

impl Client {
    /// Listens to events of these types (`operation`, `lifecycle`, `logging`); all when empty.
    /// With `since`, first those after that sequence of the log.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn events(
        &self,
        types: &[&str],
        since: Option<u64>,
    ) -> Result<EventStream, ClientError> {
        let mut query = Vec::new();
        if !types.is_empty() {
            query.push(format!("type={}", types.join(",")));
        }
        query.extend(since.map(|since| format!("since={since}")));
        let join = if query.is_empty() { "" } else { "?" };
        let path = self.scoped(&format!("/1.0/events{join}{}", query.join("&")));
        Ok(EventStream { socket: self.transport.websocket(&path).await? })
    }
}
