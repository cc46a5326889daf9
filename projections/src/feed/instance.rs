//! What the events of an instance say.

use stapes_core::{
    event::Event as Fact,
    ids::{InstanceId, NodeId},
    instance::{Created, Event, Instance, Reconfigured, Snapshot, Step},
    port::{
        guest::{ExitCause, Mobility},
        image::ImageKind,
    },
    spec::RootSource,
    world::World,
};
use uuid::Uuid;

use super::{
    Said,
    change::{self, Change},
};

/// `together`: what was decided at once, the event among it.
pub(super) fn said(id: Uuid, event: &Event, together: &[Fact], before: &World) -> Said {
    let instance = before.instances.get(&InstanceId(id));
    match event {
        Event::Created(created) => born(created),
        Event::Requested { verb, steps, journey, .. } => {
            let steps: Vec<_> = steps.iter().map(step).collect();
            let to =
                journey.as_ref().map(|journey| format!(" to {}", node_name(before, &journey.to)));
            let to = to.unwrap_or_default();
            Said::plain(format!("{}{to} requested: {}", verb.action(), steps.join(", then ")))
        }
        Event::Continued { .. } => {
            // The step before it ended in the same record, and what is left may be planned anew there.
            let next = together.iter().rev().find_map(planned).map_or_else(
                || instance.and_then(|instance| instance.job.as_ref()?.steps.get(1)),
                <[Step]>::first,
            );
            Said::plain(
                next.map_or_else(|| "continued".to_owned(), |next| format!("now: {}", step(next))),
            )
        }
        Event::Failed { verb, error } => Said::plain(format!("{} failed: {error}", verb.action())),
        Event::RootCreated => Said::plain("root volume made"),
        Event::RootReplaced { image } => {
            let from = instance.and_then(|instance| instance.image.as_ref());
            let (from, to) =
                (from.map(ToString::to_string), image.as_ref().map(ToString::to_string));
            Said {
                changes: vec![Change::new("image", from, to)],
                ..Said::plain("root volume replaced")
            }
        }
        Event::Started { pid, .. } => Said::plain(format!("started (pid {pid})")),
        Event::Stopped { cause, .. } => Said::plain(format!("stopped: {}", exit(*cause))),
        Event::Frozen => Said::plain("frozen"),
        Event::Unfrozen => Said::plain("unfrozen"),
        Event::LimitsApplied => Said::plain("limits applied"),
        Event::ReservationsApplied => Said::plain("addresses applied"),
        Event::Reconfigured(delta) => Said::changed(reconfigured(instance, delta)),
        Event::Renamed { from, to } => {
            Said::changed(vec![Change::new("name", Some(from), Some(to))])
        }
        Event::SnapshotTaken { name, expires_at, .. } => {
            let expiry = expires_at.map(|at| format!(", expires {}", at.to_rfc3339()));
            Said::plain(format!("snapshot {name} taken{}", expiry.unwrap_or_default()))
        }
        Event::SnapshotDeleted { name } => Said::plain(format!("snapshot {name} deleted")),
        Event::SnapshotRenamed { from, to } => {
            let changes = vec![Change::new("snapshot", Some(from), Some(to))];
            Said { changes, ..Said::plain(format!("snapshot {from} renamed to {to}")) }
        }
        Event::SnapshotExpirySet { name, expires_at } => {
            let snapshot = instance.and_then(|instance| instance.snapshots.get(name));
            let from = snapshot.and_then(|snapshot| snapshot.expires_at);
            let text = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(|at| at.to_rfc3339());
            Said::changed(vec![Change::new(
                format!("snapshots.{name}.expires_at"),
                text(from),
                text(*expires_at),
            )])
        }
        Event::SnapshotRestored { name } => {
            let back = instance
                .and_then(|instance| Some(restored(instance, instance.snapshots.get(name)?)));
            let changes = back.unwrap_or_default();
            Said { changes, ..Said::plain(format!("restored to snapshot {name}")) }
        }
        Event::Deleted => Said::plain("deleted"),
        Event::MoveAssessed { .. }
        | Event::MoveDegraded { .. }
        | Event::RoundReceived { .. }
        | Event::Checkpointed { .. }
        | Event::Moved { .. }
        | Event::MoveAborted { .. }
        | Event::Activated { .. }
        | Event::Resumed
        | Event::RoundsDropped
        | Event::Fetched { .. }
        | Event::Replicated { .. } => travelled(event, before),
    }
}

