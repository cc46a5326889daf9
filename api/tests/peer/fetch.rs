//! Fetching: who may, and how fast it goes.

use std::time::Instant;

use stapes_api::{peer::PeerClient, tls::TlsConfig};
use stapes_core::port::{DriverError, peer::PeerAddress};

use crate::{
    certificates::{Authority, node},
    node::{Node, Plan, client, content, everybody, fetch, only, read},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_arrive_whole() {
    const BYTES: usize = 100_000_000;
    let authority = Authority::new();
    let plan = Plan::Send { bytes: BYTES };
    let mut serving = Node::serve(&authority, plan, only(node(2))).await;
    let begun = Instant::now();
    let pipe = fetch(&client(&authority), &serving.address, plan).await.unwrap();
    let came = read(pipe).await;
    let took = begun.elapsed();
    println!("{BYTES} bytes in {took:?}: {:.0} MB/s", BYTES as f64 / 1e6 / took.as_secs_f64());
    assert!(came == content(BYTES));
    assert_eq!(serving.outcomes.recv().await, Some(Ok(BYTES as u64)));
    serving.stop().await;
}

#[tokio::test]
async fn nothing_at_all_arrives_whole_too() {
    let authority = Authority::new();
    let plan = Plan::Send { bytes: 0 };
    let serving = Node::serve(&authority, plan, everybody()).await;
    let pipe = fetch(&client(&authority), &serving.address, plan).await.unwrap();
    assert!(read(pipe).await.is_empty());
    serving.stop().await;
}

fn refused<T: std::fmt::Debug>(answer: Result<T, DriverError>, why: &str) {
    match answer {
        Err(DriverError::Refused(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_members_are_served() {
    let authority = Authority::new();
    let plan = Plan::Send { bytes: 80 };
    let mut serving = Node::serve(&authority, plan, only(node(3))).await;
    refused(fetch(&client(&authority), &serving.address, plan).await, "no member");
    // Whoever may serve is decided by who asks.
    let strict = PeerClient::new(authority.tls(node(3)), only(node(3)));
    refused(fetch(&strict, &serving.address, plan).await, "nothing is asked of it");
    let member = PeerClient::new(authority.tls(node(3)), only(node(1)));
    let pipe = fetch(&member, &serving.address, plan).await.unwrap();
    assert_eq!(read(pipe).await, content(80));
    assert_eq!(serving.outcomes.recv().await, Some(Ok(80)), "the only one that was asked for");
    serving.stop().await;
}

#[tokio::test]
async fn strangers_are_told_from_members() {
    let (authority, other) = (Authority::new(), Authority::new());
    let plan = Plan::Send { bytes: 80 };
    let mut serving = Node::serve(&authority, plan, everybody()).await;
    // Of another cluster, which trusts this one: it is no node of ours, whatever it claims to be.
    for files in [other.files_that_trust(node(2), &authority.file()), authority.self_signed()] {
        let stranger = PeerClient::new(TlsConfig::load(&files).unwrap(), everybody());
        refused(fetch(&stranger, &serving.address, plan).await, "only members");
    }
    // And a server of another cluster is not asked.
    refused(fetch(&client(&other), &serving.address, plan).await, "does not prove");
    // Nor one that is another node.
    let wrong = PeerAddress { node: node(4), ..serving.address.clone() };
    refused(fetch(&client(&authority), &wrong, plan).await, "does not prove");
    assert!(serving.outcomes.try_recv().is_err(), "nothing was sent to anybody");
    serving.stop().await;
}
