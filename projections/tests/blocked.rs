//! A record that cannot be taken stops the views, loudly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use stapes_core::{
    ids::{CommitId, Revision, Sequence, StreamId, StreamKind},
    port::log::{
        AppendError, Appended, Commit, EventLog, Expected, Followed, Follower, Part, ReadError,
        Stored,
    },
};
use stapes_projections::{Blocked, QueryError, Status, Views};
use support::{House, SOON, run};
use uuid::Uuid;

#[tokio::test]
async fn an_undecodable_record_stops_the_views_there() {
    let mut house = House::new().await;
    let whole = house.head();
    let part = Part {
        stream: StreamId::new(StreamKind::Instance, Uuid::nil()),
        expected: Expected::Any,
        payload: b"of a later version".as_slice().into(),
    };
    let id = CommitId(Uuid::from_u128(1));
    house.log.append(Commit { id, parts: vec![part] }).await.unwrap();
    let running = run(house.shared_log(), None).await;
    let behind = running.views.wait_for(whole.next(), SOON).await.unwrap_err();
    let Some(Blocked::Undecodable { sequence, .. }) = behind.blocked else { panic!("{behind:?}") };
    assert_eq!((sequence, behind.at), (whole.next(), whole));
    let Status::Blocked { at, .. } = running.views.status() else { panic!() };
    assert_eq!(at, whole);
    // What was before is still there to be read, and is indexed.
    assert_eq!(*running.views.world(), house.world);
    assert_eq!(running.views.timeline_all(Sequence(0), 1000).await.unwrap().at, whole);
    let mut following = running.views.follow(Some(whole));
    assert!(matches!(following.next().await, Some(Err(QueryError::Blocked(_)))));
    house.tasks.clear();
}

/// A log that shows what another one holds, as long as it is told to.
#[derive(Debug)]
struct Cut {
    inner: Arc<dyn EventLog>,
    skip: Option<Sequence>,
    regressed: bool,
}

#[async_trait]
impl EventLog for Cut {
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.inner.append(commit).await
    }

    async fn read(&self, first: Sequence, count: usize) -> Result<Vec<Stored>, ReadError> {
        self.inner.read(first, count).await
    }

    async fn read_stream(&self, id: StreamId, after: Revision) -> Result<Vec<Stored>, ReadError> {
        self.inner.read_stream(id, after).await
    }

    async fn follow(&self, after: Sequence) -> Result<Follower, ReadError> {
        if self.regressed {
            return Err(ReadError::Regressed { asked: after, head: Sequence(0) });
        }
        let skip = self.skip;
        let whole = self.inner.follow(after).await?;
        let cut = move |followed: Result<Followed, ReadError>| match followed {
            Ok(Followed::Records(mut records)) => {
                records.retain(|record| Some(record.sequence) != skip);
                stream::iter([Ok(Followed::Records(records))])
            }
            other => stream::iter([other]),
        };
        Ok(whole.flat_map(cut).boxed())
    }

    async fn head(&self) -> Result<Sequence, ReadError> {
        self.inner.head().await
    }

    async fn cursor(&self, name: &str) -> Result<Sequence, ReadError> {
        self.inner.cursor(name).await
    }

    async fn set_cursor(&self, name: &str, at: Sequence) -> Result<(), AppendError> {
        self.inner.set_cursor(name, at).await
    }
}

async fn blocked(log: Cut) -> Blocked {
    let views = Views::open(None, Arc::new(log), Default::default()).await.unwrap();
    tokio::time::timeout(SOON, views.run()).await.unwrap()
}

#[tokio::test]
async fn a_gap_stops_the_views() {
    let house = House::new().await;
    let skip = Some(Sequence(3));
    let log = Cut { inner: house.shared_log(), skip, regressed: false };
    assert_eq!(blocked(log).await, Blocked::Gap { missing: Sequence(3) });
}

#[tokio::test]
async fn a_log_that_went_backwards_stops_the_views() {
    let house = House::new().await;
    let log = Cut { inner: house.shared_log(), skip: None, regressed: true };
    assert!(matches!(blocked(log).await, Blocked::Regressed { .. }));
}
