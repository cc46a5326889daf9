//! `stapes network …`: what only networks do.

use serde_json::{Value, json};
use stapes_api::{
    client::{Method, escape},
    wire::network::{NetworkLease, NetworkState},
};

use super::{
    count, device,
    instance::create::nic,
    object::{Noun, Object},
    text,
};
use crate::{
    args::{
        common::ShowArgs,
        network::{AttachArgs, CreateArgs, DetachArgs, ListArgs},
    },
    exit::ExitStatus,
    failure::{Failure, Result},
    input, name,
    operation::submit,
    output::{Listing, format::Shape},
    pairs,
    session::Session,
    units::size,
};

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let titles = ["Name", "Type", "Managed", "IPv4", "IPv6", "Description", "Used by", "State"];
    let mut listing = Listing::new(&titles);
    for value in session.values("/1.0/networks?recursion=1").await? {
        let config =
            |key: &str| value.get("config").map(|config| text(config, key)).unwrap_or_default();
        let managed = if value.get("managed") == Some(&Value::Bool(true)) { "YES" } else { "NO" };
        let row = vec![
            text(&value, "name"),
            text(&value, "type"),
            managed.to_owned(),
            config("ipv4.address"),
            config("ipv6.address"),
            text(&value, "description"),
            count(&value, "used_by").to_string(),
            text(&value, "status").to_uppercase(),
        ];
        listing.push(row, value);
    }
    listing.sort(None)?;
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let mut body = input::piped_yaml(session)?.unwrap_or_else(|| json!({}));
    let name = name::local(&args.name)?;
    body["name"] = json!(name);
    if body.get("config").is_none_or(Value::is_null) {
        body["config"] = json!({});
    }
    for (key, value) in pairs::flags(&args.pairs)? {
        body["config"][key] = json!(value);
    }
    if let Some(kind) = &args.kind {
        body["type"] = json!(kind);
    }
    if let Some(description) = &args.description {
        body["description"] = json!(description);
    }
    let path = match &args.target {
        Some(node) => format!("/1.0/networks?target={}", escape(node)),
        None => "/1.0/networks".to_owned(),
    };
    submit(session, Method::POST, &path, &body, &format!("creating network {name}")).await?;
    session.printer.say(&format!("network {name} is created"));
    Ok(ExitStatus::Done)
}

pub(crate) async fn info(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = Object::network(&args.name)?;
    let read = session.value(&format!("{}/state", object.path)).await;
    let value = object.explain(session, read).await?;
    if args.format.format.shape != Shape::Table {
        session.printer.object(args.format.format, &value)?;
        return Ok(ExitStatus::Done);
    }
    let state: NetworkState = serde_json::from_value(value)
        .map_err(|error| Failure::protocol("the network's state cannot be read").cause(&error))?;
    let mut lines = vec![
        format!("Name: {}", object.name),
        format!("MAC address: {}", state.hwaddr),
        format!("MTU: {}", state.mtu),
        format!("State: {}", state.state),
        format!("Type: {}", state.kind),
    ];
    lines.push("\nIP addresses:".to_owned());
    for ip in &state.addresses {
        lines.push(format!("  {}\t{}/{} ({})", ip.family, ip.address, ip.netmask, ip.scope));
    }
    let counters = state.counters;
    lines.push("\nNetwork usage:".to_owned());
    lines.push(format!("  Bytes received: {}", size::show(counters.bytes_received)));
    lines.push(format!("  Bytes sent: {}", size::show(counters.bytes_sent)));
    lines.push(format!("  Packets received: {}", counters.packets_received));
    lines.push(format!("  Packets sent: {}", counters.packets_sent));
    session.printer.line(&lines.join("\n"))?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn leases(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = Object::network(&args.name)?;
    let read = session.values(&format!("{}/leases", object.path)).await;
    let mut listing = Listing::new(&["Hostname", "MAC address", "IP address", "Type"]);
    for value in object.explain(session, read).await? {
        let lease: NetworkLease = serde_json::from_value(value.clone()).unwrap_or_default();
        let row = vec![lease.hostname, lease.hwaddr, lease.address, lease.kind.to_uppercase()];
        listing.push(row, value);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn allocations(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let session = &session.all_projects(args.all_projects);
    let mut listing = Listing::new(&["Used by", "Address", "Type", "NAT", "Hardware address"]);
    for value in session.values("/1.0/network-allocations").await? {
        let nat = if value.get("nat") == Some(&Value::Bool(true)) { "YES" } else { "NO" };
        let field = |name: &str| text(&value, name);
        let row = vec![
            field("used_by"),
            field("addresses"),
            field("type"),
            nat.to_owned(),
            field("hwaddr"),
        ];
        listing.push(row, value);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn attach(session: &Session, noun: Noun, args: AttachArgs) -> Result<ExitStatus> {
    let mut keys = nic(session, &args.network).await?;
    let network = name::local(&args.network)?;
    let device = args.device.as_deref().unwrap_or(network);
    match args.interface {
        Some(interface) => keys.insert("name".to_owned(), interface),
        None => keys.remove("name"),
    };
    let owner = if noun == Noun::Profile {
        Object::profile(&args.owner)?
    } else {
        Object::instance(&args.owner)?
    };
    device::insert(session, &owner, device, keys).await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn detach(session: &Session, noun: Noun, args: DetachArgs) -> Result<ExitStatus> {
    let owner = if noun == Noun::Profile {
        Object::profile(&args.owner)?
    } else {
        Object::instance(&args.owner)?
    };
    let network = name::local(&args.network)?;
    let value = owner.read(session).await?;
    let on_it: Vec<String> = value
        .get("devices")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, device)| {
            text(device, "network") == network || text(device, "parent") == network
        })
        .map(|(name, _)| name.clone())
        .collect();
    let device = match (args.device, on_it.as_slice()) {
        (Some(device), _) => device,
        (None, [only]) => only.clone(),
        (None, []) => {
            return Err(Failure::usage(format!("{} is not on {network}", owner.title())));
        }
        (None, several) => {
            return Err(Failure::usage(format!(
                "{} is on {network} more than once",
                owner.title()
            ))
            .fact(format!("Say which: {}.", several.join(", "))));
        }
    };
    device::take_out(session, &owner, &[device]).await?;
    Ok(ExitStatus::Done)
}
