//! One sample of each event and of each work order; a variant without one does not compile.

use super::parts::*;
use stapes_core::{
    event::Event,
    ids::{
        CommitId, Epoch, Generation, InstanceId, NodeId, OperationId, PoolId, ProjectId,
        SnapshotId, TaskId, VolumeId,
    },
    image,
    instance::{self, Step},
    name::{self, Name, NameKind},
    network, node,
    operation::{self, Gain, Verb},
    pool,
    port::guest::{ExitCause, Mobility},
    profile, project,
    record::{Actor, Body, Digest, Protocol, Record},
    server,
    spec::{PoolDriver, PoolSpec, RootSource},
    task::{Subject, Task, Work},
    volume,
};

macro_rules! variants {
    ($($name:literal: $pattern:pat => $sample:expr,)*) => {
        const EVENTS: &[&str] = &[$($name,)*];

        /// The name of an event's variant.
        pub(super) fn variant(event: &Event) -> &'static str {
            match event {
                $($pattern => $name,)*
            }
        }

        fn events() -> Vec<(&'static str, Event)> {
            vec![$(($name, $sample.into()),)*]
        }
    };
}

variants! {
    "server/configured": Event::Server(server::Event::Configured { .. }) =>
        server::Event::Configured { changes: changes() },
    "server/cluster-enabled": Event::Server(server::Event::ClusterEnabled { .. }) =>
        server::Event::ClusterEnabled { cluster: id(31), node: NodeId(id(1)) },
    "server/token-created": Event::Server(server::Event::TokenCreated { .. }) =>
        server::Event::TokenCreated {
            name: text("two"), secret_hash: text("ab"), expires_at: time(),
        },
    "server/token-revoked": Event::Server(server::Event::TokenRevoked { .. }) =>
        server::Event::TokenRevoked { name: text("two") },
    "server/token-used": Event::Server(server::Event::TokenUsed { .. }) =>
        server::Event::TokenUsed { name: text("two"), node: NodeId(id(30)) },
    "server/group-created": Event::Server(server::Event::GroupCreated { .. }) =>
        server::Event::GroupCreated { name: text("gpu"), description: text("d") },
    "server/group-described": Event::Server(server::Event::GroupDescribed { .. }) =>
        server::Event::GroupDescribed { name: text("gpu"), description: text("d") },
    "server/group-renamed": Event::Server(server::Event::GroupRenamed { .. }) =>
        server::Event::GroupRenamed { from: text("a"), to: text("b") },
    "server/group-deleted": Event::Server(server::Event::GroupDeleted { .. }) =>
        server::Event::GroupDeleted { name: text("gpu") },
    "server/catalog-guarded": Event::Server(server::Event::CatalogGuarded) =>
        server::Event::CatalogGuarded,
    "node/started": Event::Node(node::Event::Started { .. }) => node::Event::Started {
        node: NodeId(id(1)),
        name: text("one"),
        architecture: text("x86_64"),
        cpus: 8,
        memory_bytes: 32 << 30,
        boot: id(2),
        version: text("0.1.0"),
    },
    "node/joined": Event::Node(node::Event::Joined { .. }) =>
        node::Event::Joined { address: text("10.0.0.1:8443"), fingerprint: text("ab") },
    "node/lost": Event::Node(node::Event::Lost) => node::Event::Lost,
    "node/returned": Event::Node(node::Event::Returned) => node::Event::Returned,
    "node/fenced": Event::Node(node::Event::Fenced { .. }) =>
        node::Event::Fenced { proof: node::FencingProof::LeaseExpired },
    "node/evacuation-requested": Event::Node(node::Event::EvacuationRequested { .. }) =>
        node::Event::EvacuationRequested {
            operation: OperationId(id(4)), mode: node::Evacuation::LiveMigrate,
        },
    "node/evacuation-failed": Event::Node(node::Event::EvacuationFailed { .. }) =>
        node::Event::EvacuationFailed { error: text("no") },
    "node/evacuated": Event::Node(node::Event::Evacuated) => node::Event::Evacuated,
    "node/restore-requested": Event::Node(node::Event::RestoreRequested { .. }) =>
        node::Event::RestoreRequested { operation: OperationId(id(4)) },
    "node/restored": Event::Node(node::Event::Restored) => node::Event::Restored,
    "node/configured": Event::Node(node::Event::Configured { .. }) => node::Event::Configured {
        changes: changes(),
        description: Some(text("d")),
        groups: Some([text("gpu")].into()),
        failure_domain: Some(text("rack1")),
    },
    "node/renamed": Event::Node(node::Event::Renamed { .. }) =>
        node::Event::Renamed { from: text("a"), to: text("b") },
    "node/removed": Event::Node(node::Event::Removed) => node::Event::Removed,
    "project/created": Event::Project(project::Event::Created { .. }) => project::Event::Created {
        name: text("p"), description: text("d"), config: config(),
    },
    "project/configured": Event::Project(project::Event::Configured { .. }) =>
        project::Event::Configured { changes: changes(), description: Some(text("d")) },
    "project/renamed": Event::Project(project::Event::Renamed { .. }) =>
        project::Event::Renamed { from: text("a"), to: text("b") },
    "project/deleted": Event::Project(project::Event::Deleted) => project::Event::Deleted,
    "profile/created": Event::Profile(profile::Event::Created { .. }) => profile::Event::Created {
        project: ProjectId(id(3)),
        name: text("p"),
        description: text("d"),
        config: config(),
        devices: [(text("root"), config())].into(),
    },
    "profile/configured": Event::Profile(profile::Event::Configured { .. }) =>
        profile::Event::Configured {
            changes: changes(),
            devices: [(text("root"), Some(config())), (text("eth0"), None)].into(),
            description: None,
        },
    "profile/renamed": Event::Profile(profile::Event::Renamed { .. }) =>
        profile::Event::Renamed { from: text("a"), to: text("b") },
    "profile/deleted": Event::Profile(profile::Event::Deleted) => profile::Event::Deleted,
    "network/created": Event::Network(network::Event::Created { .. }) => network::Event::Created {
        operation: OperationId(id(4)),
        project: ProjectId(id(3)),
        name: text("br0"),
        description: text("d"),
        config: config(),
        nodes: [NodeId(id(1)), NodeId(id(30))].into(),
    },
    "network/ready": Event::Network(network::Event::Ready) => network::Event::Ready,
    "network/configured": Event::Network(network::Event::Configured { .. }) =>
        network::Event::Configured {
            operation: OperationId(id(4)), changes: changes(), description: Some(text("d")),
        },
    "network/delete-requested": Event::Network(network::Event::DeleteRequested { .. }) =>
        network::Event::DeleteRequested { operation: OperationId(id(4)) },
    "network/failed": Event::Network(network::Event::Failed { .. }) =>
        network::Event::Failed { verb: Verb::CreateNetwork, error: text("no") },
    "network/deleted": Event::Network(network::Event::Deleted) => network::Event::Deleted,
    "network/node-asked": Event::Network(network::Event::NodeAsked { .. }) =>
        network::Event::NodeAsked { node: NodeId(id(30)), generation: Generation(2) },
    "network/node-ready": Event::Network(network::Event::NodeReady { .. }) =>
        network::Event::NodeReady { node: NodeId(id(30)) },
    "network/node-failed": Event::Network(network::Event::NodeFailed { .. }) =>
        network::Event::NodeFailed { node: NodeId(id(30)), error: text("no") },
    "network/node-gone": Event::Network(network::Event::NodeGone { .. }) =>
        network::Event::NodeGone { node: NodeId(id(30)) },
    "pool/created": Event::Pool(pool::Event::Created { .. }) => pool::Event::Created {
        operation: OperationId(id(4)),
        name: text("local"),
        description: text("d"),
        driver: text("btrfs"),
        config: config(),
        nodes: [NodeId(id(1)), NodeId(id(30))].into(),
    },
    "pool/ready": Event::Pool(pool::Event::Ready) => pool::Event::Ready,
    "pool/configured": Event::Pool(pool::Event::Configured { .. }) =>
        pool::Event::Configured { changes: changes(), description: None },
    "pool/delete-requested": Event::Pool(pool::Event::DeleteRequested { .. }) =>
        pool::Event::DeleteRequested { operation: OperationId(id(4)) },
    "pool/failed": Event::Pool(pool::Event::Failed { .. }) =>
        pool::Event::Failed { verb: Verb::CreatePool, error: text("no") },
    "pool/deleted": Event::Pool(pool::Event::Deleted) => pool::Event::Deleted,
    "pool/node-asked": Event::Pool(pool::Event::NodeAsked { .. }) =>
        pool::Event::NodeAsked { node: NodeId(id(30)), generation: Generation(2) },
    "pool/node-ready": Event::Pool(pool::Event::NodeReady { .. }) =>
        pool::Event::NodeReady { node: NodeId(id(30)) },
    "pool/node-failed": Event::Pool(pool::Event::NodeFailed { .. }) =>
        pool::Event::NodeFailed { node: NodeId(id(30)), error: text("no") },
    "pool/node-gone": Event::Pool(pool::Event::NodeGone { .. }) =>
        pool::Event::NodeGone { node: NodeId(id(30)) },
    "volume/created": Event::Volume(volume::Event::Created { .. }) => volume::Event::Created {
        operation: OperationId(id(4)),
        pool: PoolId(id(5)),
        project: ProjectId(id(3)),
        name: text("data"),
        description: text("d"),
        config: config(),
        node: Some(NodeId(id(1))),
    },
    "volume/ready": Event::Volume(volume::Event::Ready) => volume::Event::Ready,
    "volume/configured": Event::Volume(volume::Event::Configured { .. }) =>
        volume::Event::Configured { changes: changes(), description: Some(text("d")) },
    "volume/renamed": Event::Volume(volume::Event::Renamed { .. }) =>
        volume::Event::Renamed { from: text("a"), to: text("b") },
    "volume/delete-requested": Event::Volume(volume::Event::DeleteRequested { .. }) =>
        volume::Event::DeleteRequested { operation: OperationId(id(4)) },
    "volume/failed": Event::Volume(volume::Event::Failed { .. }) =>
        volume::Event::Failed { verb: Verb::CreateVolume, error: text("no") },
    "volume/deleted": Event::Volume(volume::Event::Deleted) => volume::Event::Deleted,
    "image/imported": Event::Image(image::Event::Imported { .. }) => image::Event::Imported {
        project: ProjectId(id(3)),
        facts: Box::new(facts()),
        properties: config(),
        public: true,
        auto_update: false,
        profiles: vec![text("default")],
        node: Some(NodeId(id(1))),
    },
    "image/fetched": Event::Image(image::Event::Fetched { .. }) =>
        image::Event::Fetched { node: NodeId(id(30)) },
    "image/described": Event::Image(image::Event::Described { .. }) => image::Event::Described {
        properties: config(),
        public: false,
        auto_update: true,
        profiles: vec![text("default")],
        expires_at: Some(time()),
    },
    "image/deleted": Event::Image(image::Event::Deleted { .. }) =>
        image::Event::Deleted { fingerprint: fingerprint() },
    "instance/created": Event::Instance(instance::Event::Created(_)) =>
        instance::Event::Created(Box::new(created())),
    "instance/requested": Event::Instance(instance::Event::Requested { .. }) =>
        requested(vec![Step::Start]),
    "instance/continued": Event::Instance(instance::Event::Continued { .. }) =>
        instance::Event::Continued { generation: Generation(7) },
    "instance/failed": Event::Instance(instance::Event::Failed { .. }) =>
        instance::Event::Failed { verb: Verb::StartInstance, error: text("no") },
    "instance/root-created": Event::Instance(instance::Event::RootCreated) =>
        instance::Event::RootCreated,
    "instance/root-replaced": Event::Instance(instance::Event::RootReplaced { .. }) =>
        instance::Event::RootReplaced { image: Some(fingerprint()) },
    "instance/started": Event::Instance(instance::Event::Started { .. }) =>
        instance::Event::Started { pid: 4711, at: time(), guest: incarnation() },
    "instance/stopped": Event::Instance(instance::Event::Stopped { .. }) =>
        stopped(ExitCause::GuestShutdown),
    "instance/frozen": Event::Instance(instance::Event::Frozen) => instance::Event::Frozen,
    "instance/unfrozen": Event::Instance(instance::Event::Unfrozen) => instance::Event::Unfrozen,
    "instance/limits-applied": Event::Instance(instance::Event::LimitsApplied) =>
        instance::Event::LimitsApplied,
    "instance/reservations-applied": Event::Instance(instance::Event::ReservationsApplied) =>
        instance::Event::ReservationsApplied,
    "instance/reconfigured": Event::Instance(instance::Event::Reconfigured(_)) =>
        instance::Event::Reconfigured(Box::new(instance::Reconfigured {
            config: changes(),
            devices: [(text("eth0"), Some(config())), (text("eth1"), None)].into(),
            profiles: Some(vec![text("default")]),
            description: Some(text("d")),
            ephemeral: Some(true),
            leases: [(text("eth0"), Some(lease())), (text("eth1"), None)].into(),
        })),
    "instance/renamed": Event::Instance(instance::Event::Renamed { .. }) =>
        instance::Event::Renamed { from: text("a"), to: text("b") },
    "instance/snapshot-taken": Event::Instance(instance::Event::SnapshotTaken { .. }) =>
        instance::Event::SnapshotTaken {
            name: text("s"), snapshot: SnapshotId(id(6)), expires_at: Some(time()),
        },
    "instance/snapshot-deleted": Event::Instance(instance::Event::SnapshotDeleted { .. }) =>
        instance::Event::SnapshotDeleted { name: text("s") },
    "instance/snapshot-renamed": Event::Instance(instance::Event::SnapshotRenamed { .. }) =>
        instance::Event::SnapshotRenamed { from: text("a"), to: text("b") },
    "instance/snapshot-expiry-set": Event::Instance(instance::Event::SnapshotExpirySet { .. }) =>
        instance::Event::SnapshotExpirySet { name: text("s"), expires_at: None },
    "instance/snapshot-restored": Event::Instance(instance::Event::SnapshotRestored { .. }) =>
        instance::Event::SnapshotRestored { name: text("s") },
    "instance/deleted": Event::Instance(instance::Event::Deleted) => instance::Event::Deleted,
    "instance/move-assessed": Event::Instance(instance::Event::MoveAssessed { .. }) =>
        instance::Event::MoveAssessed {
            mode: Mobility::NearLive, reasons: vec![text("no criu")], steps: journey_steps(),
        },
    "instance/round-received": Event::Instance(instance::Event::RoundReceived { .. }) =>
        instance::Event::RoundReceived {
            round: SnapshotId(id(6)), bytes: 4096, steps: journey_steps(),
        },
    "instance/checkpointed": Event::Instance(instance::Event::Checkpointed { .. }) =>
        instance::Event::Checkpointed { at: time(), bytes: 4096 },
    "instance/moved": Event::Instance(instance::Event::Moved { .. }) => instance::Event::Moved {
        from: NodeId(id(1)),
        to: NodeId(id(30)),
        epoch: Epoch(3),
        idmap: guest().idmap,
        guest: Some((4711, incarnation())),
        bytes: 4096,
        as_of: Some(time()),
        home: Some(NodeId(id(1))),
        steps: vec![Step::Activate],
    },
    "instance/move-degraded": Event::Instance(instance::Event::MoveDegraded { .. }) =>
        instance::Event::MoveDegraded {
            mode: Mobility::NearLive, reason: text("because"), steps: vec![Step::Resume],
        },
    "instance/move-aborted": Event::Instance(instance::Event::MoveAborted { .. }) =>
        instance::Event::MoveAborted { error: text("no"), steps: vec![Step::Resume] },
    "instance/activated": Event::Instance(instance::Event::Activated { .. }) =>
        instance::Event::Activated { at: time() },
    "instance/resumed": Event::Instance(instance::Event::Resumed) => instance::Event::Resumed,
    "instance/rounds-dropped": Event::Instance(instance::Event::RoundsDropped) =>
        instance::Event::RoundsDropped,
    "instance/fetched": Event::Instance(instance::Event::Fetched { .. }) =>
        instance::Event::Fetched { bytes: 4096 },
    "instance/replicated": Event::Instance(instance::Event::Replicated { .. }) =>
        instance::Event::Replicated {
            node: NodeId(id(30)), snapshot: SnapshotId(id(6)), at: time(),
        },
    "operation/accepted": Event::Operation(operation::Event::Accepted { .. }) =>
        accepted(Verb::Exec),
    "operation/succeeded": Event::Operation(operation::Event::Succeeded { .. }) =>
        operation::Event::Succeeded { gain: Gain::Nothing },
    "operation/failed": Event::Operation(operation::Event::Failed { .. }) =>
        operation::Event::Failed { error: text("no") },
    "operation/cancelled": Event::Operation(operation::Event::Cancelled) =>
        operation::Event::Cancelled,
    "name/reserved": Event::Name(name::Event::Reserved { .. }) => reserved(NameKind::Instance),
    "name/released": Event::Name(name::Event::Released { .. }) =>
        name::Event::Released { name: Name::new(NameKind::Address, id(8), "10.0.0.2") },
}

