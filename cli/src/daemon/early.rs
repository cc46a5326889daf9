//! A member that starts while most of the log's servers are gone: it serves what it knew last, marked
//! as old, refuses changes with who is missing, and goes on to be whole when the log is there.
//!
//! ```text
//! log not there after PATIENCE ─► checkpoint of this cluster? ─┬─ yes ─► sockets ─► log ─► whole: the
//!                                                              │         same sockets go on
//!                                                              └─ none ─► waits, unserved
//! ```
//!
//! Guests are adopted, so that their state and consoles' logs are shown; what they did is told to the
//! log once it is there, by the executor, which adopts them again.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use stapes_api::{
    backend::{Backend, Facts, Known},
    peer::PeerClient,
};
use stapes_core::{ids::NodeId, port::peer::PeerAddress};
use stapes_projections::{OpenError, Recalled};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    cluster::{Seat, is_member_by},
    directory::Directory,
    door::{Door, House, Told},
    footing::Seated,
    host::Drivers,
    serve::DaemonError,
};

/// How long the log may take before what is known is served without it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How often the others are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// An answer that takes longer is none.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Others that are asked at the same time.
const ASKED_AT_ONCE: usize = 8;

#[derive(Debug)]
pub(crate) struct Early {
    door: Door,
    known: Arc<Known>,
    seat: Arc<Seat>,
    drivers: Drivers,
    /// Ends with it.
    looking: JoinSet<()>,
}

impl Early {
    /// `None`, and a line in the log, when nothing is known of the cluster yet, or the network is not up
    /// yet. Nobody else may have the views open.
    ///
    /// # Errors
    /// When the host cannot be used, or not be served from.
    pub(crate) async fn begin(
        directory: &Directory,
        seated: &Seated,
        drivers: impl FnOnce() -> Result<Drivers, DaemonError>,
        facts: Facts,
    ) -> Result<Option<Self>, DaemonError> {
        let Seated { seat, here } = seated;
        let Some(then) = recall(directory, seat).await? else {
            tracing::warn!("nothing is known of the cluster yet: served once its log is heard");
            return Ok(None);
        };
        if let Err(error) = TcpListener::bind(&seat.config.address).await {
            let address = &seat.config.address;
            tracing::warn!(address, %error, "no such address yet: served once the log is heard");
            return Ok(None);
        }
        tracing::warn!(at = %then.sequence(), "the log is not heard: serving what was known last");
        let known = Arc::new(Known::new(then));
        let backend: Arc<dyn Backend> = known.clone();
        let drivers = drivers()?;
        if let Err(error) = drivers.guests.adopt().await {
            tracing::error!(%error, "the guests that run cannot be looked at");
        }
        seat.begin_waiting();
        let peers = seat.peers_by(is_member_by(&backend));
        // Who is missing is known before anybody asks.
        look(seat, &peers).await;
        let mut looking = JoinSet::new();
        let looks = seat.clone();
        looking.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                look(&looks, &peers).await;
            }
        });
        let (seat, drivers_here) = (Some(&**seat), &drivers);
        let house = House { directory, backend, drivers: drivers_here, facts, here, seat };
        let door = Door::open(house).await?;
        Ok(Some(Self { door, known, seat: seated.seat.clone(), drivers, looking }))
    }

    /// For who goes on with the same host.
    pub(crate) fn drivers(&self) -> Drivers {
        self.drivers.clone()
    }

    /// Serves until the daemon is told to go. Guests stay as they are: without the log nothing can be
    /// decided about them.
    pub(crate) async fn told(&mut self) {
        match self.door.told().await {
            Told::BySignal => {}
            Told::ByClient => tracing::warn!("without the log no guest is stopped"),
        }
    }

    /// Everything is there: whoever is served is served from the log from now on.
    pub(crate) fn give_way(mut self, backend: Arc<dyn Backend>) -> Door {
        self.looking.abort_all();
        self.known.give_way(backend);
        self.seat.end_waiting();
        tracing::info!("the log is heard: this member is whole");
        self.door
    }

    pub(crate) async fn close(self) {
        self.door.close().await;
        self.drivers.retire().await;
    }
}

/// What is known of this cluster. A node that has just joined knows another log only, or none.
async fn recall(directory: &Directory, seat: &Seat) -> Result<Option<Recalled>, OpenError> {
    let recalled = Recalled::read(&directory.views()).await?;
    let of_this = |recalled: &Recalled| {
        recalled.world().server.cluster.as_ref().is_some_and(|it| it.id == seat.config.cluster)
    };
    Ok(recalled.filter(of_this))
}

/// Finds out who of those that keep the log is not there.
async fn look(seat: &Seat, peers: &PeerClient) {
    let absent = |to: PeerAddress| async move {
        let asked = tokio::time::timeout(ANSWERS_WITHIN, peers.connect(&to)).await;
        (!matches!(asked, Ok(Ok(_)))).then_some(to.node)
    };
    let asked = stream::iter(seat.neighbours()).map(absent).buffer_unordered(ASKED_AT_ONCE);
    let unheard: Vec<NodeId> = asked.filter_map(std::future::ready).collect().await;
    seat.misses(unheard);
}
