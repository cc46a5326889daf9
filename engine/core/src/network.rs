//! A managed bridge network.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    address::{self, NetworkAddress4, NetworkAddress6, is_dns_name, is_interface_name},
    config::{self, Changes, Config},
    decision::{Context, Decision, check_revision},
    ids::{Generation, NetworkId, NodeId, OperationId, ProjectId, Revision, StreamId, StreamKind},
    name::{self, Name, NameKind},
    node::Node,
    operation::{Class, Resource, ResourceKind, Verb},
    rejection::{Noun, Rejection},
    resource::{self, Facts, PartState, Parts, Progress, Shared, SharedFacts, Status},
    spec::{Ipv4Plan, Ipv6Plan, NetworkSpec},
    table::Table,
    task::{Report, Subject, Work},
    world::World,
};

/// The zone of guests' names in a network that says none.
const DNS_DOMAIN_DEFAULT: &str = "stapes";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub project: ProjectId,
    /// Also the bridge's.
    pub name: String,
    pub description: String,
    /// Addresses are as chosen, never `auto`.
    pub config: Config,
    pub created_at: DateTime<Utc>,
    pub progress: Progress,
    /// On which nodes it is.
    #[serde(default)]
    pub parts: Parts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Created {
        operation: OperationId,
        project: ProjectId,
        name: String,
        description: String,
        config: Config,
        /// The nodes that it is asked from; empty: from the one that there is.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        nodes: BTreeSet<NodeId>,
    },
    Ready,
    /// The node is told of the change; what failed is tried again at its next start.
    Configured {
        operation: OperationId,
        changes: Changes,
        description: Option<String>,
    },
    DeleteRequested {
        operation: OperationId,
    },
    Failed {
        verb: Verb,
        error: String,
    },
    Deleted,
    /// One more node is to have it, or one that failed before.
    NodeAsked {
        node: NodeId,
        generation: Generation,
    },
    NodeReady {
        node: NodeId,
    },
    NodeFailed {
        node: NodeId,
        error: String,
    },
    /// One node has removed its part.
    NodeGone {
        node: NodeId,
    },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Ready => "ready",
            Self::Configured { .. } => "configured",
            Self::DeleteRequested { .. } => "delete-requested",
            Self::Failed { .. } => "failed",
            Self::Deleted => "deleted",
            Self::NodeAsked { .. } => "node-asked",
            Self::NodeReady { .. } => "node-ready",
            Self::NodeFailed { .. } => "node-failed",
            Self::NodeGone { .. } => "node-gone",
        }
    }
}

pub(crate) fn evolve(
    networks: &mut Table<NetworkId, Network>,
    known: &Table<NodeId, Node>,
    id: NetworkId,
    event: &Event,
    at: DateTime<Utc>,
) {
    if let Event::Created { operation, project, name, description, config, nodes } = event {
        let network = Network {
            id,
            project: *project,
            name: name.clone(),
            description: description.clone(),
            config: config.clone(),
            created_at: at,
            progress: Progress::creating(*operation),
            parts: Parts::asked_of(nodes, known),
        };
        networks.insert(id, network);
        return;
    }
    let Some(network) = networks.get_mut(&id) else { return };
    match event {
        Event::Created { .. } => {}
        Event::Ready | Event::Failed { .. } => {
            network.progress.settle();
            network.parts.settle();
        }
        Event::Configured { operation, changes, description } => {
            config::apply(&mut network.config, changes);
            network.description =
                description.clone().unwrap_or_else(|| std::mem::take(&mut network.description));
            network.progress.request(Status::Changing, *operation);
            network.parts.ask_again(network.progress.generation);
        }
        Event::DeleteRequested { operation } => {
            network.progress.request(Status::Deleting, *operation);
            network.parts.ask_again(network.progress.generation);
        }
        Event::Deleted => {
            networks.remove(&id);
        }
        Event::NodeAsked { node, generation } => {
            network.progress.generation = *generation;
            network.parts.ask(*node, *generation);
        }
        Event::NodeReady { node } => network.parts.set(*node, PartState::Ready),
        Event::NodeFailed { node, error } => {
            network.parts.set(*node, PartState::Failed(error.clone()));
        }
        Event::NodeGone { node } => network.parts.remove(*node),
    }
}