fn node_name(world: &World, id: &NodeId) -> String {
    world.nodes.get(id).map_or_else(|| id.to_string(), |node| node.name.clone())
}

/// The steps that an event of a move leaves.
fn planned(fact: &Fact) -> Option<&[Step]> {
    let Fact::Instance(event) = fact else { return None };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others plan nothing anew")]
    match event {
        Event::MoveAssessed { steps, .. }
        | Event::MoveDegraded { steps, .. }
        | Event::RoundReceived { steps, .. }
        | Event::Moved { steps, .. }
        | Event::MoveAborted { steps, .. } => Some(steps),
        _ => None,
    }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What the events of a move say.
#[allow(clippy::wildcard_enum_match_arm, reason = "the others are no journey's")]
fn travelled(event: &Event, world: &World) -> Said {
    let node = |id: &NodeId| node_name(world, id);
    let mib = |bytes: &u64| mib(*bytes);
    match event {
        Event::MoveAssessed { mode, reasons, .. } => {
            let why = if reasons.is_empty() {
                String::new()
            } else {
                format!(" ({})", reasons.join("; "))
            };
            Said::plain(format!("can move: {}{why}", mobility(*mode)))
        }
        Event::MoveDegraded { mode, reason, .. } => {
            Said::plain(format!("moves {} instead: {reason}", mobility(*mode)))
        }
        Event::RoundReceived { bytes, .. } => {
            Said::plain(format!("a round came over: {}", mib(bytes)))
        }
        Event::Checkpointed { bytes, .. } => {
            Said::plain(format!("frozen and written down: {}", mib(bytes)))
        }
        Event::Moved { from, to, epoch, as_of, .. } => {
            let lost = as_of.map_or_else(String::new, |at| {
                format!("; it is what it was at {}, later writes are lost", at.to_rfc3339())
            });
            let summary =
                format!("moved from {} to {} (epoch {epoch}){lost}", node(from), node(to));
            let changes = vec![Change::new("node", Some(node(from)), Some(node(to)))];
            Said { changes, ..Said::plain(summary) }
        }
        Event::MoveAborted { error, .. } => Said::plain(format!("move aborted: {error}")),
        Event::Activated { .. } => Said::plain("reachable again"),
        Event::Resumed => Said::plain("goes on where it was"),
        Event::RoundsDropped => Said::plain("rounds dropped"),
        Event::Fetched { bytes } => Said::plain(format!("its source came over: {}", mib(bytes))),
        Event::Replicated { node: to, at, .. } => {
            Said::plain(format!("replicated to {} as of {}", node(to), at.to_rfc3339()))
        }
        _ => Said::plain(event.name()),
    }
}

pub(super) const fn mobility(mode: Mobility) -> &'static str {
    match mode {
        Mobility::StopCopy => "stopped",
        Mobility::NearLive => "near-live",
        Mobility::Live => "live",
    }
}

fn born(created: &Created) -> Said {
    let what = match created.kind {
        ImageKind::Container => "container",
        ImageKind::VirtualMachine => "virtual machine",
    };
    let image = created.image.as_ref().map(|image| &image.as_str()[..12]);
    let from =
        image.map_or_else(|| " without image".to_owned(), |image| format!(" from image {image}"));
    let nothing = None::<String>;
    let mut changes = change::replaced(&Default::default(), &created.config);
    let devices = created.devices.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
    changes.extend(change::devices(None, &devices));
    changes.push(Change::new("profiles", nothing.clone(), Some(created.profiles.join(","))));
    for (device, lease) in &created.leases {
        let address = lease.ipv4.map_or_else(|| lease.mac.to_string(), |ip| ip.to_string());
        changes.push(Change::new(format!("leases.{device}"), nothing.clone(), Some(address)));
    }
    Said { changes, ..Said::plain(format!("{what} {} created{from}", created.name)) }
}

