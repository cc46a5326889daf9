//! Checkpoints: the whole state at some sequences, so that nobody folds from the beginning.
//!
//! They get sparser with age: of those whose distance to the newest is alike, the oldest stays.
//! So there are few of them, and the way from the nearest one is never longer than the way to now.

use stapes_core::{ids::Sequence, record::Digest};

use crate::{
    rows::{self, decode, encode, sequence_of, unpack},
    state::State,
    store::{Batch, Damaged, Store},
};

/// Bytes of one part: large values are slow in sled.
const PART_BYTES: usize = 96 * 1024;
/// Checkpoints at most, whatever the log's length.
const KEPT_MAX: usize = 40;

/// What the first part says of the whole.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Head {
    parts: u32,
    /// Of the packed state.
    digest: Digest,
    /// The first part itself.
    #[serde(with = "bytes_of")]
    part: Vec<u8>,
}

/// As bytes rather than as a list of numbers.
mod bytes_of {
    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        let bytes: bytes::Bytes = serde::Deserialize::deserialize(from)?;
        Ok(bytes.to_vec())
    }
}

/// Writes the state, and removes the checkpoints that are too many then.
pub(crate) fn write(store: &dyn Store, state: &State, every: u64) -> Result<(), Damaged> {
    let sequence = state.sequence();
    let packed = lz4_flex::compress_prepend_size(&encode(state));
    let digest = Digest::of(&packed);
    let mut parts = packed.chunks(PART_BYTES);
    let first = parts.next().unwrap_or_default().to_vec();
    let count = u32::try_from(packed.len().div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
    // The first part comes last: a checkpoint without it is none.
    for (part, bytes) in (1..).zip(parts) {
        let mut batch = Batch::default();
        batch.put(rows::checkpoint(sequence, part), bytes.to_vec());
        store.write(batch)?;
    }
    let mut batch = Batch::default();
    let head = Head { parts: count, digest, part: first };
    batch.put(rows::checkpoint(sequence, 0), encode(&head));
    store.write(batch)?;
    thin(store, sequence, every)
}

fn thin(store: &dyn Store, newest: Sequence, every: u64) -> Result<(), Damaged> {
    let heads = store.first(&rows::checkpoints(newest), KEPT_MAX * 2)?;
    let mut known = None;
    let mut batch = Batch::default();
    for (key, head) in heads {
        let sequence = sequence_of(&key)?;
        let age = age(newest.0 - sequence.0, every);
        if known.replace(age) != Some(age) {
            continue;
        }
        let head: Head = decode(&head)?;
        (0..head.parts).for_each(|part| batch.remove(rows::checkpoint(sequence, part)));
    }
    store.write(batch)
}

/// Ages double from one to the next.
const fn age(distance: u64, every: u64) -> u32 {
    match distance / if every == 0 { 1 } else { every } {
        0 if distance == 0 => 0,
        0 => 1,
        distance => distance.ilog2() + 2,
    }
}

/// The newest checkpoint at or before `until`.
pub(crate) fn read(store: &dyn Store, until: Sequence) -> Result<Option<State>, Damaged> {
    let heads = store.last(&rows::checkpoints(until), 1)?;
    let Some((key, head)) = heads.into_iter().next() else { return Ok(None) };
    let sequence = sequence_of(&key)?;
    let head: Head = decode(&head)?;
    let mut packed = head.part;
    for part in 1..head.parts {
        let missing = || Damaged(format!("checkpoint {sequence} is not whole"));
        packed.extend(store.get(&rows::checkpoint(sequence, part))?.ok_or_else(missing)?);
    }
    if Digest::of(&packed) != head.digest {
        return Err(Damaged(format!("checkpoint {sequence} has the wrong digest")));
    }
    let state: State = decode(&unpack(&packed)?)?;
    if state.sequence() == sequence {
        Ok(Some(state))
    } else {
        Err(Damaged(format!("checkpoint {sequence} is of {}", state.sequence())))
    }
}

/// The newest checkpoint at or before `until`, if it is after `since`.
pub(crate) fn newer(
    store: &dyn Store,
    since: Sequence,
    until: Sequence,
) -> Result<Option<State>, Damaged> {
    let heads = store.last(&rows::checkpoints(until), 1)?;
    let found = heads.first().map(|(key, _)| sequence_of(key)).transpose()?;
    if found.is_some_and(|found| found > since) { read(store, until) } else { Ok(None) }
}

/// Where the newest checkpoint is; zero when there is none.
pub(crate) fn newest(store: &dyn Store) -> Result<Sequence, Damaged> {
    let heads = store.last(&rows::checkpoints(Sequence(u64::MAX - 1)), 1)?;
    heads.first().map_or(Ok(Sequence(0)), |(key, _)| sequence_of(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    #[test]
    fn checkpoints_get_sparser_with_age_and_stay_few() {
        let store = Memory::default();
        let mut state = State::default();
        for n in 1..=1000_u64 {
            std::sync::Arc::make_mut(&mut state.world).sequence = Sequence(n * 10);
            write(&store, &state, 10).unwrap();
        }
        let kept = store.first(&rows::checkpoints(Sequence(10_000)), 1000).unwrap();
        let kept: Vec<_> = kept.iter().map(|(key, _)| sequence_of(key).unwrap().0).collect();
        assert!(kept.len() <= 12, "{kept:?}");
        assert_eq!(kept.last(), Some(&10_000));
        for asked in [5_000, 7_500, 9_000, 9_900, 9_990] {
            let found = read(&store, Sequence(asked)).unwrap().unwrap_or_default();
            let (way, back) = (asked - found.sequence().0, 10_000 - asked);
            assert!(way <= 2 * back + 10, "{asked}: from {} ({kept:?})", found.sequence());
        }
    }
}
