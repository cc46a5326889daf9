//! What a commit may be, where it lands, and what refuses it.

use super::*;
use crate::port::log::{COMMIT_BYTES_MAX, PARTS_MAX};

/// Sequences are gapless from 1 in the log, revisions in each stream, and the answer says where.
pub async fn positions_are_gapless(maker: &dyn Maker) {
    let log = maker.fresh().await;
    assert_eq!(head(&*log).await, Sequence(0), "an empty log ends before everything");
    let one = must_append(&*log, commit(id("gapless", 1), [exactly(stream(1), 0, "a")])).await;
    assert_eq!(one, Appended { first: Sequence(1), last: Sequence(1), duplicate: false });
    let parts = [
        exactly(stream(1), 1, "b"),
        exactly(stream(2), 0, "c"),
        anywhere(tasks(1), "d"),
        anywhere(tasks(1), "e"),
    ];
    let four = must_append(&*log, commit(id("gapless", 2), parts)).await;
    assert_eq!(four, Appended { first: Sequence(2), last: Sequence(5), duplicate: false });
    assert_eq!(head(&*log).await, Sequence(5));
    let records = everything(&*log).await;
    let shown: Vec<_> = records
        .iter()
        .map(|r| (r.sequence.0, r.stream, r.revision.0, r.commit, r.last_in_commit, &r.payload[..]))
        .collect();
    let (first, second) = (id("gapless", 1), id("gapless", 2));
    let expected: Vec<(_, _, _, _, _, &[u8])> = vec![
        (1, stream(1), 1, first, true, b"a"),
        (2, stream(1), 2, second, false, b"b"),
        (3, stream(2), 1, second, false, b"c"),
        (4, tasks(1), 1, second, false, b"d"),
        (5, tasks(1), 2, second, true, b"e"),
    ];
    assert_eq!(shown, expected);
}

/// A stale expectation is a conflict that tells where the stream is, whichever part is stale, too
/// far back or too far ahead, and nothing is changed by it.
pub async fn a_stale_expectation_changes_nothing(maker: &dyn Maker) {
    let log = maker.fresh().await;
    must_append(&*log, commit(id("stale", 1), [exactly(stream(1), 0, "a")])).await;
    must_append(&*log, commit(id("stale", 2), [exactly(stream(1), 1, "b")])).await;
    let before = everything(&*log).await;
    for (number, stale) in [0, 1, 3, u64::MAX].into_iter().enumerate() {
        let alone = vec![exactly(stream(1), stale, "x")];
        let last = vec![
            exactly(stream(2), 0, "x"),
            anywhere(tasks(1), "x"),
            exactly(stream(1), stale, "x"),
        ];
        let mut first = last.clone();
        first.reverse();
        for (shape, parts) in [alone, last, first].into_iter().enumerate() {
            let refused = append(&*log, commit(id("stale no", number * 3 + shape), parts)).await;
            match refused {
                Err(AppendError::Conflict { stream: at, actual }) => {
                    assert_eq!((at, actual), (stream(1), Revision(2)));
                }
                other => panic!("{stale} is stale, the log answered {other:?}"),
            }
            assert_eq!(everything(&*log).await, before, "a refused commit changes nothing");
        }
    }
    assert!(history(&*log, stream(2), 0).await.is_empty());
    assert!(history(&*log, tasks(1), 0).await.is_empty());
    // The refused id was never appended, so it is free.
    let again = must_append(&*log, commit(id("stale no", 0), [exactly(stream(1), 2, "c")])).await;
    assert_eq!(again, Appended { first: Sequence(3), last: Sequence(3), duplicate: false });
}

/// All records of a commit are there, together and in order, or none.
pub async fn a_commit_is_whole_or_absent(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let writers = (0..4u128).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0..10u64 {
                let parts = [
                    exactly(stream(writer), number, "own"),
                    anywhere(tasks(7), "task"),
                    anywhere(tasks(7), "task"),
                ];
                let id = CommitId::derive(&["whole", &format!("{writer} {number}")]);
                must_append(&*log, commit(id, parts)).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        soon("a writer", writer).await.expect("a writer does not panic");
    }
    let records = everything(&*log).await;
    assert_eq!(records.len(), 120);
    for whole in records.chunks(3) {
        let ends: Vec<_> = whole.iter().map(|record| record.last_in_commit).collect();
        assert_eq!(ends, [false, false, true]);
        assert!(whole.iter().all(|record| record.commit == whole[0].commit), "commits lie apart");
    }
    let tasks: Vec<_> = history(&*log, tasks(7), 0).await.iter().map(|r| r.revision.0).collect();
    assert_eq!(tasks, (1..=80).collect::<Vec<_>>());
}

