//! Whatever fails, and wherever: an error or a short stream, in a bounded time.

use std::{fs::File, io::Read, sync::Arc, time::Duration};

use stapes_core::port::{DriverError, peer::PeerAddress};
use tokio::{
    io::copy,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::{
    certificates::{Authority, node},
    node::{Node, Plan, client, content, everybody, fetch, read},
};

/// For what must come to an end by itself.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_the_source_refuses_is_told_as_it_is() {
    let authority = Authority::new();
    let serving = Node::serve(&authority, Plan::Refuse, everybody()).await;
    let answer = fetch(&client(&authority), &serving.address, Plan::Refuse).await;
    assert_eq!(answer.unwrap_err(), DriverError::NotFound("checkpoint".into()));
    serving.stop().await;
}

#[tokio::test]
async fn a_failure_in_the_middle_is_a_short_stream() {
    const BYTES: usize = 4_000_000;
    let authority = Authority::new();
    for plan in [Plan::FailAfter { bytes: BYTES }, Plan::Miscount { bytes: BYTES }] {
        let serving = Node::serve(&authority, plan, everybody()).await;
        let pipe = fetch(&client(&authority), &serving.address, plan).await.unwrap();
        let came = read(pipe).await;
        assert!(came.len() < BYTES, "{plan:?}: never what looks whole");
        assert!(came == content(BYTES)[..came.len()]);
        serving.stop().await;
    }
}

#[tokio::test]
async fn a_failure_at_once_is_an_error_or_nothing() {
    let authority = Authority::new();
    let plan = Plan::FailAfter { bytes: 8 };
    let serving = Node::serve(&authority, plan, everybody()).await;
    let pipe = fetch(&client(&authority), &serving.address, plan).await.unwrap();
    assert!(read(pipe).await.is_empty());
    serving.stop().await;
}

#[tokio::test]
async fn a_slow_source_is_waited_for() {
    let authority = Authority::new();
    let serving = Node::serve(&authority, Plan::Wait, everybody()).await;
    // Less patient than the source is slow: its pulses are what keeps the connection.
    let client = client(&authority).giving_up_after(Duration::from_millis(2800));
    let pipe = fetch(&client, &serving.address, Plan::Wait).await.unwrap();
    assert_eq!(read(pipe).await, content(8));
    serving.stop().await;
}

#[tokio::test]
async fn a_gone_reader_stops_the_source() {
    let authority = Authority::new();
    let plan = Plan::Send { bytes: 50_000_000 };
    let mut serving = Node::serve(&authority, plan, everybody()).await;
    let pipe = fetch(&client(&authority), &serving.address, plan).await.unwrap();
    let read = move || File::from(pipe).read_exact(&mut [0; 1000]);
    tokio::task::spawn_blocking(read).await.unwrap().unwrap();
    let outcome = tokio::time::timeout(BOUND, serving.outcomes.recv()).await.unwrap();
    assert!(matches!(outcome, Some(Err(DriverError::Failed(_)))), "{outcome:?}");
    serving.stop().await;
}

#[tokio::test]
async fn nobody_there_is_told() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let address = PeerAddress { node: node(1), address };
    let patience = Duration::from_millis(300);
    let client = client(&authority).giving_up_after(patience);
    // Somebody takes the connection and says nothing.
    let answer = tokio::time::timeout(BOUND, fetch(&client, &address, Plan::Refuse)).await;
    assert!(matches!(answer, Ok(Err(DriverError::Failed(_)))), "{answer:?}");
    drop(listener);
    let answer = fetch(&client, &address, Plan::Refuse).await;
    assert!(matches!(answer, Err(DriverError::Failed(_))), "{answer:?}");
}

/// A cable between two nodes that can be cut without either of them being told.
struct Cable {
    address: String,
    cut: Arc<Notify>,
}

impl Cable {
    async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cable = Self {
            address: listener.local_addr().unwrap().to_string(),
            cut: Arc::new(Notify::new()),
        };
        let cut = cable.cut.clone();
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(address).await.unwrap();
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                (near.into_split(), far.into_split());
            let both = async {
                tokio::join!(copy(&mut near_in, &mut far_out), copy(&mut far_in, &mut near_out))
            };
            tokio::select! {
                _ = both => {}
                () = cut.notified() => {}
            }
            // Held open, and silent.
            std::future::pending::<()>().await;
            drop((near_in, near_out, far_in, far_out));
        });
        cable
    }
}

#[tokio::test]
async fn a_connection_that_goes_silent_ends() {
    let authority = Authority::new();
    let plan = Plan::Send { bytes: 50_000_000 };
    let serving = Node::serve(&authority, plan, everybody()).await;
    let cable = Cable::to(serving.address.address.clone()).await;
    let address = PeerAddress { address: cable.address.clone(), ..serving.address.clone() };
    let client = client(&authority).giving_up_after(Duration::from_millis(500));
    let pipe = fetch(&client, &address, plan).await.unwrap();
    cable.cut.notify_one();
    let came = tokio::time::timeout(BOUND, read(pipe)).await.unwrap();
    assert!(came.len() < 50_000_000);
    // The serving side still waits for its own bound; the daemon's end does not wait for that.
    drop(serving);
}
