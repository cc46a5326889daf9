//! What was appended is read back, exactly. And the cursors.

use super::*;

/// A stream that nobody wrote has no records; an empty log has none at all.
pub async fn unknown_streams_are_empty(maker: &dyn Maker) {
    let log = maker.fresh().await;
    assert_eq!(history(&*log, stream(1), 0).await, []);
    assert_eq!(history(&*log, stream(1), 5).await, []);
    assert_eq!(everything(&*log).await, []);
    must_append(&*log, commit(id("unknown", 1), [exactly(stream(1), 0, "a")])).await;
    assert_eq!(history(&*log, stream(2), 0).await, []);
    assert_eq!(history(&*log, tasks(1), 0).await, [], "the kind is part of the name");
}

/// Any bytes, in streams of any kind; the same uuid in two kinds is two streams.
pub async fn payloads_come_back_as_they_were(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let all_bytes = Bytes::from((0..=255u8).cycle().take(5000).collect::<Vec<_>>());
    for (number, kind) in StreamKind::ALL.into_iter().enumerate() {
        let stream = StreamId::new(kind, Uuid::from_u128(1));
        let parts = [exactly(stream, 0, Bytes::new())];
        must_append(&*log, commit(id("payload", 2 * number), parts)).await;
        let parts = [exactly(stream, 1, all_bytes.clone())];
        must_append(&*log, commit(id("payload", 2 * number + 1), parts)).await;
    }
    for kind in StreamKind::ALL {
        let records = history(&*log, StreamId::new(kind, Uuid::from_u128(1)), 0).await;
        let payloads: Vec<_> = records.iter().map(|record| record.payload.clone()).collect();
        assert_eq!(payloads, [Bytes::new(), all_bytes.clone()]);
    }
}

/// A range is read from where it was asked, as far as it was asked or the log goes.
pub async fn ranges_are_read_exactly(maker: &dyn Maker) {
    let log = maker.fresh().await;
    mixed(&*log, "ranges", 20).await;
    let records = everything(&*log).await;
    let length = records.len();
    assert_eq!(head(&*log).await.0, length as u64);
    for first in 0..=length + 2 {
        for count in [0, 1, 2, 7, length, usize::MAX] {
            let read = soon("read", log.read(Sequence(first as u64), count)).await;
            let start = first.saturating_sub(1).min(length);
            let end = start.saturating_add(count).min(length);
            assert_eq!(read.expect("it reads"), records[start..end], "{count} from {first}");
        }
    }
    let beyond = soon("read", log.read(Sequence(u64::MAX), usize::MAX)).await;
    assert_eq!(beyond.expect("nothing is there, and that is no failure"), []);
}

/// A stream's records after any revision, oldest first, with the others' left out.
pub async fn streams_are_read_from_anywhere(maker: &dyn Maker) {
    let log = maker.fresh().await;
    mixed(&*log, "streams", 20).await;
    let records = everything(&*log).await;
    for stream in (0..5).map(stream).chain([tasks(1)]) {
        let own: Vec<_> = records.iter().filter(|r| r.stream == stream).cloned().collect();
        assert!(!own.is_empty());
        for after in 0..own.len() + 2 {
            let expected = &own[after.min(own.len())..];
            assert_eq!(history(&*log, stream, after as u64).await, expected, "{stream} {after}");
        }
        assert_eq!(history(&*log, stream, u64::MAX).await, []);
    }
}

/// A cursor is zero until it is set, then where it was set last; names share nothing.
pub async fn cursors_are_kept_apart(maker: &dyn Maker) {
    let log = maker.fresh().await;
    let cursor = async |name: &str| soon("cursor", log.cursor(name)).await.expect("it is there");
    let set = async |name: &str, at: u64| {
        soon("set cursor", log.set_cursor(name, Sequence(at))).await.expect("it moves");
    };
    assert_eq!(cursor("a").await, Sequence(0));
    set("a", 3).await;
    set("b-of.another_name", 5).await;
    assert_eq!((cursor("a").await, cursor("b-of.another_name").await), (Sequence(3), Sequence(5)));
    for at in [4, 9, 2] {
        set("a", at).await;
        assert_eq!(cursor("a").await, Sequence(at));
    }
    assert_eq!(cursor("b-of.another_name").await, Sequence(5));
    assert_eq!(head(&*log).await, Sequence(0), "cursors are no records");
}
