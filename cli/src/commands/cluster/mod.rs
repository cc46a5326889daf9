//! `stapes cluster …`: what only clusters do.

pub(crate) mod group;
pub(crate) mod make;
pub(crate) mod member;
pub(crate) mod status;
pub(crate) mod token;

use stapes_api::wire::server::Server;

use crate::{failure::Result, session::Session};

/// Whether the server is a member of a cluster.
pub(crate) async fn is_clustered(session: &Session) -> Result<bool> {
    Ok(session.get::<Server>("/1.0").await?.environment.server_clustered)
}
