//! Where the daemon is asked: the API on its sockets, and the signals that end it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stapes_api::{
    backend::{Backend, Facts},
    server::{Api, Listener},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use super::{
    cluster::{Here, Seat},
    directory::Directory,
    host::Drivers,
    membership,
    serve::DaemonError,
};

/// How long requests under way may take to end after the daemon was told to go.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What answers behind it.
pub(crate) struct House<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) drivers: &'a Drivers,
    pub(crate) facts: Facts,
    pub(crate) here: &'a Here,
    /// Of a member, which is served over the network as well.
    pub(crate) seat: Option<&'a Seat>,
}

#[derive(Debug)]
pub(crate) struct Door {
    api: Api,
    path: PathBuf,
    terminate: Signal,
    interrupt: Signal,
    stop: watch::Sender<bool>,
    served: Vec<JoinHandle<()>>,
}

/// Who told the daemon to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    BySignal,
    /// `stapes shutdown`: guests are to be stopped first.
    ByClient,
}

impl Door {
    /// Serves from now on.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub(crate) async fn open(house: House<'_>) -> Result<Self, DaemonError> {
        let House { directory, backend, drivers, facts, here, seat } = house;
        let api =
            Api::clustering(backend.clone(), drivers.for_api(), facts, Arc::new(here.clone()));
        let path = directory.socket();
        let socket = |source| DaemonError::Socket { path: path.display().to_string(), source };
        let listener = Listener::bind(&path).await.map_err(socket)?;
        let terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
        let stop = watch::Sender::new(false);
        let stopped = || {
            let mut stop = stop.subscribe();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        };
        let mut served = Vec::new();
        if let Some(seat) = seat {
            let sources = drivers.exchange.clone();
            served.push(membership::listen(seat, (&api, &backend, sources), stopped()).await?);
        }
        let local = listener.serve(api.router(), stopped());
        served.push(tokio::spawn(async move {
            if let Err(error) = local.await {
                tracing::error!(%error, "the socket is not served any more");
            }
        }));
        tracing::info!(socket = %path.display(), "serving");
        Ok(Self { api, path, terminate, interrupt, stop, served })
    }

    /// Ready when the daemon is to go.
    pub(crate) async fn told(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::BySignal,
            _ = self.interrupt.recv() => Told::BySignal,
            () = self.api.shutdown_asked() => Told::ByClient,
        }
    }

    /// Lets requests under way end. Clients that hold a socket open do not keep the daemon.
    pub(crate) async fn close(self) {
        self.stop.send_replace(true);
        for served in self.served {
            let _ = tokio::time::timeout(DRAIN_MAX, served).await;
        }
        let _ = std::fs::remove_file(&self.path);
    }
}
