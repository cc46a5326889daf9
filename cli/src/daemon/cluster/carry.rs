//! Carries a log to another place: the same commits under the same ids at the same sequences, then
//! read back and compared, record by record.

use stapes_core::{
    ids::{Revision, Sequence, StreamKind},
    port::log::{AppendError, Commit, EventLog, Expected, Part, ReadError, Stored},
};

/// Records that are read at once.
const PAGE: usize = 1000;
/// How often an operator who waits is told how far it is: every so many records.
const TOLD_EVERY: u64 = 10_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CarryError {
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    #[error("record {at} cannot be written to the new log")]
    Append { at: Sequence, source: AppendError },
    #[error("the new log has record {found} where record {wanted} belongs: it is not empty")]
    Displaced { wanted: Sequence, found: Sequence },
    #[error("record {0} is not the same in both logs")]
    Differs(Sequence),
}

/// Appends everything of `from` after `after` to `to`. Repeating it goes on where it ended. Answers
/// the last sequence that both have.
pub(crate) async fn carry(
    from: &dyn EventLog,
    to: &dyn EventLog,
    after: Sequence,
) -> Result<Sequence, CarryError> {
    let mut done = after;
    loop {
        let mut page = from.read(done.next(), PAGE).await?;
        // The next page begins with the commit that this one has only a part of.
        let whole = page.iter().rposition(|stored| stored.last_in_commit).map_or(0, |at| at + 1);
        if whole == 0 {
            return Ok(done);
        }
        page.truncate(whole);
        for records in page.chunk_by(|one, other| one.commit == other.commit) {
            done = append(to, records).await?;
            if done.0 / TOLD_EVERY > (done.0 - records.len() as u64) / TOLD_EVERY {
                tracing::info!(at = %done, "carrying the log over");
            }
        }
    }
}

async fn append(to: &dyn EventLog, records: &[Stored]) -> Result<Sequence, CarryError> {
    let first = records[0].sequence;
    let commit = commit(records);
    let appended = match to.append(commit.clone()).await {
        // Once more under the same id tells whether it is there.
        Err(AppendError::OutcomeUnknown(_)) => to.append(commit).await,
        other => other,
    };
    let appended = appended.map_err(|source| CarryError::Append { at: first, source })?;
    if appended.first != first {
        return Err(CarryError::Displaced { wanted: first, found: appended.first });
    }
    Ok(appended.last)
}

fn commit(records: &[Stored]) -> Commit {
    let part = |stored: &Stored| Part {
        stream: stored.stream,
        expected: match stored.stream.kind {
            StreamKind::Task => Expected::Any,
            StreamKind::Server
            | StreamKind::Node
            | StreamKind::Project
            | StreamKind::Profile
            | StreamKind::Network
            | StreamKind::Pool
            | StreamKind::Volume
            | StreamKind::Image
            | StreamKind::Instance
            | StreamKind::Operation
            | StreamKind::Name => Expected::Exact(Revision(stored.revision.0 - 1)),
        },
        payload: stored.payload.clone(),
    };
    Commit { id: records[0].commit, parts: records.iter().map(part).collect() }
}

/// Whether both hold exactly the same up to `last`.
pub(crate) async fn verify(
    one: &dyn EventLog,
    other: &dyn EventLog,
    last: Sequence,
) -> Result<(), CarryError> {
    let mut at = Sequence(0);
    while at < last {
        let count = usize::try_from(last.0 - at.0).unwrap_or(PAGE).min(PAGE);
        let (ours, theirs) =
            (one.read(at.next(), count).await?, other.read(at.next(), count).await?);
        let differs = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        if let Some((ours, _)) = differs {
            return Err(CarryError::Differs(ours.sequence));
        }
        if ours.len() != theirs.len() || ours.is_empty() {
            return Err(CarryError::Differs(at.next()));
        }
        at = Sequence(at.0 + ours.len() as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stapes_core::{
        ids::{CommitId, StreamId},
        port::log::MemoryLog,
    };

    use super::*;

    async fn filled(commits: u64) -> MemoryLog {
        let log = MemoryLog::default();
        for number in 0..commits {
            let name = number.to_string();
            let part = |kind, expected, text: &str| Part {
                stream: StreamId::derive(kind, &["x"]),
                expected,
                payload: text.to_owned().into(),
            };
            let parts = vec![
                part(StreamKind::Server, Expected::Exact(Revision(number)), &name),
                part(StreamKind::Task, Expected::Any, "task"),
            ];
            log.append(Commit { id: CommitId::derive(&[&name]), parts }).await.unwrap();
        }
        log
    }

    #[tokio::test]
    async fn the_other_log_holds_the_same_however_often_it_was_begun() {
        // More than a page, whose end falls into a commit.
        let from = filled(1501).await;
        let to = filled(7).await;
        assert_eq!(carry(&from, &to, Sequence(0)).await.unwrap(), Sequence(3002));
        verify(&from, &to, Sequence(3002)).await.unwrap();
        let more = filled(1502).await;
        assert_eq!(carry(&more, &to, Sequence(3002)).await.unwrap(), Sequence(3004));
        verify(&more, &to, Sequence(3004)).await.unwrap();
    }

    #[tokio::test]
    async fn a_log_that_holds_something_else_is_refused() {
        let (from, to) = (filled(2).await, MemoryLog::default());
        let part = Part {
            stream: StreamId::derive(StreamKind::Name, &["y"]),
            expected: Expected::Any,
            payload: "y".into(),
        };
        to.append(Commit { id: CommitId::derive(&["other"]), parts: vec![part] }).await.unwrap();
        let error = carry(&from, &to, Sequence(0)).await.unwrap_err();
        assert!(matches!(error, CarryError::Displaced { .. }), "{error}");
        let error = verify(&from, &to, Sequence(1)).await.unwrap_err();
        assert!(matches!(error, CarryError::Differs(Sequence(1))), "{error}");
    }
}
