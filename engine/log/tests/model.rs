//! The same acts on the log in memory and on the one on disk have the same answers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{stream, tempdir};
use proptest::prelude::*;
use stapes_core::{
    ids::{CommitId, Revision, Sequence},
    port::log::{
        AppendError, Appended, Commit, EventLog, Expected, Followed, MemoryLog, Part, Stored,
    },
};
use stapes_log::{Options, SegmentLog, verify};

use futures::StreamExt;

#[derive(Clone, Debug)]
enum Act {
    /// An id of few, so that some come twice; parts on few streams that expect roughly right.
    Append {
        id: u16,
        parts: Vec<(u8, Option<i8>, u16)>,
    },
    Read {
        first: u64,
        count: usize,
    },
    ReadStream {
        stream: u8,
        after: u64,
    },
    Follow {
        after: u64,
    },
    SetCursor {
        name: u8,
        at: u64,
    },
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let part = (0..6u8, proptest::option::of(prop_oneof![9 => Just(0i8), 1 => -2..3i8]), 0..900u16);
    let parts = prop_oneof![
        4 => proptest::collection::vec(part.clone(), 1..2),
        2 => proptest::collection::vec(part.clone(), 2..5),
        1 => proptest::collection::vec(part, 0..30),
    ];
    prop_oneof![
        12 => (0..400u16, parts).prop_map(|(id, parts)| Act::Append { id, parts }),
        2 => (0..200u64, 0..100usize).prop_map(|(first, count)| Act::Read { first, count }),
        2 => (0..6u8, 0..30u64).prop_map(|(stream, after)| Act::ReadStream { stream, after }),
        1 => (0..200u64).prop_map(|after| Act::Follow { after }),
        1 => (0..3u8, 0..9u64).prop_map(|(name, at)| Act::SetCursor { name, at }),
        1 => Just(Act::Reopen),
    ]
}

/// An answer to an append, in a form that can be compared.
fn shown(answer: Result<Appended, AppendError>) -> Result<Appended, String> {
    answer.map_err(|error| error.to_string())
}

async fn followed(log: &dyn EventLog, after: Sequence) -> Result<Vec<Stored>, String> {
    let mut follower = log.follow(after).await.map_err(|error| error.to_string())?;
    let mut seen = Vec::new();
    loop {
        match follower.next().await.unwrap().unwrap() {
            Followed::Records(records) => seen.extend(records),
            Followed::CaughtUp(_) => return Ok(seen),
        }
    }
}

async fn commit(model: &MemoryLog, id: u16, parts: Vec<(u8, Option<i8>, u16)>) -> Commit {
    let mut made = Vec::new();
    for (number, off, length) in parts {
        let stream = stream(number.into());
        let at = model.read_stream(stream, Revision(0)).await.unwrap().len() as u64;
        let expected = off.map_or(Expected::Any, |off| {
            Expected::Exact(Revision(at.saturating_add_signed(off.into())))
        });
        let payload = vec![number; length.into()].into();
        made.push(Part { stream, expected, payload });
    }
    Commit { id: CommitId::derive(&["model", &id.to_string()]), parts: made }
}

async fn compare(acts: Vec<Act>) {
    let options = Options { segment_bytes: 16 << 10, recent_bytes: 3000, queue: 4 };
    let dir = tempdir();
    let model = MemoryLog::default();
    let mut log = SegmentLog::open(dir.path(), options).unwrap();
    for act in acts {
        match act {
            Act::Append { id, parts } => {
                let commit = commit(&model, id, parts).await;
                let expected = shown(model.append(commit.clone()).await);
                assert_eq!(shown(log.append(commit).await), expected);
            }
            Act::Read { first, count } => assert_eq!(
                log.read(Sequence(first), count).await.unwrap(),
                model.read(Sequence(first), count).await.unwrap()
            ),
            Act::ReadStream { stream: number, after } => assert_eq!(
                log.read_stream(stream(number.into()), Revision(after)).await.unwrap(),
                model.read_stream(stream(number.into()), Revision(after)).await.unwrap()
            ),
            Act::Follow { after } => assert_eq!(
                followed(&log, Sequence(after)).await,
                followed(&model, Sequence(after)).await
            ),
            Act::SetCursor { name, at } => {
                log.set_cursor(&name.to_string(), Sequence(at)).await.unwrap();
                model.set_cursor(&name.to_string(), Sequence(at)).await.unwrap();
            }
            Act::Reopen => {
                drop(log);
                log = SegmentLog::open(dir.path(), options).unwrap();
            }
        }
        assert_eq!(log.head().await.unwrap(), model.head().await.unwrap());
    }
    for name in 0..3u8 {
        let name = name.to_string();
        assert_eq!(log.cursor(&name).await.unwrap(), model.cursor(&name).await.unwrap());
    }
    drop(log);
    assert_eq!(verify(dir.path()).unwrap().problems, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn answers_as_the_log_in_memory(acts in proptest::collection::vec(act(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(compare(acts));
    }
}
