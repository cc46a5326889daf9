//! A follower misses nothing, sees nothing twice and acts on whole commits.

use super::*;
use crate::port::log::ReadError;

/// Reads until the follower says that it caught up, and checks what it gave on the way.
async fn until_caught_up(follower: &mut Follower, after: u64) -> Vec<Stored> {
    let mut seen: Vec<Stored> = Vec::new();
    loop {
        let at = after + seen.len() as u64;
        match next(follower).await {
            Followed::Records(records) => {
                check_records(&records, at);
                seen.extend(records);
            }
            Followed::CaughtUp(sequence) => {
                assert_eq!(sequence, Sequence(at), "it has caught up where it is");
                return seen;
            }
        }
    }
}

/// Reads until the record `until`; the follower must not say again that it caught up.
async fn until(follower: &mut Follower, after: u64, until: u64) -> Vec<Stored> {
    let mut seen: Vec<Stored> = Vec::new();
    while after + (seen.len() as u64) < until {
        match next(follower).await {
            Followed::Records(records) => {
                check_records(&records, after + seen.len() as u64);
                seen.extend(records);
            }
            Followed::CaughtUp(sequence) => panic!("caught up again, at {sequence}"),
        }
    }
    seen
}

fn check_records(records: &[Stored], after: u64) {
    let last = records.last().expect("a batch is not empty");
    assert!(last.last_in_commit, "a batch ends at the end of a commit");
    for (offset, record) in records.iter().enumerate() {
        assert_eq!(record.sequence, Sequence(after + 1 + offset as u64), "gapless and in order");
    }
}

/// There is nothing to catch up with, and that is said.
pub async fn an_empty_log_is_caught_up_with_at_once(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let mut follower = follow(&*log, 0).await;
    assert_eq!(next(&mut follower).await, Followed::CaughtUp(Sequence(0)));
    mixed(&*log, "was empty", 3).await;
    let records = everything(&*log).await;
    assert_eq!(until(&mut follower, 0, records.len() as u64).await, records);
}

/// From every point, in the middle of a commit too.
pub async fn a_follower_gets_everything_once_from_anywhere(maker: &dyn Maker) {
    let log = maker.fresh().await;
    mixed(&*log, "anywhere", 12).await;
    let records = everything(&*log).await;
    for after in 0..=records.len() {
        let mut follower = follow(&*log, after as u64).await;
        let seen = until_caught_up(&mut follower, after as u64).await;
        assert_eq!(seen, records[after..]);
    }
}

/// After catching up come the new records, and only they.
pub async fn a_follower_sees_what_comes_later(maker: &dyn Maker) {
    let log = maker.fresh().await;
    mixed(&*log, "earlier", 5).await;
    let before = head(&*log).await.0;
    let mut follower = follow(&*log, 2).await;
    until_caught_up(&mut follower, 2).await;
    for round in 0..3 {
        let at = head(&*log).await.0;
        mixed(&*log, &format!("later {round}"), 5).await;
        let now = head(&*log).await.0;
        assert!(now > at && at >= before);
        let seen = until(&mut follower, at, now).await;
        assert_eq!(seen, everything(&*log).await[usize::try_from(at).expect("small")..]);
    }
}

/// Several followers, started at any time while others write, each get everything once.
pub async fn every_follower_gets_everything(maker: &dyn Maker) {
    const WRITERS: u64 = 3;
    const COMMITS: u64 = 60;
    let log = maker.fresh().await;
    let total = WRITERS * COMMITS * 2;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for number in 0..COMMITS {
                    let parts =
                        [exactly(stream(writer.into()), number, "x"), anywhere(tasks(1), "y")];
                    let id = CommitId::derive(&["followed", &format!("{writer} {number}")]);
                    must_append(&*log, commit(id, parts)).await;
                }
            })
        })
        .collect();
    let followers: Vec<_> = (0..4)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let after = head(&*log).await.0;
                let mut follower = follow(&*log, after).await;
                let mut seen = until_caught_up(&mut follower, after).await;
                let at = after + seen.len() as u64;
                seen.extend(until(&mut follower, at, total).await);
                (after, seen)
            })
        })
        .collect();
    for writer in writers {
        soon("a writer", writer).await.expect("a writer does not panic");
    }
    let records = everything(&*log).await;
    assert_eq!(records.len() as u64, total);
    for follower in followers {
        let (after, seen) = soon("a follower", follower).await.expect("a follower does not panic");
        assert_eq!(seen, records[usize::try_from(after).expect("small")..]);
    }
}

/// A reader that is ahead of the log has read what the log lost.
pub async fn following_past_the_head_is_refused(maker: &dyn Maker) {
    let log = maker.fresh().await;
    for length in [0, 1, 2] {
        if length > 0 {
            let part = exactly(stream(1), length - 1, "a");
            must_append(&*log, commit(CommitId::derive(&["past", &length.to_string()]), [part]))
                .await;
        }
        for asked in [length + 1, length + 1000, u64::MAX] {
            match soon("follow", log.follow(Sequence(asked))).await.map(|_| ()) {
                Err(ReadError::Regressed { asked: told, head }) => {
                    assert_eq!((told, head), (Sequence(asked), Sequence(length)));
                }
                other => panic!("following after {asked} of {length} answered {other:?}"),
            }
        }
    }
}
