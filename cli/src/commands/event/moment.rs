//! From what was typed to what `at=` takes: a sequence or a time.

use chrono::{Local, SecondsFormat};

use super::read;
use crate::{
    commands::operation,
    exit::ExitStatus,
    failure::{Failure, Result},
    name::Resource,
    session::Session,
    units::moment::{self, Moment},
};

pub(crate) fn parse(text: &str) -> Result<Moment> {
    moment::parse(text, Local::now()).map_err(|error| Failure::usage(error.to_string()))
}

/// The value of `at=`. A revision needs the thing that it is a revision of.
pub(crate) async fn resolve(
    session: &Session,
    text: &str,
    resource: Option<&Resource>,
) -> Result<String> {
    Ok(match parse(text)? {
        Moment::Sequence(sequence) => sequence.to_string(),
        Moment::Time(at) => at.to_rfc3339_opts(SecondsFormat::Millis, true),
        Moment::Revision(revision) => {
            let resource = resource.ok_or_else(|| {
                Failure::usage(format!("`r{revision}` is a revision, but of what? Say a sequence"))
            })?;
            sequence_of_revision(session, resource, revision).await?.to_string()
        }
        Moment::Operation(prefix) => {
            let id = operation::resolve(session, &prefix).await?;
            end_of_operation(session, &id, resource).await?.to_string()
        }
    })
}

async fn sequence_of_revision(
    session: &Session,
    resource: &Resource,
    revision: u64,
) -> Result<u64> {
    let (mut found, mut newest) = (None, 0);
    read(session, 0, Some(&resource.log_name()), |record| {
        newest = newest.max(record.revision);
        if record.revision == revision {
            found = Some(record.sequence);
        }
        // Events of one revision lie together.
        found.is_none() || record.revision == revision
    })
    .await?;
    found.ok_or_else(|| {
        Failure::new(
            ExitStatus::NotFound,
            "not-found",
            format!("{} has no revision r{revision}", resource.log_name()),
        )
        .fact(format!("The newest is r{newest}."))
        .hint(format!("stapes history {}", resource.typed()))
    })
}

async fn end_of_operation(session: &Session, id: &str, resource: Option<&Resource>) -> Result<u64> {
    let mut last = None;
    let log_name = resource.map(Resource::log_name);
    read(session, 0, log_name.as_deref(), |record| {
        if record.operation == id {
            last = Some(record.sequence);
        }
        true
    })
    .await?;
    last.ok_or_else(|| {
        Failure::new(ExitStatus::NotFound, "not-found", format!("op {id} has left no event here"))
    })
}