fn stream(id: NetworkId) -> StreamId {
    StreamId::new(StreamKind::Network, id)
}

impl Network {
    /// What a node is told.
    #[must_use]
    pub fn spec(&self) -> NetworkSpec {
        let text = |key: &str| self.config.get(key).map_or("", String::as_str);
        let on = |key: &str, default: bool| match text(key) {
            "" => default,
            _ => config::is_true(&self.config, key),
        };
        let ipv4 = match text("ipv4.address").parse() {
            Ok(NetworkAddress4::Gateway(net)) => Some(Ipv4Plan {
                gateway: net.addr(),
                prefix: net.prefix_len(),
                nat: on("ipv4.nat", false),
                dhcp: on("ipv4.dhcp", true),
            }),
            Ok(NetworkAddress4::None | NetworkAddress4::Auto) | Err(_) => None,
        };
        let ipv6 = match text("ipv6.address").parse() {
            Ok(NetworkAddress6::Gateway(net)) => Some(Ipv6Plan {
                gateway: net.addr(),
                prefix: net.prefix_len(),
                nat: on("ipv6.nat", false),
            }),
            Ok(NetworkAddress6::None | NetworkAddress6::Auto) | Err(_) => None,
        };
        let domain = text("dns.domain");
        NetworkSpec {
            network: self.id,
            bridge: self.name.clone(),
            ipv4,
            ipv6,
            dns_domain: if domain.is_empty() {
                DNS_DOMAIN_DEFAULT.to_owned()
            } else {
                domain.to_owned()
            },
            dns_upstream: text("dns.nameservers")
                .split(',')
                .filter_map(|server| server.trim().parse().ok())
                .collect(),
            uplinks: names(text("bridge.external_interfaces")).map(str::to_owned).collect(),
        }
    }

    fn held(&self) -> Name {
        Name::new(NameKind::Network, self.project, &self.name)
    }
}

/// The names in a list with commas.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn resources(name: &str) -> Vec<Resource> {
    vec![Resource { kind: ResourceKind::Network, name: name.to_owned() }]
}

fn check(config: &Config) -> Result<(), Rejection> {
    config::check(config::Scope::Network, config)?;
    let wrong = |why: String| Rejection::Invalid(format!("Invalid config: {why}"));
    let set = |key: &str| config.get(key).filter(|text| !text.is_empty());
    if let Some(text) = set("ipv4.address") {
        text.parse::<NetworkAddress4>().map_err(|error| wrong(error.to_string()))?;
    }
    if let Some(text) = set("ipv6.address") {
        text.parse::<NetworkAddress6>().map_err(|error| wrong(error.to_string()))?;
    }
    if let Some(domain) = set("dns.domain").filter(|domain| !is_dns_name(domain)) {
        return Err(wrong(format!("{domain:?} is not a DNS name")));
    }
    let uplinks = set("bridge.external_interfaces").map_or("", String::as_str);
    if let Some(bad) = names(uplinks).find(|name| !is_interface_name(name)) {
        return Err(wrong(format!("{bad:?} in bridge.external_interfaces is no interface's name")));
    }
    if let Some(servers) = set("dns.nameservers") {
        let mut servers = servers.split(',').map(str::trim);
        if let Some(bad) = servers.find(|server| server.parse::<std::net::IpAddr>().is_err()) {
            return Err(wrong(format!("{bad:?} in dns.nameservers is not an address")));
        }
    }
    Ok(())
}

