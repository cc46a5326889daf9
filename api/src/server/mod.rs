//! The server: one handler file a noun, thin; what things look like is in [`show`], what a client
//! may ask is in core.
//!
//! ```text
//! socket ─► guard ─► router ─► handler ─┬─► look at the world ─► show ─► envelope
//!                                       └─► submit a command  ─► operation, or wait and answer
//! ```

mod acts;
mod answer;
mod bulk;
mod change;
mod cloud_event;
mod extensions;
mod fault;
mod filter;
mod forward;
mod guard;
mod handle;
mod host;
mod hub;
mod lens;
mod lifecycle;
mod listen;
mod params;
mod peer;
mod routes;
mod session;
mod show;
mod submit;
mod words;

use std::{ops::Deref, sync::Arc};

use axum::Router;

pub use extensions::API_EXTENSIONS;
pub use fault::Fault;
pub use listen::Listener;
pub use peer::Peer;

use self::{
    bulk::Bulks,
    hub::Hub,
    session::{OutputFiles, Sessions},
};
use crate::backend::{Backend, Clustering, Drivers, Facts};

/// Everything that handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
pub struct Inner {
    backend: Arc<dyn Backend>,
    drivers: Drivers,
    facts: Facts,
    /// `None` for a server that can be no member.
    cluster: Option<Arc<dyn Clustering>>,
    hub: Hub,
    sessions: Arc<Sessions>,
    bulks: Bulks,
    outputs: OutputFiles,
    /// Told when a client asks for the daemon's end.
    shutdown: tokio::sync::watch::Sender<bool>,
}

impl Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    /// Begins to follow the log; must be called within a runtime.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, drivers: Drivers, facts: Facts) -> Self {
        Self::with(backend, drivers, facts, None)
    }

    /// The same, of a server that is a member of a cluster or may become one.
    #[must_use]
    pub fn clustering(
        backend: Arc<dyn Backend>,
        drivers: Drivers,
        facts: Facts,
        cluster: Arc<dyn Clustering>,
    ) -> Self {
        Self::with(backend, drivers, facts, Some(cluster))
    }

    fn with(
        backend: Arc<dyn Backend>,
        drivers: Drivers,
        facts: Facts,
        cluster: Option<Arc<dyn Clustering>>,
    ) -> Self {
        let outputs = OutputFiles::below(&facts.directory);
        let api = Self(Arc::new(Inner {
            backend,
            drivers,
            facts,
            cluster,
            hub: Hub::new(),
            sessions: Arc::default(),
            bulks: Bulks::default(),
            outputs,
            shutdown: tokio::sync::watch::Sender::new(false),
        }));
        tokio::spawn(hub::follow(Arc::downgrade(&api.0)));
        api
    }

    /// This node, where there is a cluster.
    fn here(&self) -> Option<stapes_core::ids::NodeId> {
        self.cluster.as_ref().map(|cluster| cluster.here())
    }

    /// All routes.
    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }

    /// All routes, for connections over the network: members may ask what users may, and whoever has a
    /// join token may join.
    pub fn remote_router(&self) -> Router {
        routes::router(self.clone())
            .layer(axum::middleware::from_fn_with_state(self.clone(), guard::only_members))
    }

    /// Ready when a client asked for the daemon's end (`stapes shutdown`).
    pub fn shutdown_asked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut asked = self.shutdown.subscribe();
        async move {
            // The sender lives in the API; when that is gone there is nothing to wait for.
            let _ = asked.wait_for(|asked| *asked).await;
        }
    }
}
