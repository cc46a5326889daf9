//! What the samples are made of.

use std::collections::BTreeMap;

use chrono::DateTime;
use stapes_core::{
    event::Event,
    ids::{
        Epoch, Fingerprint, Generation, InstanceId, NetworkId, NodeId, OperationId, PoolId,
        ProjectId, SnapshotId, VolumeId,
    },
    instance::{self, Step},
    name::{self, Name, NameKind},
    operation::{self, Class, Gain, Resource, ResourceKind, Verb},
    port::{
        guest::{ExitCause, Mobility},
        image::{ImageFacts, ImageKind},
        peer::PeerAddress,
    },
    spec::{
        CpuLimit, DiskSource, DiskSpec, GuestSpec, IdMap, Incarnation, Ipv4Plan, Ipv6Plan, Limits,
        MacAddress, NetworkSpec, NicSpec, Reservation, RootSource, Security,
    },
    task::{ReceivedRoot, Transfer},
    template::{TemplateContext, Trigger},
};
use uuid::Uuid;

pub(super) const VERBS: [Verb; 28] = [
    Verb::CreateInstance,
    Verb::StartInstance,
    Verb::StopInstance,
    Verb::RestartInstance,
    Verb::FreezeInstance,
    Verb::UnfreezeInstance,
    Verb::UpdateInstance,
    Verb::RenameInstance,
    Verb::RebuildInstance,
    Verb::DeleteInstance,
    Verb::CreateSnapshot,
    Verb::DeleteSnapshot,
    Verb::RenameSnapshot,
    Verb::UpdateSnapshot,
    Verb::RestoreSnapshot,
    Verb::Exec,
    Verb::Console,
    Verb::ImportImage,
    Verb::DeleteImage,
    Verb::CreatePool,
    Verb::DeletePool,
    Verb::CreateNetwork,
    Verb::UpdateNetwork,
    Verb::DeleteNetwork,
    Verb::CreateVolume,
    Verb::DeleteVolume,
    Verb::EvacuateNode,
    Verb::RestoreNode,
];

pub(super) const NAME_KINDS: [NameKind; 10] = [
    NameKind::Project,
    NameKind::Profile,
    NameKind::Network,
    NameKind::Pool,
    NameKind::Volume,
    NameKind::Instance,
    NameKind::ImageAlias,
    NameKind::Address,
    NameKind::IdMap,
    NameKind::Node,
];

pub(super) const fn causes() -> [ExitCause; 8] {
    [
        ExitCause::GuestShutdown,
        ExitCause::GuestReboot,
        ExitCause::Forced,
        ExitCause::OutOfMemory,
        ExitCause::Status(3),
        ExitCause::Signal(9),
        ExitCause::HostReboot,
        ExitCause::Lost,
    ]
}

pub(super) fn steps() -> Vec<Step> {
    let (name, snapshot) = (text("s"), SnapshotId(id(6)));
    let copied = RootSource::Volume {
        volume: VolumeId(id(10)),
        snapshot: Some(snapshot),
        image: Some(fingerprint()),
    };
    vec![
        Step::CreateRoot { source: RootSource::Image(fingerprint()) },
        Step::CreateRoot { source: copied },
        Step::ReplaceRoot { source: RootSource::Empty },
        Step::Start,
        Step::Stop { force: true, timeout: seconds(0) },
        Step::Freeze,
        Step::Unfreeze,
        Step::ApplyLimits,
        Step::ApplyReservations,
        Step::TakeSnapshot { name: name.clone(), snapshot, expires_at: Some(time()) },
        Step::DeleteSnapshot { name: name.clone(), snapshot },
        Step::RestoreSnapshot { name, snapshot },
        Step::Delete,
    ]
}

pub(super) const TRIGGERS: [Trigger; 4] =
    [Trigger::Create, Trigger::Copy, Trigger::Rename, Trigger::Start];

pub(super) fn gains() -> [Gain; 3] {
    let image = Gain::Image { fingerprint: fingerprint(), size_bytes: 1 << 20 };
    [Gain::Nothing, Gain::Exit { status: 3 }, image]
}

pub(super) const TRAVELS: [Verb; 3] =
    [Verb::MoveInstance, Verb::ReplicateInstance, Verb::TakeOverInstance];

pub(super) fn travelled() -> Event {
    gained(Gain::Moved { mode: Mobility::Live, downtime_ms: 400, bytes: 4096 })
}

