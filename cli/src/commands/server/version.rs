//! `stapes version`

use serde_json::json;
use stapes_api::wire::server::Server;

use crate::{
    args::server::VersionArgs, exit::ExitStatus, failure::Result, output::format::Shape,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: VersionArgs) -> Result<ExitStatus> {
    let client = env!("CARGO_PKG_VERSION");
    let server = session.client.get::<Server>("/1.0").await.ok();
    let server = server.map(|server| server.environment.server_version);
    if args.format.format.shape == Shape::Table {
        let shown = server.as_deref().unwrap_or("unreachable");
        session.printer.line(&format!("Client version: {client}\nServer version: {shown}"))?;
    } else {
        session
            .printer
            .object(args.format.format, &json!({ "client": client, "server": server }))?;
    }
    Ok(ExitStatus::Done)
}
