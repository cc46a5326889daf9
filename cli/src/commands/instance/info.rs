//! `stapes info`: all there is to say about one instance, or the server.

use std::fmt::Write as _;

use stapes_api::{
    client::escape,
    wire::{Time, instance::InstanceFull, instance_state::InstanceState},
};

use crate::{
    args::instance::InfoArgs,
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::format::Shape,
    session::Session,
    units::size,
};

pub(crate) async fn run(session: &Session, args: InfoArgs) -> Result<ExitStatus> {
    let Some(name) = &args.instance else {
        let path = if args.resources { "/1.0/resources" } else { "/1.0" };
        session.printer.object(args.format.format, &session.value(path).await?)?;
        return Ok(ExitStatus::Done);
    };
    let object = Object::instance(name)?;
    let path = format!("{}?recursion=1", object.path);
    let value = object.explain(session, session.value(&path).await).await?;
    if args.format.format.shape == Shape::Table {
        let full: InstanceFull = serde_json::from_value(value)
            .map_err(|error| Failure::protocol(format!("{name} cannot be read")).cause(&error))?;
        session.printer.data(&describe(&full))?;
    } else {
        session.printer.object(args.format.format, &value)?;
    }
    if args.show_log {
        let path = format!("/1.0/instances/{}/console", escape(&object.name));
        let log = session.client.download(&path).await?.bytes().await?;
        session.printer.line("\nLog:\n")?;
        session.printer.bytes(&log)?;
    }
    Ok(ExitStatus::Done)
}

fn describe(full: &InstanceFull) -> String {
    let instance = &full.instance;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name}: {value}");
        }
    };
    field("Name", &instance.name);
    field("Description", &instance.description);
    field("Status", &instance.status.to_uppercase());
    let ephemeral = if instance.ephemeral { " (ephemeral)" } else { "" };
    field("Type", &format!("{}{ephemeral}", instance.kind));
    field("Architecture", &instance.architecture);
    if instance.location != "none" {
        field("Location", &instance.location);
    }
    let pid = full.state.as_ref().map(|state| state.pid).filter(|pid| *pid > 0);
    field("PID", &pid.map(|pid| pid.to_string()).unwrap_or_default());
    field("Created", &when(instance.created_at));
    field("Last used", &when(instance.last_used_at));
    field("Started", &full.state.as_ref().map(|state| when(state.started_at)).unwrap_or_default());
    field("Profiles", &instance.profiles.join(", "));
    if let Some(state) = full.state.as_ref().filter(|state| state.pid > 0) {
        resources(&mut text, state);
    }
    snapshots(&mut text, full);
    text
}

fn when(time: Time) -> String {
    time.moment().map_or_else(String::new, |at| at.format("%Y/%m/%d %H:%M UTC").to_string())
}

fn resources(text: &mut String, state: &InstanceState) {
    let _ = writeln!(text, "\nResources:\n  Processes: {}", state.processes);
    for (name, disk) in &state.disk {
        let total =
            if disk.total > 0 { format!(" of {}", size::show(disk.total)) } else { String::new() };
        let _ = writeln!(text, "  Disk {name}: {}{total}", size::show(disk.usage));
    }
    let _ = writeln!(text, "  CPU: {}s", state.cpu.usage / 1_000_000_000);
    let memory = &state.memory;
    let _ = writeln!(text, "  Memory: {}", size::show(memory.usage));
    if memory.usage_peak > 0 {
        let _ = writeln!(text, "  Memory (peak): {}", size::show(memory.usage_peak));
    }
    if memory.swap_usage > 0 {
        let _ = writeln!(text, "  Swap: {}", size::show(memory.swap_usage));
    }
    for (name, network) in state.network.iter().flatten() {
        let _ = writeln!(text, "  Network {name} ({}, {}):", network.kind, network.state);
        if !network.hwaddr.is_empty() {
            let _ = writeln!(text, "    MAC address: {}", network.hwaddr);
        }
        let _ = writeln!(
            text,
            "    Received: {}, sent: {}",
            size::show(network.counters.bytes_received),
            size::show(network.counters.bytes_sent)
        );
        for address in &network.addresses {
            let _ = writeln!(
                text,
                "    {}: {}/{} ({})",
                address.family, address.address, address.netmask, address.scope
            );
        }
    }
}

fn snapshots(text: &mut String, full: &InstanceFull) {
    let Some(snapshots) = full.snapshots.as_ref().filter(|snapshots| !snapshots.is_empty()) else {
        return;
    };
    text.push_str("\nSnapshots:\n");
    for snapshot in snapshots {
        let expiry = match snapshot.expires_at.moment() {
            Some(at) => format!(", expires {}", at.format("%Y/%m/%d %H:%M UTC")),
            None => String::new(),
        };
        let state = if snapshot.stateful { ", with memory" } else { "" };
        let taken = when(snapshot.created_at);
        let _ = writeln!(text, "  {} (taken {taken}{expiry}{state})", snapshot.name);
    }
}