pub(super) fn gained(gain: Gain) -> Event {
    operation::Event::Succeeded { gain }.into()
}

pub(super) fn requested(steps: Vec<Step>) -> instance::Event {
    let (verb, operation) = (Verb::StartInstance, OperationId(id(4)));
    instance::Event::Requested { verb, operation, generation: Generation(7), steps, journey: None }
}

pub(super) fn stopped(cause: ExitCause) -> instance::Event {
    instance::Event::Stopped { cause, at: time() }
}

pub(super) fn accepted(verb: Verb) -> operation::Event {
    let kinds = [
        ResourceKind::Instance,
        ResourceKind::Snapshot,
        ResourceKind::Image,
        ResourceKind::Pool,
        ResourceKind::Network,
        ResourceKind::Volume,
        ResourceKind::Node,
    ];
    let session = matches!(verb, Verb::Exec | Verb::Console);
    operation::Event::Accepted {
        operation: OperationId(id(4)),
        verb,
        class: if session { Class::Websocket } else { Class::Task },
        project: ProjectId(id(3)),
        resources: kinds.map(|kind| Resource { kind, name: text("web") }).into(),
        command: if session { vec![text("ls"), text("-l")] } else { Vec::new() },
    }
}

pub(super) fn reserved(kind: NameKind) -> name::Event {
    let name = Name::new(kind, id(8), "web");
    name::Event::Reserved { name, holder: id(9), description: text("d") }
}

pub(super) fn created() -> instance::Created {
    let snapshot = instance::Snapshot {
        id: SnapshotId(id(6)),
        created_at: time(),
        expires_at: Some(time()),
        config: config(),
        devices: [(text("root"), config())].into(),
        profiles: vec![text("default")],
        ephemeral: false,
        image: Some(fingerprint()),
        last_started_at: Some(time()),
    };
    instance::Created {
        name: text("web"),
        project: ProjectId(id(3)),
        node: NodeId(id(1)),
        kind: ImageKind::Container,
        architecture: text("x86_64"),
        ephemeral: true,
        description: text("d"),
        config: config(),
        devices: [(text("root"), config())].into(),
        profiles: vec![text("default")],
        image: Some(fingerprint()),
        pool: PoolId(id(5)),
        idmap: IdMap { base: 1_000_000, size: 65_536 },
        leases: [(text("eth0"), lease())].into(),
        snapshots: [(text("s"), snapshot)].into(),
        template: None,
        placement: placement(),
    }
}

pub(super) fn placement() -> Vec<instance::Considered> {
    let reasons = vec![text("most room")];
    vec![instance::Considered { node: NodeId(id(1)), score: Some(7), reasons }]
}

pub(super) fn lease() -> instance::Lease {
    let ipv4 = Some([10, 0, 0, 2].into());
    instance::Lease { network: NetworkId(id(8)), mac: mac(), ipv4 }
}

pub(super) fn facts() -> ImageFacts {
    ImageFacts {
        fingerprint: fingerprint(),
        size_bytes: 1 << 20,
        kind: ImageKind::VirtualMachine,
        architecture: text("x86_64"),
        created_at: time(),
        expires_at: None,
        properties: config(),
        split: true,
        filename: text("image.tar.xz"),
    }
}

pub(super) fn guest() -> GuestSpec {
    let (pool, volume) = (PoolId(id(5)), VolumeId(id(10)));
    let disk = |source| DiskSpec { name: text("d"), source, path: "/mnt".into(), read_only: true };
    GuestSpec {
        instance: InstanceId(id(9)),
        incarnation: incarnation(),
        operation: Some(OperationId(id(4))),
        hostname: text("web"),
        pool,
        image: Some(fingerprint()),
        idmap: IdMap { base: 1_000_000, size: 65_536 },
        limits: limits(),
        security: Security { privileged: false, nesting: true },
        environment: config(),
        nics: vec![nic()],
        disks: vec![
            disk(DiskSource::Host("/srv".into())),
            disk(DiskSource::Volume { pool, volume }),
        ],
        template: None,
        files: Vec::new(),
    }
}

pub(super) fn created_with_templates(due: Trigger) -> instance::Event {
    instance::Event::Created(Box::new(instance::Created { template: Some(due), ..created() }))
}