macro_rules! works {
    ($($name:literal: $pattern:pat => $sample:expr,)*) => {
        const WORKS: &[&str] = &[$($name,)*];

        /// The name of a work order's variant.
        pub(super) fn work(work: &Work) -> &'static str {
            match work {
                $($pattern => $name,)*
            }
        }

        fn all_works() -> Vec<(&'static str, Work)> {
            vec![$(($name, $sample),)*]
        }
    };
}

works! {
    "task/create-root": Work::CreateRoot { .. } => Work::CreateRoot {
        pool: PoolId(id(5)),
        source: RootSource::Image(fingerprint()),
        quota_bytes: Some(1 << 30),
        reservations: vec![reservation()],
        image_at: vec![transfer().from],
    },
    "task/replace-root": Work::ReplaceRoot { .. } =>
        Work::ReplaceRoot {
            pool: PoolId(id(5)),
            source: RootSource::Empty,
            quota_bytes: None,
            image_at: vec![transfer().from],
        },
    "task/start": Work::Start { .. } =>
        Work::Start { spec: Box::new(guest()), reservations: vec![reservation()] },
    "task/stop": Work::Stop { .. } => Work::Stop { force: false, timeout: seconds(30) },
    "task/freeze": Work::Freeze => Work::Freeze,
    "task/unfreeze": Work::Unfreeze => Work::Unfreeze,
    "task/set-limits": Work::SetLimits { .. } =>
        Work::SetLimits { pool: PoolId(id(5)), limits: limits() },
    "task/reserve": Work::Reserve { .. } => Work::Reserve { reservations: vec![reservation()] },
    "task/create-snapshot": Work::CreateSnapshot { .. } =>
        Work::CreateSnapshot { pool: PoolId(id(5)), snapshot: SnapshotId(id(6)) },
    "task/delete-snapshot": Work::DeleteSnapshot { .. } =>
        Work::DeleteSnapshot { pool: PoolId(id(5)), snapshot: SnapshotId(id(6)) },
    "task/restore-snapshot": Work::RestoreSnapshot { .. } =>
        Work::RestoreSnapshot { pool: PoolId(id(5)), snapshot: SnapshotId(id(6)) },
    "task/delete-instance": Work::DeleteInstance { .. } =>
        Work::DeleteInstance { pool: PoolId(id(5)) },
    "task/ensure-pool": Work::EnsurePool { .. } => Work::EnsurePool {
        spec: PoolSpec {
            pool: PoolId(id(5)),
            name: text("local"),
            driver: PoolDriver::Btrfs { source: Some("/dev/vdb".into()), size_bytes: 1 << 30 },
        },
    },
    "task/remove-pool": Work::RemovePool => Work::RemovePool,
    "task/ensure-network": Work::EnsureNetwork { .. } =>
        Work::EnsureNetwork { spec: network_spec() },
    "task/remove-network": Work::RemoveNetwork => Work::RemoveNetwork,
    "task/create-volume": Work::CreateVolume { .. } =>
        Work::CreateVolume { pool: PoolId(id(5)), quota_bytes: Some(1 << 30) },
    "task/delete-volume": Work::DeleteVolume { .. } => Work::DeleteVolume { pool: PoolId(id(5)) },
    "task/remove-image": Work::RemoveImage { .. } =>
        Work::RemoveImage { pools: vec![PoolId(id(5))] },
    "task/assess": Work::Assess => Work::Assess,
    "task/receive": Work::Receive(_) => Work::Receive(Box::new(transfer())),
    "task/checkpoint": Work::Checkpoint => Work::Checkpoint,
    "task/restore": Work::Restore { .. } => Work::Restore {
        transfer: Box::new(transfer()),
        spec: Box::new(guest()),
        reservations: vec![reservation()],
    },
    "task/activate": Work::Activate => Work::Activate,
    "task/resume": Work::Resume => Work::Resume,
    "task/drop-rounds": Work::DropRounds { .. } =>
        Work::DropRounds {
            pool: PoolId(id(5)), volume: VolumeId(id(7)), rounds: vec![SnapshotId(id(6))],
        },
}

