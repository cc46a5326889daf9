//! What stands in the configuration, and that nothing slips into it.

use std::path::PathBuf;

use stapes_core::ids::{Fingerprint, NodeId};
use uuid::Uuid;

use super::*;
use crate::{
    TlsFiles,
    managed::{Beginning, Peer},
    queue,
};

fn node(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

fn peer(number: u16, key: Option<&str>) -> Peer {
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port + number));
    let public_key = key.map(|digit| Fingerprint::new(digit.repeat(64)).unwrap());
    Peer { node: node(number.into()), client: at(4000), route: at(5000), public_key }
}

fn config(dir: &str) -> ManagedConfig {
    ManagedConfig {
        dir: PathBuf::from(dir),
        binary: PathBuf::from("nats-server"),
        cluster: Uuid::from_u128(0xc1),
        node: node(1),
        client: "10.0.0.1:4001".parse().unwrap(),
        route: "[fd00::1]:5001".parse().unwrap(),
        peers: vec![peer(2, Some("b")), peer(3, Some("c"))],
        tls: TlsFiles { ca: "/ca".into(), certificate: "/crt".into(), key: "/key".into() },
        public_key: Some(Fingerprint::new("a".repeat(64)).unwrap()),
        nodes: vec![node(1), node(2), node(3)],
        role: Role::Keeper,
        beginning: Beginning::Found,
        max_store_bytes: 1 << 30,
    }
}

fn rendered(config: &ManagedConfig) -> Value {
    let keys = Keys { keeper: "UKEEPER".to_owned(), system: "USYSTEM".to_owned() };
    let text = render(config, &Paths::new(&config.dir), &keys).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_write_is_synced_and_every_side_is_shown() {
    let value = rendered(&config("/var/lib/x"));
    assert_eq!(value["jetstream"]["sync_interval"], "always");
    assert_eq!(value["tls"]["verify_and_map"], true);
    assert_eq!(value["cluster"]["tls"]["verify"], true);
    let routes = value["cluster"]["routes"].as_array().unwrap();
    assert_eq!(routes[0], "nats-route://[fd00::1]:5001");
    assert_eq!(routes.len(), 3);
    let relay = rendered(&ManagedConfig { role: Role::Relay, ..config("/var/lib/x") });
    assert_eq!(relay.get("jetstream"), None);
}

#[test]
fn a_node_has_its_own_and_not_anothers() {
    let value = rendered(&config("/var/lib/x"));
    let users = value["accounts"]["STAPES"]["users"].as_array().unwrap();
    assert_eq!(users.len(), 4, "three nodes and the keeper");
    let two = &users[1];
    assert_eq!(two["user"], format!("node-{}.stapes", node(2)));
    let publish = two["permissions"]["publish"].to_string();
    let deny = two["permissions"]["publish"]["deny"].to_string();
    let allow = two["permissions"]["publish"]["allow"].to_string();
    let log = Uuid::from_u128(0xc1).simple();
    for own in queue::consumers(node(2)) {
        assert!(allow.contains(&format!("CREATE.STAPES_{log}.{own}.>")));
        assert!(!deny.contains(&own));
    }
    for other in queue::consumers(node(3)) {
        assert!(!allow.contains(&other));
        for what in ["CREATE", "MSG.NEXT"] {
            assert!(deny.contains(&format!("{what}.STAPES_{log}.{other}")), "{what} {other}");
        }
    }
    for forbidden in ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "$SYS"] {
        assert!(!publish.contains(forbidden), "{forbidden}");
    }
    let hears = two["permissions"]["subscribe"]["allow"].to_string();
    assert!(hears.contains(&rights::inbox(node(2))) && !hears.contains(&rights::inbox(node(3))));
}

#[test]
fn servers_are_pinned_when_every_key_is_known() {
    let pins = |config: &ManagedConfig| rendered(config)["cluster"]["tls"]["pinned_certs"].clone();
    assert_eq!(pins(&config("/x")).as_array().unwrap().len(), 3);
    let mut one_unknown = config("/x");
    one_unknown.peers[1].public_key = None;
    assert_eq!(pins(&one_unknown), Value::Null);
}

#[test]
fn nothing_slips_out_of_its_quotes() {
    let odd = "/tmp/a \" } $HOME include 'x'";
    assert_eq!(rendered(&config(odd))["jetstream"]["store_dir"], format!("{odd}/store"));
    let keys = Keys { keeper: String::new(), system: String::new() };
    for bad in ["/tmp/a\nport: 1", "/tmp/\u{7f}"] {
        let config = config(bad);
        let error = render(&config, &Paths::new(&config.dir), &keys).unwrap_err();
        assert!(matches!(error, ManagedError::BadValue(_)), "{error}");
    }
}