/// Chooses what is left to us: an unset or `auto` address.
fn resolve(
    world: &World,
    config: &Config,
    occupied: &[Ipv4Net],
    seed: u64,
    current: Option<&Network>,
) -> Result<Config, Rejection> {
    let mut resolved: Config = config
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let chosen = |config: &Config, key: &str| config.get(key).is_some_and(|text| text != "auto");
    let kept = |key: &str| current.and_then(|network| network.config.get(key)).cloned();
    if !chosen(&resolved, "ipv4.address") {
        let others =
            world.networks.values().filter_map(|network| network.spec().ipv4?.subnet().ok());
        let taken: Vec<_> = occupied.iter().copied().chain(others).collect();
        let address = match kept("ipv4.address") {
            Some(address) => address,
            None => {
                let plan = address::free_subnet(&taken, seed)
                    .map_err(|error| Rejection::Exhausted(error.to_string()))?;
                format!("{}/{}", plan.gateway, plan.prefix)
            }
        };
        resolved.insert("ipv4.address".to_owned(), address);
        resolved.entry("ipv4.nat".to_owned()).or_insert_with(|| "true".to_owned());
    }
    if !chosen(&resolved, "ipv6.address") {
        let auto = || {
            let plan = address::local_ipv6(seed);
            format!("{}/{}", plan.gateway, plan.prefix)
        };
        let address = kept("ipv6.address").unwrap_or_else(auto);
        let nat = address != "none";
        resolved.insert("ipv6.address".to_owned(), address);
        if nat {
            resolved.entry("ipv6.nat".to_owned()).or_insert_with(|| "true".to_owned());
        }
    }
    Ok(resolved)
}

/// A network as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    pub project: String,
    pub name: String,
    pub description: String,
    pub config: Config,
    /// Ranges that the node's own routes use; chosen addresses avoid them.
    pub occupied: Vec<Ipv4Net>,
}

/// # Errors
/// When the name is taken or wrong, or the configuration is.
pub fn create(world: &World, context: &Context, wanted: &Create) -> Result<Decision, Rejection> {
    let project = world.project(&wanted.project)?.networks_in();
    let name = &wanted.name;
    if !is_interface_name(name) {
        let rule = "1 to 15 letters, digits, '-', '_' and '.', as for any network interface";
        return Err(Rejection::Invalid(format!("Invalid network name {name:?}: {rule}")));
    }
    check(&wanted.config)?;
    let same_bridge = world.networks.values().any(|network| network.name == *name);
    if same_bridge || world.holder(NameKind::Network, project, name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Network, name: name.clone() });
    }
    let nodes = resource::all_nodes(world)?;
    let id = NetworkId::derive(&[&context.operation.to_string()]);
    let (seed, _) = id.0.as_u64_pair();
    let network = Network {
        id,
        project,
        name: name.clone(),
        description: wanted.description.clone(),
        config: resolve(world, &wanted.config, &wanted.occupied, seed, None)?,
        created_at: context.time,
        progress: Progress::creating(context.operation),
        parts: Parts::default(),
    };
    let mut decision = Decision::for_context(context);
    decision.accept(project, Verb::CreateNetwork, Class::Task, resources(name));
    let held = network.held();
    decision.record(
        held.stream(),
        name::Event::Reserved { name: held, holder: id.0, description: String::new() },
    );
    let work = Work::EnsureNetwork { spec: network.spec() };
    let subject = Subject::Network(id);
    let asked = nodes.iter().copied();
    resource::order_all(&mut decision, context, asked, &subject, &network.progress, &work);
    let nodes = if nodes.len() > 1 { nodes.into_iter().collect() } else { BTreeSet::new() };
    let Network { name, description, config, .. } = network;
    decision.record(
        stream(id),
        Event::Created { operation: context.operation, project, name, description, config, nodes },
    );
    Ok(decision)
}

/// The whole configuration becomes `config`.
///
/// # Errors
/// When there is no such network, it changed meanwhile, or the configuration is wrong or would take
/// instances' addresses away.
pub fn configure(
    world: &World,
    context: &Context,
    (project, name): (&str, &str),
    description: Option<&str>,
    config: &Config,
    expected: Option<Revision>,
) -> Result<Decision, Rejection> {
    let network = world.network(project, name)?;
    check_revision(world, stream(network.id), expected)?;
    network.progress.idle(&format!("Network {name:?}"))?;
    check(config)?;
    let (seed, _) = network.id.0.as_u64_pair();
    let wanted = resolve(world, config, &[], seed, Some(network))?;
    let changes = config::diff(&network.config, &wanted);
    let moves = changes.contains_key("ipv4.address");
    if moves && world.held(NameKind::Address, network.id).next().is_some() {
        let message =
            "The network's range cannot be changed while instances have addresses in it".to_owned();
        let hint = format!("stapes network info {name}; delete or detach them first");
        return Err(Rejection::NotAllowed { message, hint });
    }
    let description = description.filter(|text| *text != network.description).map(str::to_owned);
    let mut decision = Decision::for_context(context);
    if changes.is_empty() && description.is_none() {
        return Ok(decision);
    }
    let configured =
        Event::Configured { operation: context.operation, changes: changes.clone(), description };
    let mut after = network.clone();
    config::apply(&mut after.config, &changes);
    after.progress.request(Status::Changing, context.operation);
    decision.accept(network.project, Verb::UpdateNetwork, Class::Task, resources(name));
    decision.record(stream(network.id), configured);
    let work = Work::EnsureNetwork { spec: after.spec() };
    let subject = Subject::Network(network.id);
    let asked = network.parts.nodes();
    resource::order_all(&mut decision, context, asked, &subject, &after.progress, &work);
    Ok(decision)
}