fn reconfigured(instance: Option<&Instance>, delta: &Reconfigured) -> Vec<Change> {
    let mut changes = change::config(instance.map(|it| &it.config), &delta.config);
    changes.extend(change::devices(instance.map(|it| &it.devices), &delta.devices));
    if let Some(profiles) = &delta.profiles {
        changes.push(change::list("profiles", instance.map(|it| &it.profiles), profiles));
    }
    let description = instance.map(|it| &it.description);
    changes.extend(change::description(description, delta.description.as_ref()));
    if let Some(ephemeral) = delta.ephemeral {
        let from = instance.map(|it| it.ephemeral.to_string());
        changes.push(Change::new("ephemeral", from, Some(ephemeral.to_string())));
    }
    for (device, lease) in &delta.leases {
        let address = |lease: &stapes_core::instance::Lease| {
            lease.ipv4.map_or_else(|| lease.mac.to_string(), |ip| ip.to_string())
        };
        let from = instance.and_then(|it| it.leases.get(device)).map(address);
        changes.push(Change::new(format!("leases.{device}"), from, lease.as_ref().map(address)));
    }
    changes
}

fn restored(instance: &Instance, snapshot: &Snapshot) -> Vec<Change> {
    let mut changes = change::replaced(&instance.config, &snapshot.config);
    let devices = stapes_core::config::device_changes(&instance.devices, &snapshot.devices);
    changes.extend(change::devices(Some(&instance.devices), &devices));
    if instance.profiles != snapshot.profiles {
        changes.push(change::list("profiles", Some(&instance.profiles), &snapshot.profiles));
    }
    changes
}

fn step(step: &Step) -> String {
    let fixed = match step {
        Step::CreateRoot { source } => {
            return format!("make the root volume {}", source_of(source));
        }
        Step::ReplaceRoot { source } => {
            return format!("replace the root volume {}", source_of(source));
        }
        Step::TakeSnapshot { name, .. } => return format!("take snapshot {name}"),
        Step::DeleteSnapshot { name, .. } => return format!("delete snapshot {name}"),
        Step::RestoreSnapshot { name, .. } => return format!("restore snapshot {name}"),
        Step::Stop { force: false, timeout } => {
            return format!("stop within {} s", timeout.as_secs());
        }
        Step::Stop { force: true, .. } => "stop by force",
        Step::Start => "start",
        Step::Freeze => "freeze",
        Step::Unfreeze => "unfreeze",
        Step::ApplyLimits => "apply limits",
        Step::ApplyReservations => "apply addresses",
        Step::Delete => "delete",
        Step::Assess => "look how it can move",
        Step::Receive { last: false, .. } => "send a round while it runs",
        Step::Receive { last: true, .. } => "send the rest",
        Step::Checkpoint => "freeze and write down",
        Step::RestoreLive { .. } => "bring to life there",
        Step::Activate => "connect",
        Step::Resume => "go on here",
        Step::DropRounds { .. } => "drop the rounds",
        Step::Fetch { .. } => "fetch its source",
    };
    fixed.to_owned()
}

fn source_of(source: &RootSource) -> String {
    match source {
        RootSource::Image(image) => format!("from image {}", &image.as_str()[..12]),
        RootSource::Volume { volume, snapshot: Some(snapshot), .. } => {
            format!("from {volume} at {snapshot}")
        }
        RootSource::Volume { volume, snapshot: None, .. } => format!("from {volume}"),
        RootSource::Empty => "empty".to_owned(),
    }
}

fn exit(cause: ExitCause) -> String {
    let fixed = match cause {
        ExitCause::GuestShutdown => "guest-shutdown",
        ExitCause::GuestReboot => "guest-reboot",
        ExitCause::Forced => "forced",
        ExitCause::OutOfMemory => "out-of-memory",
        ExitCause::Status(status) => return format!("init left with status {status}"),
        ExitCause::Signal(signal) => return format!("init killed by signal {signal}"),
        ExitCause::HostReboot => "host-reboot",
        ExitCause::Lost => "lost",
        ExitCause::LeaseExpired => "lease expired",
    };
    fixed.to_owned()
}
