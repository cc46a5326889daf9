//! A commit's id is appended once, for good.

use super::*;

/// The same id again answers as the first time and changes nothing, whatever it brings.
pub async fn a_commit_is_appended_once(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let parts = vec![exactly(stream(1), 0, "a"), anywhere(tasks(1), "b")];
    let first = must_append(&*log, commit(id("once", 1), parts.clone())).await;
    let before = everything(&*log).await;
    let other = vec![exactly(stream(2), 0, "other"); 1];
    let stale = vec![exactly(stream(1), 17, "stale")];
    for (what, again) in [("the same", parts), ("other content", other), ("stale", stale)] {
        let answer = must_append(&*log, commit(id("once", 1), again)).await;
        assert_eq!(answer, Appended { duplicate: true, ..first }, "{what}");
        assert_eq!(everything(&*log).await, before, "{what}");
    }
}

/// Of many who append the same id at the same time one is first, and all learn the same place.
pub async fn one_id_at_the_same_time_is_one_commit(maker: &dyn Maker) {
    let log = maker.fresh().await;
    for round in 0..6u64 {
        let writers: Vec<_> = (0..6)
            .map(|_| {
                let log = log.clone();
                let parts = [exactly(stream(1), round, "same"), anywhere(tasks(1), "same")];
                let id = CommitId::derive(&["same time", &round.to_string()]);
                tokio::spawn(async move { must_append(&*log, commit(id, parts)).await })
            })
            .collect();
        let mut originals = 0;
        for writer in writers {
            let answer = writer.await.expect("a writer does not panic");
            assert_eq!((answer.first.0, answer.last.0), (2 * round + 1, 2 * round + 2));
            originals += u32::from(!answer.duplicate);
        }
        assert_eq!(originals, 1, "one of them was first");
    }
    assert_eq!(head(&*log).await, Sequence(12));
}

/// An id is known after thousands of others, and after reopening.
pub async fn a_commit_is_appended_once_for_good(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let many = maker.many();
    let filler = "x".repeat(200);
    let mut started = 0;
    while started < many {
        let batch: Vec<_> = (started..many.min(started + 64))
            .map(|number| {
                let part = exactly(stream(number as u128), 0, filler.clone());
                let (log, commit) = (log.clone(), commit(id("good", number), [part]));
                tokio::spawn(async move { must_append(&*log, commit).await })
            })
            .collect();
        started += batch.len();
        for appended in batch {
            assert!(!appended.await.expect("a writer does not panic").duplicate);
        }
    }
    let places: Vec<_> =
        everything(&*log).await.iter().map(|record| (record.commit, record.sequence)).collect();
    assert_eq!(places.len(), many);
    let probes: Vec<_> = places.iter().step_by((many / 40).max(1)).copied().collect();
    known_again(&*log, &probes).await;
    if let Some(log) = maker.reopen(log).await {
        known_again(&*log, &probes).await;
        assert_eq!(head(&*log).await.0, many as u64);
    }
}

async fn known_again(log: &dyn EventLog, places: &[(CommitId, Sequence)]) {
    for &(id, at) in places {
        let answer = must_append(log, commit(id, [anywhere(tasks(1), "again")])).await;
        assert_eq!(answer, Appended { first: at, last: at, duplicate: true });
    }
}

/// A log that comes back answers everything as before, and goes on from there.
pub async fn nothing_changes_by_reopening(maker: &dyn Maker) {
    let mut log = maker.fresh().await;
    for round in 0..3 {
        mixed(&*log, &format!("reopen {round}"), 9).await;
        soon("set cursor", log.set_cursor("reader", Sequence(round + 1))).await.expect("it moves");
        let (records, tasks_before) = (everything(&*log).await, history(&*log, tasks(1), 0).await);
        let Some(back) = maker.reopen(log).await else { return };
        log = back;
        assert_eq!(everything(&*log).await, records);
        assert_eq!(history(&*log, tasks(1), 0).await, tasks_before);
        assert_eq!(head(&*log).await, records.last().expect("there are records").sequence);
        let cursor = soon("cursor", log.cursor("reader")).await.expect("it is there");
        assert_eq!(cursor, Sequence(round + 1));
        let stale = commit(id("reopen stale", 0), [exactly(stream(0), 0, "stale")]);
        let refused = append(&*log, stale).await;
        assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
        let known = must_append(&*log, commit(id("reopen 0", 0), [anywhere(tasks(1), "x")])).await;
        assert_eq!(known, Appended { first: Sequence(1), last: Sequence(1), duplicate: true });
    }
}
