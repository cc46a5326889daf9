//! Prints any object.

use super::Object;
use crate::{exit::ExitStatus, failure::Result, output::Format, session::Session};

/// The whole object, as the daemon gave it.
pub(crate) async fn show(session: &Session, object: &Object, format: Format) -> Result<ExitStatus> {
    let value = object.read(session).await?;
    session.printer.object(format, &value)?;
    Ok(ExitStatus::Done)
}
