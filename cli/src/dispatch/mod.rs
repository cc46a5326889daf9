//! From what was typed to the function that does it: one `match` a noun, and nothing else.

mod cluster;
mod keyed;
mod nouns;
mod verbs;

use crate::{
    args::{Command, server::ServerCommand},
    exit::ExitStatus,
    failure::Result,
    session::Session,
};

/// The daemon works on many things at once; a client waits for one.
pub(crate) fn wants_threads(command: &Command) -> bool {
    matches!(command, Command::Server(ServerCommand::Daemon(_)))
}

pub(crate) async fn run(session: Session, command: Command) -> Result<ExitStatus> {
    let ended = dispatch(&session, command).await;
    if let Some(since) = session.client.stale_since() {
        session.printer.warn(&format!(
            "the rest of the cluster is not heard since {since}: what was read may be old\n  \
             see: stapes cluster status"
        ));
    }
    ended
}

async fn dispatch(session: &Session, command: Command) -> Result<ExitStatus> {
    // Boxed, because each arm's future is as large as its verb's state.
    match command {
        Command::Instance(command) => Box::pin(verbs::instance(session, command)).await,
        Command::Session(command) => Box::pin(verbs::session(session, command)).await,
        Command::Snapshot(command) => Box::pin(nouns::snapshot(session, command)).await,
        Command::Config(command) => Box::pin(nouns::config(session, command)).await,
        Command::Profile(command) => Box::pin(keyed::profile(session, command)).await,
        Command::Cluster(command) => Box::pin(cluster::cluster(session, command)).await,
        Command::Project(command) => Box::pin(keyed::project(session, command)).await,
        Command::Image(command) => Box::pin(nouns::image(session, command)).await,
        Command::Network(command) => Box::pin(keyed::network(session, command)).await,
        Command::Storage(command) => Box::pin(keyed::storage(session, command)).await,
        Command::File(command) => Box::pin(nouns::file(session, command)).await,
        Command::Operation(command) => Box::pin(nouns::operation(session, command)).await,
        Command::Event(command) => Box::pin(verbs::event(session, command)).await,
        Command::Server(command) => Box::pin(verbs::server(session, command)).await,
    }
}
