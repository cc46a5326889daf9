//! The leases of this node's guests that may be started elsewhere: as long as the node is in contact
//! with the log they are told, again and again, how long they may run; who keeps a guest kills it when
//! nobody does, this daemon or none.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stapes_control::Control;
use stapes_core::{
    ids::{InstanceId, NodeId},
    lease::Boottime,
    port::{DriverError, guest::Guests},
};
use stapes_node::membership::Fence;
use tokio::time::{sleep, timeout};

/// A guest's keeper that does not answer by then is told again with the next proof.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Changes of the world that come together are looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct GuestLeases {
    node: NodeId,
    control: Control,
    guests: Arc<dyn Guests>,
    /// Of the last proof of contact.
    until: Mutex<Option<Boottime>>,
    /// Who was told of a lease. One teller at a time.
    told: tokio::sync::Mutex<BTreeSet<InstanceId>>,
}

impl GuestLeases {
    pub(crate) fn new(node: NodeId, control: Control, guests: Arc<dyn Guests>) -> Arc<Self> {
        let (until, told) = (Mutex::default(), tokio::sync::Mutex::default());
        Arc::new(Self { node, control, guests, until, told })
    }

    /// Tells guests that start, and those of which it is said just now that they may run elsewhere,
    /// without waiting for the next proof. For as long as the log can be trusted.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut changes = self.control.changes();
        let mut known = BTreeSet::new();
        while changes.changed().await.is_ok() {
            sleep(TOGETHER).await;
            let now = self.movable(true);
            if now != known {
                self.tell().await;
                known = now;
            }
        }
    }

    /// The instances of this node that may be started elsewhere; those that are up, or all.
    fn movable(&self, up: bool) -> BTreeSet<InstanceId> {
        let world = self.control.world();
        let here = world.instances_on(self.node).filter(|it| !up || it.status.is_up());
        here.filter(|it| it.is_ha(&world)).map(|it| it.id).collect()
    }

    /// Whether it is this node's and stays so, whatever happens.
    fn is_bound(&self, id: InstanceId) -> bool {
        let world = self.control.world();
        world.instances.get(&id).is_some_and(|it| it.node == self.node && !it.is_ha(&world))
    }

    async fn tell(&self) {
        let Some(until) = *self.until.lock().unwrap_or_else(PoisonError::into_inner) else {
            return;
        };
        let mut told = self.told.lock().await;
        let movable = self.movable(false);
        for id in told.difference(&movable).copied().filter(|id| self.is_bound(*id)) {
            self.lease(id, None).await;
        }
        for id in &movable {
            self.lease(*id, Some(until)).await;
        }
        *told = movable;
    }

    async fn lease(&self, id: InstanceId, until: Option<Boottime>) {
        match timeout(ANSWERS_WITHIN, self.guests.lease(id, until)).await {
            Ok(Ok(()) | Err(DriverError::NotFound(_))) => {}
            Ok(Err(error)) => tracing::warn!(instance = %id, %error, "not told of its lease"),
            Err(_) => tracing::warn!(instance = %id, "its keeper does not hear of its lease"),
        }
    }
}

#[async_trait]
impl Fence for GuestLeases {
    async fn fence(&self) -> Result<(), DriverError> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut left = 0;
        for id in self.movable(false) {
            if self.guests.running(id).await.is_some() {
                left += 1;
                self.lease(id, Some(Boottime::default())).await;
            }
        }
        match left {
            0 => Ok(()),
            left => Err(DriverError::Failed(format!("{left} guests are being killed"))),
        }
    }

    async fn held(&self, until: Boottime) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).replace(until);
        self.tell().await;
    }
}
