//! From one server to three: nothing is lost, nobody restarts, and one of three may be killed.

use std::time::Duration;

use futures::StreamExt;
use stapes_core::{
    ids::{CommitId, NodeId, Sequence, StreamId, StreamKind},
    port::{
        log::{Commit, EventLog, Expected, Part},
        queue::{Deliveries, Tasks},
    },
};
use stapes_nats::{
    JetStreamLog, JetStreamTasks,
    managed::{ManagedConfig, ManagedError, ManagedServer, Role, Status, Stop},
    remove_queues_of_others,
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::farm::{Farm, SOON, append, check, kept_log, kill, log};

/// Waits until the log is kept `replicas` times, everywhere up to date.
async fn replicated(log: &JetStreamLog, replicas: usize) {
    let until = Instant::now() + SOON;
    loop {
        let kept = log.keepers().await;
        if let Ok(keepers) = &kept
            && keepers.leader.is_some()
            && keepers.others.len() + 1 == replicas
            && keepers.others.iter().all(|replica| replica.current)
        {
            return;
        }
        assert!(Instant::now() < until, "the log is not kept {replicas} times: {kept:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The founder, with a log.
async fn founded(farm: &Farm) -> Vec<ManagedServer> {
    let server = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    kept_log(farm, &server).await;
    vec![server]
}

/// Starts the servers up to `nodes`, each after the others were told of it.
async fn grow(farm: &Farm, servers: &mut Vec<ManagedServer>, nodes: usize) {
    for newcomer in servers.len() + 1..=nodes {
        tell(farm, servers, newcomer).await;
        servers.push(ManagedServer::start(farm.config(newcomer, newcomer)).await.unwrap());
    }
}

/// Tells the servers of the first `known` nodes.
async fn tell(farm: &Farm, servers: &[ManagedServer], known: usize) {
    for (index, server) in servers.iter().enumerate() {
        server.update(farm.config(index + 1, known)).await.unwrap();
    }
}

#[tokio::test]
async fn one_becomes_three_and_one_of_three_may_die() {
    let farm = Farm::new(3);
    let mut servers = founded(&farm).await;
    append(&log(&farm, &servers[0]).await, 0..200).await;
    let founder = farm.site(1).pid();

    grow(&farm, &mut servers, 3).await;
    assert_eq!(farm.site(1).pid(), founder, "the founder was not restarted");
    let kept = kept_log(&farm, &servers[0]).await;
    kept.set_replicas(3).await.unwrap();
    let deciders = servers[1].deciders().await.unwrap();
    assert_eq!((deciders.size, deciders.online.len()), (3, 3));
    assert!(deciders.leader.is_some_and(|leader| deciders.online.contains(&leader)));
    replicated(&kept, 3).await;
    for server in &servers {
        check(&log(&farm, server).await, 200).await;
    }

    // The leader is killed while the others write.
    let mut status = servers[0].status();
    let two = log(&farm, &servers[1]).await;
    let began = Instant::now();
    kill(founder);
    append(&two, 200..300).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?} without a leader", began.elapsed());
    status.wait_for(|status| *status == Status::Ready).await.unwrap();
    servers[0].ready(SOON).await.unwrap();
    replicated(&two, 3).await;
    for server in &servers {
        check(&log(&farm, server).await, 300).await;
    }
    for server in servers {
        server.stop(Stop::Now).await.unwrap();
    }
}

#[tokio::test]
async fn empty_servers_do_not_begin_without_the_log() {
    let farm = Farm::new(3);
    let mut servers = founded(&farm).await;
    append(&log(&farm, &servers[0]).await, 0..20).await;
    tell(&farm, &servers, 3).await;
    servers.remove(0).stop(Stop::Now).await.unwrap();
    let starts = [2, 3].map(|number| ManagedServer::start(farm.config(number, 3)));
    for started in futures::future::join_all(starts).await {
        let error = started.unwrap_err();
        assert!(matches!(error, ManagedError::NobodyThere(_)), "{error}");
    }
    let server = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    check(&log(&farm, &server).await, 20).await;
    server.stop(Stop::Now).await.unwrap();
}

#[tokio::test]
async fn a_relay_serves_its_node_and_keeps_nothing_until_it_is_to() {
    let farm = Farm::new(2);
    let mut servers = founded(&farm).await;
    tell(&farm, &servers, 2).await;
    let relay = ManagedConfig { role: Role::Relay, ..farm.config(2, 2) };
    servers.push(ManagedServer::start(relay.clone()).await.unwrap());
    append(&log(&farm, &servers[1]).await, 0..30).await;
    assert!(!relay.dir.join("store").exists());

    // The founder alone decides: a relay that is gone stops nothing.
    servers.pop().unwrap().stop(Stop::Now).await.unwrap();
    append(&log(&farm, &servers[0]).await, 30..40).await;

    servers.push(ManagedServer::start(relay).await.unwrap());
    servers[1].update(farm.config(2, 2)).await.unwrap();
    assert!(farm.config(2, 2).dir.join("store").exists());
    check(&log(&farm, &servers[1]).await, 40).await;
    for server in servers {
        server.stop(Stop::Now).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_leaves_and_the_rest_decides_without_it() {
    let farm = Farm::new(3);
    let mut servers = founded(&farm).await;
    grow(&farm, &mut servers, 3).await;
    for number in [3, 2] {
        servers.pop().unwrap().stop(Stop::Now).await.unwrap();
        servers[0].remove_peer(farm.site(number).node).await.unwrap();
        tell(&farm, &servers, number - 1).await;
    }
    append(&log(&farm, &servers[0]).await, 0..10).await;
    let alone = servers.remove(0);
    alone.stop(Stop::Now).await.unwrap();
    let again = ManagedServer::start(farm.config(1, 1)).await.unwrap();
    append(&log(&farm, &again).await, 10..20).await;
    check(&log(&farm, &again).await, 20).await;
    again.stop(Stop::Now).await.unwrap();
}

/// The next task of the node is ordered, delivered and done; where it is.
async fn works(
    log: &JetStreamLog,
    node: NodeId,
    tasks: &mut (JetStreamTasks, Deliveries),
) -> Sequence {
    let stream = StreamId::new(StreamKind::Task, node);
    let parts = vec![Part { stream, expected: Expected::Any, payload: "work".into() }];
    let ordered = log.append(Commit { id: CommitId(Uuid::new_v4()), parts }).await.unwrap().last;
    let delivered = timeout(SOON, tasks.1.next()).await.expect("it comes").unwrap().unwrap();
    assert_eq!(delivered.sequence, ordered);
    tasks.0.acknowledge(ordered).await.unwrap();
    ordered
}

async fn queue(log: &JetStreamLog, node: NodeId) -> (JetStreamTasks, Deliveries) {
    let tasks = JetStreamTasks::new(log, node);
    let deliveries = tasks.deliver().await.unwrap();
    (tasks, deliveries)
}

#[tokio::test]
async fn the_queue_of_a_node_that_left_is_removed() {
    let farm = Farm::new(2);
    let mut servers = founded(&farm).await;
    grow(&farm, &mut servers, 2).await;
    let [stays, leaves] = [1, 2].map(|number| farm.site(number).node);
    let (one, two) = (log(&farm, &servers[0]).await, log(&farm, &servers[1]).await);
    let mut its_own = queue(&one, stays).await;
    works(&one, stays, &mut its_own).await;
    let done = works(&two, leaves, &mut queue(&two, leaves).await).await;

    let kept = kept_log(&farm, &servers[0]).await;
    let remove = async |members: &[NodeId]| {
        let members = members.iter().copied().collect();
        remove_queues_of_others(kept.connection(), farm.cluster, &members).await.unwrap()
    };
    assert_eq!(remove(&[stays]).await, [leaves].into());
    assert_eq!(remove(&[stays]).await, [].into(), "it is removed once");
    // Should it come back, what it did is not new to it.
    assert_eq!(JetStreamTasks::new(&kept, leaves).done().await.unwrap(), done);

    // A member whose queue is removed all the same, because it joined just now, makes it again.
    assert_eq!(remove(&[]).await, [stays].into());
    works(&one, stays, &mut its_own).await;
    for server in servers {
        server.stop(Stop::Now).await.unwrap();
    }
}

#[tokio::test]
async fn two_of_three_are_enough_and_one_waits_for_another() {
    let farm = Farm::new(3);
    let mut servers = founded(&farm).await;
    let one = log(&farm, &servers[0]).await;
    append(&one, 0..50).await;
    one.set_cursor("reader", Sequence(50)).await.unwrap();
    grow(&farm, &mut servers, 3).await;
    kept_log(&farm, &servers[0]).await.set_replicas(3).await.unwrap();
    let members = [1, 2].map(|number| farm.config(number, 3));
    for number in 1..=3 {
        servers[number - 1].update(farm.config(number, 3)).await.unwrap();
    }
    for server in servers {
        server.stop(Stop::Now).await.unwrap();
    }

    // The power comes back, and with it two of three.
    let [one, two] = members.map(ManagedServer::start);
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    let reader = log(&farm, &two).await;
    check(&reader, 50).await;
    assert_eq!(reader.cursor("reader").await.unwrap(), Sequence(50));
    append(&log(&farm, &one).await, 50..60).await;

    // One alone does not decide, and says who is missing.
    two.stop(Stop::Now).await.unwrap();
    let alone = async {
        while one.deciders().await.unwrap().leader.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        one.deciders().await.unwrap()
    };
    let alone = timeout(SOON, alone).await.unwrap();
    assert_eq!((alone.size, alone.online.len()), (3, 1));
    let three = ManagedServer::start(farm.config(3, 3)).await.unwrap();
    append(&log(&farm, &three).await, 60..70).await;
    check(&log(&farm, &one).await, 70).await;
    one.stop(Stop::Now).await.unwrap();
    three.stop(Stop::Now).await.unwrap();
}
