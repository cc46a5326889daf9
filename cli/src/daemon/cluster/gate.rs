//! A log that can be closed for writing, so that it can be carried elsewhere while the daemon runs.

use std::sync::Arc;

use async_trait::async_trait;
use stapes_core::{
    ids::{Revision, Sequence, StreamId},
    port::log::{AppendError, Appended, Commit, EventLog, Follower, ReadError, Stored},
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

#[derive(Debug)]
pub(crate) struct Gated {
    log: Arc<dyn EventLog>,
    open: Arc<RwLock<()>>,
}

/// As long as it is held nothing is appended.
#[derive(Debug)]
pub(crate) struct Closed(#[allow(dead_code, reason = "held, not read")] OwnedRwLockWriteGuard<()>);

#[derive(Debug, thiserror::Error)]
#[error("this server is becoming a member of a cluster; try again in a moment")]
struct Moving;

impl Gated {
    pub(crate) fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, open: Arc::default() }
    }

    /// Waits for what is being appended, then lets nothing more in.
    pub(crate) async fn close(&self) -> Closed {
        Closed(self.open.clone().write_owned().await)
    }
}

#[async_trait]
impl EventLog for Gated {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        // Whoever comes while it is closed is told so at once: it may be the last of this daemon.
        let Ok(_open) = self.open.try_read() else {
            return Err(AppendError::Unavailable(Box::new(Moving)));
        };
        self.log.append(commit).await
    }

    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        self.log.read(first, count).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        after: Revision,
    ) -> Result<Vec<Stored>, ReadError> {
        self.log.read_stream(stream, after).await
    }

    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        self.log.follow(after).await
    }

    async fn head(&self) -> Result<Sequence, ReadError> {
        self.log.head().await
    }

    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        self.log.cursor(name).await
    }

    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.log.set_cursor(name, at).await
    }
}

#[cfg(test)]
mod tests {
    use stapes_core::{
        ids::{CommitId, StreamKind},
        port::log::{Expected, MemoryLog, Part},
    };

    use super::*;

    fn commit(name: &str) -> Commit {
        let stream = StreamId::derive(StreamKind::Server, &[name]);
        let part = Part { stream, expected: Expected::Any, payload: "x".into() };
        Commit { id: CommitId::derive(&[name]), parts: vec![part] }
    }

    #[tokio::test]
    async fn nothing_is_appended_while_it_is_closed() {
        let log = Gated::new(Arc::new(MemoryLog::default()));
        log.append(commit("a")).await.unwrap();
        let closed = log.close().await;
        let refused = log.append(commit("b")).await.unwrap_err();
        assert!(matches!(refused, AppendError::Unavailable(_)));
        assert_eq!(log.head().await.unwrap(), Sequence(1));
        drop(closed);
        log.append(commit("b")).await.unwrap();
    }
}
