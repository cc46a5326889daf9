//! Our log: every event that ever was, as CloudEvents, followed live.

use futures::StreamExt as _;
use serde_json::Value;

use super::{Client, ClientError, events, transport::Socket};

/// Lines of the log: CloudEvents, and `control` lines (`caught-up`, `gap`, `heartbeat`).
#[derive(Debug)]
pub struct LogStream {
    socket: Socket,
}

impl LogStream {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks or a line is no JSON.
    pub async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        match events::text(&mut self.socket).await? {
            Some(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|source| ClientError::Decode { what: "/1.0/log".into(), source }),
            None => Ok(None),
        }
    }

    /// As a stream that ends at the first error.
    pub fn into_stream(
        self,
    ) -> impl futures::Stream<Item = Result<Value, ClientError>> + Unpin + Send {
        futures::stream::unfold(Some(self), |state| async {
            let mut stream = state?;
            match stream.next().await {
                Ok(Some(line)) => Some((Ok(line), Some(stream))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }
}

impl Client {
    /// The log after sequence `since`, of one resource (`instance/web`) or of all; live when
    /// `follow`.
    ///
    /// # Errors
    /// When the daemon refuses or cannot be reached.
    pub async fn log(
        &self,
        since: Option<u64>,
        resource: Option<&str>,
        follow: bool,
    ) -> Result<LogStream, ClientError> {
        let mut path = format!("/1.0/log?follow={}", u8::from(follow));
        if let Some(since) = since {
            path.push_str(&format!("&since={since}"));
        }
        if let Some(resource) = resource {
            path.push_str(&format!("&resource={}", super::escape(resource)));
        }
        Ok(LogStream { socket: self.transport.websocket(&self.scoped(&path)).await? })
    }
}
