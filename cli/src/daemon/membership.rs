//! What a daemon does besides when its node is a member of a cluster.

use std::{io, sync::Arc, time::Duration};

use stapes_api::{backend::Backend, server::Api, tls::TlsListener};
use stapes_control::{Control, Request, SubmitError, Watch};
use stapes_core::{
    cluster::Enable, command::Command, ids::Sequence, node::Start, port::guest::Guests,
    record::Actor, resource,
};
use stapes_drivers::exchange::Exchange;
use stapes_node::membership::{MachineClock, Membership, MembershipConfig, Surroundings};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use uuid::Uuid;

use super::{
    cluster::{self, EntryError, GuestLeases, Member, MemberEars, Others, Seat},
    directory::Directory,
    host::Drivers,
    serve::{DaemonError, End},
};

/// How long the pools and networks of the cluster may take to be made before the member is ready
/// without them.
const EQUIPPED_WITHIN: Duration = Duration::from_secs(30);

/// Makes sure that the log has the node as a member, then seals aside what it had before.
/// [`End::Again`]: the cluster does not take it, and it stands alone as before.
///
/// # Errors
/// When the cluster cannot be asked.
pub(super) async fn take_up(
    directory: &Directory,
    member: &Member,
    control: &Control,
    start: &Start,
) -> Result<End, DaemonError> {
    let entered = cluster::enter(control, &member.config, &member.identity, start.clone()).await;
    match entered {
        Ok(()) => {}
        Err(EntryError::Refused(why)) => {
            tracing::error!(%why, "the cluster refuses this server: it stands alone again");
            cluster::undo(directory).await;
            return Ok(End::Again);
        }
        Err(error @ EntryError::Later(_)) => return Err(DaemonError::Broken(error.to_string())),
    }
    cluster::seal(directory, &member.config).map_err(DaemonError::Seal)?;
    Ok(End::Gone)
}

/// Begins what goes on for as long as the node is a member.
///
/// # Errors
/// When the log cannot take it.
pub(super) async fn run(
    directory: &Directory,
    member: &Arc<Member>,
    control: &Control,
    drivers: &Drivers,
    failing: &mut JoinSet<String>,
) -> Result<(), DaemonError> {
    // From now on the others can be asked.
    let _ = member.peers(control);
    cluster::clean_host(directory, &member.config, drivers).await;
    if control.world().server.cluster.is_none() {
        let enable = Enable {
            cluster: member.config.cluster,
            node: member.identity.node(),
            name: member.config.name.clone(),
            address: member.config.address.clone(),
            fingerprint: member.identity.certificate().fingerprint().to_string(),
        };
        let command = Command::EnableCluster(Box::new(enable));
        control.submit(command, Request::by(Actor::system())).await?;
    }
    let prepare = Command::PrepareNode { node: member.identity.node() };
    match control.submit(prepare, Request::by(Actor::system())).await {
        Ok(_) => {}
        Err(SubmitError::Rejected(why)) => tracing::warn!(%why, "pools and networks are not made"),
        Err(error) => return Err(error.into()),
    }
    let ended = |what: &str| format!("{what} ended");
    let listener = member.clone();
    failing.spawn(async move {
        cluster::listen(listener).await;
        ended("the watch over the log")
    });
    drivers.secrets.among(Others {
        here: member.identity.node(),
        control: control.clone(),
        peers: member.peers(control),
        arrivals: drivers.exchange.clone(),
    });
    let keys = drivers.secrets.clone();
    failing.spawn(async move {
        keys.tend().await;
        ended("the watch over the keys")
    });
    let (directory, member, control) = (directory.clone(), member.clone(), control.clone());
    failing.spawn(async move {
        cluster::tend(directory, member, control).await;
        // Servers that are not ours are not tended.
        std::future::pending::<String>().await
    });
    Ok(())
}

/// Waits until the node has made the pools and networks of the cluster, or could not: who finds a
/// member ready can use it.
pub(super) async fn equip(member: &Member, control: &Control) {
    let node = member.identity.node();
    let equipped = control.until(|world| !resource::awaits(world, node));
    if tokio::time::timeout(EQUIPPED_WITHIN, equipped).await.is_err() {
        tracing::warn!("pools or networks are still being made; ready without them");
    }
}

/// From now on the others hear this node and it hears them; its guests that may run elsewhere run on
/// its lease, and it watches over the cluster with the others. Its guests are known by now.
pub(super) fn hold(
    (directory, member): (&Directory, &Member),
    (control, guests): (&Control, Arc<dyn Guests>),
    applied: watch::Receiver<Sequence>,
    boot: Uuid,
    failing: &mut JoinSet<String>,
) {
    let node = member.identity.node();
    let leases = GuestLeases::new(node, control.clone(), guests);
    let config = MembershipConfig { node, boot, proof: directory.node().join("lease") };
    let around = Surroundings {
        log: member.log.clone(),
        presence: Arc::new(member.presence()),
        fence: leases.clone(),
        clock: Arc::new(MachineClock),
        applied,
    };
    let membership = Membership::start(config, around);
    let ears = Arc::new(MemberEars::new(membership, control.clone(), node));
    member.hears_by(ears.clone());
    let watch = Watch::new(control.clone(), node, ears);
    failing.spawn(async move {
        tokio::join!(watch.run(), leases.follow());
        "the watch over the cluster ended".to_owned()
    });
}

/// Serves the API to other members and remote clients, and to members what they fetch from here.
///
/// # Errors
/// When the address cannot be bound.
pub(super) async fn listen(
    seat: &Seat,
    (api, backend, sources): (&Api, &Arc<dyn Backend>, Arc<Exchange>),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, DaemonError> {
    let address = seat.config.address.clone();
    let unusable = |source: io::Error| DaemonError::Address { address: address.clone(), source };
    let listener = TlsListener::bind(&address, seat.tls.clone()).await.map_err(unusable)?;
    tracing::info!(address, "serving members");
    let peers = stapes_api::peer::router(sources, cluster::is_member_by(backend));
    let router = api.remote_router().merge(peers);
    Ok(tokio::spawn(listener.serve(router, stop)))
}
