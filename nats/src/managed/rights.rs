//! What a node may say and hear on the cluster's subjects.
//!
//! Every node decides, so every node may append to the log and read it, tasks of others included:
//! a false decision is refused by its expectations, not by a credential. Everything else is its own:
//! its heartbeat, the consumers of its tasks, its inbox. Nobody but a [keeper](super::config) may
//! make, change, purge or delete a stream.

use serde_json::{Value, json};
use stapes_core::ids::NodeId;
use uuid::Uuid;

use crate::{log::Names, presence, queue};

/// Answers to a node come below this, and only it may hear them.
pub(super) fn inbox(node: NodeId) -> String {
    format!("_INBOX_{}", node.0.simple())
}

/// The permissions of `node` among `nodes`, as nats-server's configuration has them.
pub(super) fn of(cluster: Uuid, node: NodeId, nodes: &[NodeId]) -> Value {
    let names = Names::new(cluster);
    let (log, cursors) = (&names.log, &names.cursors);
    let mut publish = vec![
        names.all(),
        names.all_cursors(),
        presence::subject(cluster, node),
        "$JS.API.INFO".to_owned(),
    ];
    for stream in [log, cursors] {
        publish.extend([
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.STREAM.MSG.GET.{stream}"),
            format!("$JS.API.DIRECT.GET.{stream}"),
            format!("$JS.API.DIRECT.GET.{stream}.>"),
        ]);
    }
    publish.extend([
        // Those that read the log: without a filter, and by a name of their own each time.
        format!("$JS.API.CONSUMER.CREATE.{log}.*"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{log}.*"),
        format!("$JS.API.CONSUMER.INFO.{log}.*"),
        format!("$JS.FC.{log}.>"),
        format!("$JS.FC.*.*.{log}.>"),
    ]);
    publish.extend(queue::consumers(node).into_iter().flat_map(|own| {
        [
            format!("$JS.API.CONSUMER.CREATE.{log}.{own}.>"),
            format!("$JS.API.CONSUMER.DELETE.{log}.{own}"),
            format!("$JS.ACK.{log}.{own}.>"),
            // The same with domain and account, as servers may send it from 2.14 on.
            format!("$JS.ACK.*.*.{log}.{own}.>"),
        ]
    }));
    let others = nodes.iter().filter(|other| **other != node);
    let theirs = others.flat_map(|other| queue::consumers(*other)).flat_map(|name| {
        [
            format!("$JS.API.CONSUMER.CREATE.{log}.{name}"),
            format!("$JS.API.CONSUMER.CREATE.{log}.{name}.>"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{log}.{name}"),
        ]
    });
    let deny: Vec<String> = theirs.collect();
    let hears = [format!("{}.>", inbox(node)), presence::subjects(cluster)];
    json!({
        "publish": { "allow": publish, "deny": deny },
        "subscribe": { "allow": hears },
    })
}