/// A part that fits anywhere fits, however often its stream is in the commit.
pub async fn any_part_always_fits(maker: &dyn Maker) {
    let log = maker.fresh().await;
    for number in 0..3 {
        let parts = vec![anywhere(tasks(1), "a"), anywhere(tasks(2), "b"), anywhere(tasks(1), "c")];
        must_append(&*log, commit(id("any", number), parts)).await;
    }
    let revisions = |records: Vec<Stored>| records.iter().map(|r| r.revision.0).collect::<Vec<_>>();
    assert_eq!(revisions(history(&*log, tasks(1), 0).await), [1, 2, 3, 4, 5, 6]);
    assert_eq!(revisions(history(&*log, tasks(2), 0).await), [1, 2, 3]);
}

/// What is not a commit is refused, and nothing is changed by it.
pub async fn shapes_are_checked(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let half = Bytes::from(vec![0; COMMIT_BYTES_MAX / 2 + 1]);
    let wrong: [(&str, Vec<Part>); 6] = [
        ("nothing", vec![]),
        ("too many", (0..=PARTS_MAX).map(|_| anywhere(tasks(1), "")).collect()),
        ("too large", vec![exactly(stream(1), 0, vec![0; COMMIT_BYTES_MAX + 1])]),
        ("too large together", vec![exactly(stream(1), 0, half.clone()), anywhere(tasks(1), half)]),
        ("twice", vec![exactly(stream(1), 0, ""), exactly(stream(1), 1, "")]),
        ("exact and any", vec![exactly(stream(1), 0, ""), anywhere(stream(1), "")]),
    ];
    for (number, (what, parts)) in wrong.into_iter().enumerate() {
        let refused = append(&*log, commit(id("shape", number), parts)).await;
        assert!(matches!(refused, Err(AppendError::Invalid(_))), "{what}: {refused:?}");
    }
    assert_eq!(head(&*log).await, Sequence(0));
    assert_eq!(everything(&*log).await, []);
}

/// The limits are reached, not approached.
pub async fn the_largest_commits_fit(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let large = Bytes::from(vec![7; COMMIT_BYTES_MAX]);
    must_append(&*log, commit(id("large", 1), [exactly(stream(1), 0, large.clone())])).await;
    let many: Vec<_> = (0..PARTS_MAX as u128).map(|n| exactly(stream(10 + n), 0, "m")).collect();
    must_append(&*log, commit(id("large", 2), many)).await;
    let records = everything(&*log).await;
    assert_eq!(records.len(), 1 + PARTS_MAX);
    assert_eq!(records[0].payload, large);
    assert_eq!(records.iter().filter(|record| record.last_in_commit).count(), 2);
    let mut follower = follow(&*log, 0).await;
    let mut seen = Vec::new();
    while let Followed::Records(records) = next(&mut follower).await {
        seen.extend(records);
    }
    assert_eq!(seen, records);
}

/// Of many who want the same revision at the same time exactly one gets it, and the others learn
/// where the stream is.
pub async fn every_revision_has_one_winner(maker: &dyn Maker) {
    const WRITERS: usize = 8;
    let log = maker.fresh().await;
    for revision in 0..12u64 {
        let rivals: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = log.clone();
                let id = CommitId::derive(&["winner", &format!("{revision} {writer}")]);
                let parts = [exactly(stream(1), revision, writer.to_string())];
                tokio::spawn(async move { append(&*log, commit(id, parts)).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (writer, rival) in rivals.into_iter().enumerate() {
            match rival.await.expect("a writer does not panic") {
                Ok(appended) => winners.push((writer, appended)),
                Err(AppendError::Conflict { stream: at, actual }) => {
                    assert_eq!((at, actual), (stream(1), Revision(revision + 1)));
                }
                Err(other) => panic!("a writer that lost was told {other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "one wins revision {}: {winners:?}", revision + 1);
        let (writer, appended) = winners[0];
        assert_eq!(appended.first, Sequence(revision + 1));
        let stored = history(&*log, stream(1), revision).await;
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].payload, writer.to_string());
    }
    assert_eq!(head(&*log).await, Sequence(12));
}
