//! Networks: ours, and the host's interfaces beside them.

use axum::extract::{Path, State};
use bytes::Bytes;
use stapes_core::{
    command::Command,
    ids::{StreamId, StreamKind},
    network::Create,
    world::World,
};

use super::{Answer, Api, Fault, answer, body, listed, projects};
use crate::{
    server::{
        change::{Change, merged},
        host,
        params::{Params, url},
        peer::Caller,
        show,
    },
    wire::{
        instance_state::Address,
        network::{Network, NetworkPut, NetworkState},
    },
};

pub(in crate::server) async fn list(State(api): State<Api>, params: Params) -> Answer {
    let wanted = params.projects()?;
    let lens = api.lens(&params).await?;
    let unmanaged = if lens.is_now() { host::interfaces() } else { Vec::new() };
    lens.look(|world| {
        let projects = projects(world, &wanted, |project| project.networks_in())?;
        let managed = world.networks.values();
        let managed = managed.filter(|it| projects.iter().any(|(id, _)| *id == it.project));
        let mut networks: Vec<Network> = managed.map(|it| show::network(world, it)).collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        for (name, kind) in unmanaged {
            // A bridge of ours that another project has is not the host's own.
            if !world.networks.values().any(|it| it.name == name) {
                networks.push(Network { name, kind: kind.to_owned(), ..Network::default() });
            }
        }
        listed(
            &params,
            networks
                .into_iter()
                .map(|it| (url(&["networks", &it.name], project_of(&it)), move || it)),
        )
    })
}

/// The host's own interfaces are in no project.
fn project_of(network: &Network) -> Option<&str> {
    Some(network.project.as_str()).filter(|project| !project.is_empty())
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let lens = api.lens(&params).await?;
    let managed = lens.look(|world| {
        let it = world.network(&params.project(), &name)?;
        let revision = world.tail(StreamId::new(StreamKind::Network, it.id)).revision;
        Ok::<_, Fault>(answer::tagged(show::network(world, it), &show::etag(revision)))
    });
    managed.or_else(|fault| {
        let of_host = host::interfaces().into_iter().find(|(known, _)| *known == name);
        let (name, kind) = of_host.ok_or(fault)?;
        Ok(answer::sync(Network { name, kind: kind.to_owned(), ..Network::default() }))
    })
}

pub(in crate::server) async fn create(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
    bytes: Bytes,
) -> Answer {
    let post: NetworkPut = body(&bytes)?;
    if post.name.is_empty() {
        return Err(Fault::bad_request("No name provided"));
    }
    if !matches!(post.kind.as_str(), "" | "bridge") {
        return Err(
            Fault::bad_request(format!("Unsupported network type {:?}", post.kind)).hint("bridge")
        );
    }
    let project = params.project();
    let location = url(&["networks", &post.name], Some(&project));
    let config = post.config.clone().unwrap_or_default();
    if api.look(|world| params.for_one_member(world, &config))? {
        return Ok(answer::created(&location));
    }
    let create = Create {
        project,
        name: post.name,
        description: post.description.unwrap_or_default(),
        config: post.config.unwrap_or_default(),
        occupied: host::routes(),
    };
    api.settle(Command::CreateNetwork(Box::new(create)), &caller).await?;
    Ok(answer::created(&location))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: put, caller, expected }: Change<NetworkPut>,
) -> Answer {
    let command = Command::ConfigureNetwork {
        project: params.project(),
        name,
        description: Some(put.description.unwrap_or_default()),
        config: put.config.unwrap_or_default(),
        expected,
    };
    api.done(command, &caller).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    Change { wanted: patch, caller, expected }: Change<NetworkPut>,
) -> Answer {
    let project = params.project();
    let (config, read) = api.look(|world| {
        let it = world.network(&project, &name)?;
        let config = merged(&it.config, patch.config.unwrap_or_default());
        let revision = world.tail(StreamId::new(StreamKind::Network, it.id)).revision;
        Ok::<_, Fault>((config, revision))
    })?;
    let command = Command::ConfigureNetwork {
        project,
        name,
        description: patch.description,
        config,
        expected: expected.or(Some(read)),
    };
    api.done(command, &caller).await
}

/// The bridge has the network's name, so it cannot change while anything is on it.
pub(in crate::server) async fn rename(Path(name): Path<String>) -> Answer {
    Err(Fault::not_implemented("Renaming networks is not supported")
        .hint("make another one, then delete this one")
        .fact("name", name))
}

pub(in crate::server) async fn delete(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
    caller: Caller,
) -> Answer {
    let command = Command::DeleteNetwork { project: params.project(), name };
    api.done(command, &caller).await
}

pub(in crate::server) async fn leases(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    api.lens(&params).await?.look(|world| {
        let it = world.network(&params.project(), &name)?;
        Ok(answer::sync(show::leases(world, it)))
    })
}

pub(in crate::server) async fn state(
    State(api): State<Api>,
    Path(name): Path<String>,
    params: Params,
) -> Answer {
    let addresses = api.look(|world| addresses(world, &params.project(), &name));
    let of_host = host::interface_state(&name);
    match (of_host, addresses) {
        (Some(state), addresses) => {
            Ok(answer::sync(NetworkState { addresses: addresses.unwrap_or_default(), ..state }))
        }
        // Ours, but its bridge is not there (yet).
        (None, Ok(addresses)) => Ok(answer::sync(NetworkState {
            addresses,
            state: "down".to_owned(),
            kind: "broadcast".to_owned(),
            ..NetworkState::default()
        })),
        (None, Err(fault)) => Err(fault),
    }
}

/// The addresses that the plan gives the bridge.
fn addresses(world: &World, project: &str, name: &str) -> Result<Vec<Address>, Fault> {
    let it = world.network(project, name)?;
    let address = |(key, family): (&str, &str)| {
        let (address, netmask) = it.config.get(key)?.split_once('/')?;
        Some(Address {
            family: family.to_owned(),
            address: address.to_owned(),
            netmask: netmask.to_owned(),
            scope: "global".to_owned(),
        })
    };
    Ok([("ipv4.address", "inet"), ("ipv6.address", "inet6")]
        .into_iter()
        .filter_map(address)
        .collect())
}