/// # Errors
/// When there is no such network, or something uses it.
pub fn delete(
    world: &World,
    context: &Context,
    project: &str,
    name: &str,
) -> Result<Decision, Rejection> {
    let network = world.network(project, name)?;
    network.progress.idle(&format!("Network {name:?}"))?;
    let by = users(world, network);
    if !by.is_empty() {
        return Err(Rejection::InUse { noun: Noun::Network, by });
    }
    let mut progress = network.progress;
    progress.request(Status::Deleting, context.operation);
    let mut decision = Decision::for_context(context);
    decision.accept(network.project, Verb::DeleteNetwork, Class::Task, resources(name));
    decision.record(stream(network.id), Event::DeleteRequested { operation: context.operation });
    let subject = Subject::Network(network.id);
    let asked = network.parts.nodes();
    resource::order_all(&mut decision, context, asked, &subject, &progress, &Work::RemoveNetwork);
    Ok(decision)
}

/// What a node made of a task on a network.
#[must_use]
pub fn report(world: &World, context: &Context, id: NetworkId, report: &Report) -> Decision {
    let Some(network) = world.networks.get(&id) else { return Decision::for_context(context) };
    resource::report_shared(world, context, &network.shared(), &facts(network), report)
}

impl Network {
    pub(crate) fn shared(&self) -> Shared<'_> {
        Shared {
            stream: stream(self.id),
            subject: Subject::Network(self.id),
            progress: &self.progress,
            parts: &self.parts,
            ensure: Work::EnsureNetwork { spec: self.spec() },
            remove: Work::RemoveNetwork,
        }
    }
}

pub(crate) fn facts(network: &Network) -> SharedFacts {
    let verb = match network.progress.status {
        Status::Creating => Verb::CreateNetwork,
        Status::Deleting => Verb::DeleteNetwork,
        Status::Ready | Status::Changing => Verb::UpdateNetwork,
    };
    let held = network.held();
    let whole = Facts {
        ready: Event::Ready.into(),
        deleted: Event::Deleted.into(),
        failed: |verb, error| Event::Failed { verb, error }.into(),
        released: vec![(held.stream(), name::Event::Released { name: held }.into())],
    };
    SharedFacts {
        whole,
        verb,
        asked: |node, generation| Event::NodeAsked { node, generation }.into(),
        ready: |node| Event::NodeReady { node }.into(),
        failed: |node, error| Event::NodeFailed { node, error }.into(),
        gone: |node| Event::NodeGone { node }.into(),
    }
}

/// What uses the network, in words.
#[must_use]
pub fn users(world: &World, network: &Network) -> Vec<String> {
    let on_it = |device: &config::Device| {
        device.get("type").is_some_and(|kind| kind == "nic")
            && ["network", "parent"]
                .iter()
                .any(|key| device.get(*key).is_some_and(|name| *name == network.name))
    };
    let leased = |instance: &&crate::instance::Instance| {
        instance.leases.values().any(|lease| lease.network == network.id)
            || instance.devices.values().any(on_it)
    };
    let instances = world.instances.values().filter(leased);
    let profiles = world.profiles.values().filter(|profile| profile.devices.values().any(on_it));
    let instances = instances.map(|instance| format!("instance {}", instance.name));
    instances.chain(profiles.map(|profile| format!("profile {}", profile.name))).collect()
}
