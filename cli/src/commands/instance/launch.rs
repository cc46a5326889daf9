//! `stapes launch`: create, start, and tell where it can be reached.

use stapes_api::{client::escape, wire::instance_state::InstanceState};

use super::{columns, create::create};
use crate::{
    args::{common::InstanceName, instance::LaunchArgs, session::ConsoleArgs},
    commands::session::console,
    exit::ExitStatus,
    failure::Result,
    session::{COURTESY, Session},
};

/// Creates and starts in one operation.
pub(crate) async fn run(session: &Session, args: LaunchArgs) -> Result<ExitStatus> {
    let Some(name) = create(session, &args.new, true).await? else { return Ok(ExitStatus::Done) };
    let address = address(session, &name).await.map(|ip| format!(" at {ip}")).unwrap_or_default();
    session.printer.say(&format!("{name} is running{address}   (stapes log {name})"));
    match args.console {
        Some(kind) => {
            let instance = InstanceName { instance: name };
            console::run(session, ConsoleArgs { instance, kind, show_log: false, force: false })
                .await
        }
        None => Ok(ExitStatus::Done),
    }
}

/// Its first address, if it has one already: nobody waits for DHCP here.
async fn address(session: &Session, name: &str) -> Option<String> {
    let path = format!("/1.0/instances/{}/state", escape(name));
    let asked = tokio::time::timeout(COURTESY, session.client.get::<InstanceState>(&path));
    let state = asked.await.ok()?.ok()?;
    columns::addresses(&state, "inet").into_iter().next().map(|(address, _)| address)
}