/// Every name that the corpus must have.
pub(super) const ALL: [&[&str]; 2] = [EVENTS, WORKS];

/// What has more to say since there are clusters: both forms are kept.
const GREW: [&str; 8] = [
    "pool/created",
    "network/created",
    "volume/created",
    "image/imported",
    "node/evacuation-requested",
    "operation/accepted",
    "task/create-root",
    "task/replace-root",
];

/// A record of each, and some with every variant of what is inside.
pub(super) fn records() -> Vec<(String, Record)> {
    let mut records: Vec<_> = events()
        .into_iter()
        .map(|(name, event)| (name.to_owned(), record(Body::Events(vec![event]))))
        .collect();
    for (name, work) in all_works() {
        records.push((name.to_owned(), record(Body::Task(Box::new(task(work))))));
    }
    let grew = records.iter().filter(|(name, _)| GREW.contains(&name.as_str()));
    let grew: Vec<_> =
        grew.map(|(name, record)| (format!("{name}.cluster"), record.clone())).collect();
    records.extend(grew);
    let mut more = |name: &str, events: Vec<Event>| {
        records.push((name.to_owned(), record(Body::Events(events))));
    };
    more("instance/requested.every-step", vec![requested(steps()).into()]);
    more("instance/requested.journey", vec![travelling(Vec::new()).into()]);
    more("instance/requested.journey-weighed", vec![travelling(placement()).into()]);
    more("instance/stopped.every-cause", causes().map(|cause| stopped(cause).into()).into());
    more("instance/stopped.lease-expired", vec![stopped(ExitCause::LeaseExpired).into()]);
    more("operation/accepted.every-verb", VERBS.map(|verb| accepted(verb).into()).into());
    more("operation/accepted.travels", TRAVELS.map(|verb| accepted(verb).into()).into());
    more("operation/succeeded.moved", vec![travelled()]);
    more("operation/succeeded.every-gain", gains().map(gained).into());
    more(
        "instance/created.every-template",
        TRIGGERS.map(|due| created_with_templates(due).into()).into(),
    );
    let verbs = [Verb::EvacuateNode, Verb::RestoreNode];
    more("operation/accepted.cluster-verbs", verbs.map(|verb| accepted(verb).into()).into());
    more("name/reserved.node", vec![reserved(NameKind::Node).into()]);
    more("name/reserved.every-kind", NAME_KINDS.map(|kind| reserved(kind).into()).into());
    let spec = Box::new(guest_with_templates());
    let start = Work::Start { spec, reservations: Vec::new() };
    records.push(("task/start.templates".to_owned(), record(Body::Task(Box::new(task(start))))));
    records
}

fn record(body: Body) -> Record {
    Record {
        id: id(20),
        time: time(),
        actor: Actor { protocol: Protocol::Unix, name: text("ann") },
        operation: OperationId(id(4)),
        caused_by: Some(id(21)),
        reason: Some(text("because")),
        epoch: Epoch(2),
        prev: Some(Digest([7; 16])),
        body,
    }
}

fn task(work: Work) -> Task {
    Task {
        id: TaskId(CommitId(id(22)).task(0).0),
        node: NodeId(id(1)),
        operation: OperationId(id(4)),
        subject: Subject::Instance(InstanceId(id(9))),
        incarnation: incarnation(),
        work,
    }
}
