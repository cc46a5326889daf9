//! What a record is about, by the names of that moment.

use serde::{Deserialize, Serialize};
use stapes_core::{
    event::Event,
    ids::{
        ImageId, InstanceId, NetworkId, NodeId, OperationId, PoolId, ProfileId, ProjectId,
        StreamId, StreamKind, VolumeId,
    },
    image, instance,
    name::{self, Name, NameKind},
    network, node, operation, pool, profile, project,
    record::Recorded,
    volume,
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    #[serde(flatten)]
    pub stream: StreamId,
    /// Its name then. A volume's is `pool/volume`, an image's its fingerprint, an operation's and a
    /// thing that is not there its id.
    pub name: String,
    /// `None` for what is in no project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<InProject>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InProject {
    pub id: ProjectId,
    pub name: String,
}

impl Subject {
    /// The subject of a record, in the world before it.
    #[must_use]
    pub fn of(recorded: &Recorded, before: &World) -> Self {
        let stream = recorded.stream;
        let born = recorded.record.events().iter().find_map(|event| born(before, event));
        let (name, project) = born.or_else(|| known(before, stream)).unwrap_or_default();
        let name = if name.is_empty() { stream.id.to_string() } else { name };
        let named = |id: ProjectId| InProject { id, name: project_name(before, id) };
        Self { stream, name, project: project.map(named) }
    }
}

type Named = (String, Option<ProjectId>);

fn project_name(world: &World, id: ProjectId) -> String {
    world.projects.get(&id).map_or_else(|| id.to_string(), |project| project.name.clone())
}

fn in_pool(world: &World, pool: PoolId, volume: &str) -> String {
    let pool = world.pools.get(&pool).map_or_else(|| pool.to_string(), |pool| pool.name.clone());
    format!("{pool}/{volume}")
}

/// The name that an event itself gives.
fn born(world: &World, event: &Event) -> Option<Named> {
    match event {
        Event::Instance(instance::Event::Created(created)) => {
            Some((created.name.clone(), Some(created.project)))
        }
        Event::Node(node::Event::Started { name, .. })
        | Event::Pool(pool::Event::Created { name, .. })
        | Event::Project(project::Event::Created { name, .. }) => Some((name.clone(), None)),
        Event::Profile(profile::Event::Created { project, name, .. })
        | Event::Network(network::Event::Created { project, name, .. }) => {
            Some((name.clone(), Some(*project)))
        }
        Event::Volume(volume::Event::Created { pool, project, name, .. }) => {
            Some((in_pool(world, *pool, name), Some(*project)))
        }
        Event::Image(image::Event::Imported { project, facts, .. }) => {
            Some((facts.fingerprint.to_string(), Some(*project)))
        }
        Event::Operation(operation::Event::Accepted { operation, project, .. }) => {
            Some((operation.to_string(), Some(*project)))
        }
        Event::Name(name::Event::Reserved { name, .. } | name::Event::Released { name }) => {
            Some((name.name.clone(), scope(name)))
        }
        Event::Server(_) => Some(("server".to_owned(), None)),
        Event::Instance(_)
        | Event::Node(_)
        | Event::Pool(_)
        | Event::Project(_)
        | Event::Profile(_)
        | Event::Network(_)
        | Event::Volume(_)
        | Event::Image(_)
        | Event::Operation(_) => None,
    }
}

/// The project that a name is unique in, if it is one.
fn scope(name: &Name) -> Option<ProjectId> {
    match name.kind {
        NameKind::Profile | NameKind::Network | NameKind::Instance | NameKind::ImageAlias => {
            Some(ProjectId(name.scope))
        }
        NameKind::Project
        | NameKind::Pool
        | NameKind::Volume
        | NameKind::Address
        | NameKind::IdMap
        | NameKind::Node => None,
    }
}

/// The name that the world knows.
fn known(world: &World, stream: StreamId) -> Option<Named> {
    let id = stream.id;
    match stream.kind {
        StreamKind::Instance => {
            let instance = world.instances.get(&InstanceId(id))?;
            Some((instance.name.clone(), Some(instance.project)))
        }
        StreamKind::Node | StreamKind::Task => {
            Some((world.nodes.get(&NodeId(id))?.name.clone(), None))
        }
        StreamKind::Project => Some((world.projects.get(&ProjectId(id))?.name.clone(), None)),
        StreamKind::Profile => {
            let profile = world.profiles.get(&ProfileId(id))?;
            Some((profile.name.clone(), Some(profile.project)))
        }
        StreamKind::Network => {
            let network = world.networks.get(&NetworkId(id))?;
            Some((network.name.clone(), Some(network.project)))
        }
        StreamKind::Pool => Some((world.pools.get(&PoolId(id))?.name.clone(), None)),
        StreamKind::Volume => {
            let volume = world.volumes.get(&VolumeId(id))?;
            Some((in_pool(world, volume.pool, &volume.name), Some(volume.project)))
        }
        StreamKind::Image => {
            let image = world.images.get(&ImageId(id))?;
            Some((image.facts.fingerprint.to_string(), Some(image.project)))
        }
        StreamKind::Operation => {
            let operation = world.operations.get(&OperationId(id))?;
            Some((operation.id.to_string(), Some(operation.project)))
        }
        StreamKind::Server => Some(("server".to_owned(), None)),
        StreamKind::Name => None,
    }
}