pub(super) fn guest_with_templates() -> GuestSpec {
    let template = TemplateContext {
        due: Some(Trigger::Rename),
        instance: config(),
        config: config(),
        devices: [(text("root"), config())].into(),
    };
    GuestSpec { template: Some(template), ..guest() }
}

pub(super) const fn incarnation() -> Incarnation {
    Incarnation { epoch: Epoch(2), generation: Generation(7) }
}

pub(super) const fn limits() -> Limits {
    Limits {
        memory_bytes: Some(1 << 30),
        cpu: Some(CpuLimit { quota_us: 50_000, period_us: 100_000 }),
        processes: Some(100),
        disk_bytes: Some(1 << 34),
    }
}

pub(super) fn nic() -> NicSpec {
    NicSpec {
        name: text("eth0"),
        host_name: text("veth0"),
        network: NetworkId(id(8)),
        bridge: text("br0"),
        mac: mac(),
        ipv4: Some([10, 0, 0, 2].into()),
        ipv6: Some(std::net::Ipv6Addr::LOCALHOST),
    }
}

pub(super) fn reservation() -> Reservation {
    Reservation { instance: InstanceId(id(9)), hostname: text("web"), nic: nic() }
}

pub(super) fn network_spec() -> NetworkSpec {
    NetworkSpec {
        network: NetworkId(id(8)),
        bridge: text("br0"),
        ipv4: Some(Ipv4Plan { gateway: [10, 0, 0, 1].into(), prefix: 24, nat: true, dhcp: true }),
        ipv6: Some(Ipv6Plan { gateway: std::net::Ipv6Addr::LOCALHOST, prefix: 64, nat: false }),
        dns_domain: text("stapes"),
        dns_upstream: vec![std::net::IpAddr::from([9, 9, 9, 9])],
        uplinks: vec![text("eth1")],
    }
}

pub(super) const fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(super) const fn mac() -> MacAddress {
    MacAddress([0x10, 0x66, 0x6a, 0, 0, 1])
}

pub(super) const fn seconds(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count)
}

pub(super) fn text(text: &str) -> String {
    text.to_owned()
}

pub(super) fn time() -> DateTime<chrono::Utc> {
    DateTime::from_timestamp(1_700_000_000, 123_456_000).expect("it is a time")
}

pub(super) fn fingerprint() -> Fingerprint {
    Fingerprint::new("ab".repeat(32)).expect("it is one")
}

pub(super) fn config() -> BTreeMap<String, String> {
    [(text("user.a"), text("1"))].into()
}

pub(super) fn changes() -> BTreeMap<String, Option<String>> {
    [(text("user.a"), Some(text("1"))), (text("user.b"), None)].into()
}

pub(super) fn journey_steps() -> Vec<Step> {
    let round = SnapshotId(id(6));
    vec![
        Step::Assess,
        Step::Receive { round, last: true },
        Step::Checkpoint,
        Step::RestoreLive { round },
        Step::Activate,
        Step::Resume,
        Step::DropRounds { rounds: vec![round] },
        Step::Fetch {
            from: NodeId(id(30)),
            volume: VolumeId(id(7)),
            snapshots: vec![round],
            made: Some(round),
            image: Some(fingerprint()),
        },
    ]
}

pub(super) fn travelling(placement: Vec<instance::Considered>) -> instance::Event {
    instance::Event::Requested {
        verb: Verb::MoveInstance,
        operation: OperationId(id(4)),
        generation: Generation(7),
        steps: journey_steps(),
        journey: Some(Box::new(instance::Journey {
            to: NodeId(id(30)),
            live: instance::LivePolicy::Required,
            mode: Mobility::Live,
            placement,
            reasons: vec![text("because")],
            running: true,
            idmap: guest().idmap,
            stop_timeout_s: 30,
            base: Some(SnapshotId(id(6))),
            rounds: vec![SnapshotId(id(6))],
            bytes: 4096,
            away_since: Some(time()),
            back_at: Some(time()),
            error: Some(text("no")),
        })),
    }
}

pub(super) fn transfer() -> Transfer {
    Transfer {
        from: PeerAddress { node: NodeId(id(30)), address: text("10.0.0.2:8443") },
        pool: PoolId(id(5)),
        volume: VolumeId(id(7)),
        snapshots: vec![SnapshotId(id(6))],
        make_last: true,
        image: Some(fingerprint()),
        root: Some(ReceivedRoot { quota_bytes: Some(1 << 30), reservations: vec![reservation()] }),
    }
}
