//! The event-first verbs: all of them read the log, or the past that it gives back.

mod cursor;
pub(crate) mod diff;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod moment;
mod placement;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod show;
pub(crate) mod tail;
pub(crate) mod undo;
pub(crate) mod why;

use self::record::{Line, Record};
use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
    name::Resource,
    session::Session,
};

/// The records after `since`, oldest first, up to the newest there is now. `keep` sees each one;
/// it answers whether to go on.
pub(crate) async fn read(
    session: &Session,
    since: u64,
    resource: Option<&str>,
    mut keep: impl FnMut(Record) -> bool,
) -> Result<()> {
    let mut lines = session.client.log(Some(since), resource, false).await?;
    while let Some(line) = lines.next().await? {
        match record::line(line)? {
            Line::Event(record) => {
                if !keep(*record) {
                    break;
                }
            }
            Line::CaughtUp { .. } => break,
            Line::Gap { from, to, why, .. } => {
                session.printer.warn(&format!("sequences {from} to {to} are not kept ({why})"));
            }
            Line::Broken { why } => return Err(record::broken(&why)),
            Line::Other(_) => {}
        }
    }
    Ok(())
}

/// The log has not one event of it.
fn unheard_of(resource: &Resource) -> Failure {
    let message = format!("nothing ever happened to {}", resource.log_name());
    Failure::new(ExitStatus::NotFound, "not-found", message).hint("stapes log")
}
