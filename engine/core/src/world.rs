//! The world: everything that the log says, folded.
//!
//! Only [`World::apply`] changes it, and only by whole records in the order of the log, so
//! replaying the log always gives the same world.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::evacuation,
    event::Event,
    ids::{
        ImageId, InstanceId, NetworkId, NodeId, OperationId, PoolId, ProfileId, ProjectId,
        Revision, Sequence, StreamId, StreamKind, VolumeId,
    },
    image::{self, Image},
    instance::{self, Instance},
    name::{self, Held, Name, NameKind},
    network::{self, Network},
    node::{self, Node},
    operation::Operation,
    placement::{Claim, Ledger},
    pool::{self, Pool},
    profile::{self, Profile},
    project::{self, Project},
    record::{Digest, Recorded},
    rejection::{Noun, Rejection},
    server::{self, Server},
    table::Table,
    volume::{self, Volume},
};

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    pub revision: Revision,
    pub digest: Option<Digest>,
}

impl Tail {
    /// The tail once this record is the stream's last.
    fn after(self, recorded: &Recorded) -> Result<Self, Broken> {
        let (stream, at) = (recorded.stream, recorded.sequence);
        if recorded.revision != self.revision.next() {
            let (known, found) = (self.revision, recorded.revision);
            return Err(Broken::Revision { stream, known, found, at });
        }
        if recorded.record.prev != self.digest {
            return Err(Broken::Chain { stream, at });
        }
        Ok(Self { revision: recorded.revision, digest: Some(recorded.digest) })
    }
}

/// A copy is cheap and shares what does not change afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Of the last record that it knows of.
    pub sequence: Sequence,
    pub server: Server,
    pub nodes: Table<NodeId, Node>,
    pub projects: Table<ProjectId, Project>,
    pub profiles: Table<ProfileId, Profile>,
    pub networks: Table<NetworkId, Network>,
    pub pools: Table<PoolId, Pool>,
    pub volumes: Table<VolumeId, Volume>,
    pub images: Table<ImageId, Image>,
    pub instances: Table<InstanceId, Instance>,
    /// Those under way.
    pub operations: Table<OperationId, Operation>,
    pub names: Table<Name, Held>,
    /// What follows from the instances and the names, kept at hand.
    #[serde(default)]
    pub ledger: Ledger,
    /// Of the aggregates that may still change, but for instances: those hold their own.
    tails: imbl::OrdMap<StreamId, Tail>,
}

/// The log is not what it was, or was never whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("record {found} follows record {known}: the log has a gap")]
    Gap { known: Sequence, found: Sequence },
    #[error("{stream} goes from revision {known} to {found} at record {at}")]
    Revision { stream: StreamId, known: Revision, found: Revision, at: Sequence },
    #[error("record {at} ({stream}) does not continue its stream: the log was changed")]
    Chain { stream: StreamId, at: Sequence },
}

impl World {
    /// Where the stream ends; nothing for one that never began or is over for good.
    #[must_use]
    pub fn tail(&self, stream: StreamId) -> Tail {
        if stream.kind == StreamKind::Instance
            && let Some(instance) = self.instances.get(&InstanceId(stream.id))
        {
            return instance.tail;
        }
        self.tails.get(&stream).copied().unwrap_or_default()
    }

    /// Applies the next record of the log.
    ///
    /// # Errors
    /// When it is not the next one, or does not continue its stream. Nothing has changed then.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), Broken> {
        if recorded.sequence != self.sequence.next() {
            return Err(Broken::Gap { known: self.sequence, found: recorded.sequence });
        }
        if recorded.stream.kind == StreamKind::Instance {
            self.extend_instance(recorded)?;
        } else if recorded.stream.kind == StreamKind::Task {
            self.evolve_all(recorded);
        } else {
            self.extend(recorded)?;
        }
        self.sequence = recorded.sequence;
        Ok(())
    }

    fn evolve_all(&mut self, recorded: &Recorded) {
        for event in recorded.record.events() {
            self.evolve(recorded.stream, event, recorded.record.time);
        }
    }

    /// Moves the stream's tail and applies the events.
    fn extend(&mut self, recorded: &Recorded) -> Result<(), Broken> {
        let stream = recorded.stream;
        if let Some(tail) = self.tails.get_mut(&stream) {
            *tail = tail.after(recorded)?;
        } else {
            self.tails.insert(stream, Tail::default().after(recorded)?);
        }
        self.evolve_all(recorded);
        if recorded.record.events().iter().any(ends_its_stream) {
            self.tails.remove(&stream);
        }
        Ok(())
    }

    /// An instance holds the tail of its stream itself: most of the log is about instances, and
    /// looking for one among all of them is what folding a record costs.
    fn extend_instance(&mut self, recorded: &Recorded) -> Result<(), Broken> {
        let id = InstanceId(recorded.stream.id);
        let Some(instance) = self.instances.get_mut(&id) else {
            self.extend(recorded)?;
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.tail = self.tails.remove(&recorded.stream).unwrap_or_default();
            }
            return Ok(());
        };
        let tail = instance.tail.after(recorded)?;
        instance.tail = tail;
        let (at, events) = (recorded.record.time, recorded.record.events());
        let mut claims_anew = false;
        for (place, event) in events.iter().enumerate() {
            if let Event::Instance(event) = event
                && !event.replaces()
            {
                instance.evolve(event, at);
                evacuation::remember_home(&self.nodes, instance, event);
                claims_anew |= event.changes_claim();
            } else {
                self.replace_instance(recorded, &events[place..], tail);
                break;
            }
        }
        if claims_anew {
            self.settle_claim(id);
        }
        Ok(())
    }

    /// Applies events of an instance's stream that may make it anew or remove it.
    fn replace_instance(&mut self, recorded: &Recorded, events: &[Event], tail: Tail) {
        for event in events {
            self.evolve(recorded.stream, event, recorded.record.time);
        }
        if let Some(instance) = self.instances.get_mut(&InstanceId(recorded.stream.id)) {
            instance.tail = tail;
        }
    }

    pub(crate) fn evolve(&mut self, stream: StreamId, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::Server(event) => self.evolve_server(event, at),
            Event::Node(event) => {
                let id = NodeId(stream.id);
                match (self.nodes.get_mut(&id), event) {
                    (Some(_), node::Event::Removed) => self.remove_node(id),
                    (Some(node), event) => node.evolve(event, at),
                    (None, event) => {
                        if let Some(node) = Node::born(event, at) {
                            self.nodes.insert(id, node);
                        }
                    }
                }
            }
            Event::Project(event) => {
                project::evolve(&mut self.projects, ProjectId(stream.id), event, at)
            }
            Event::Profile(event) => {
                profile::evolve(&mut self.profiles, ProfileId(stream.id), event, at)
            }
            Event::Network(event) => {
                network::evolve(&mut self.networks, &self.nodes, NetworkId(stream.id), event, at)
            }
            Event::Pool(event) => {
                pool::evolve(&mut self.pools, &self.nodes, PoolId(stream.id), event, at)
            }
            Event::Volume(event) => {
                volume::evolve(&mut self.volumes, &self.nodes, VolumeId(stream.id), event, at)
            }
            Event::Image(event) => {
                image::evolve(&mut self.images, &self.nodes, ImageId(stream.id), event, at)
            }
            Event::Instance(event) => self.evolve_instance(InstanceId(stream.id), event, at),
            Event::Operation(event) => {
                let id = OperationId(stream.id);
                if let Some(operation) = Operation::begin(event, at) {
                    self.operations.insert(id, operation);
                } else {
                    self.operations.remove(&id);
                }
            }
            Event::Name(name::Event::Reserved { name, holder, description }) => {
                let held = Held { holder: *holder, description: description.clone() };
                if name.kind == NameKind::IdMap && !self.names.contains_key(name) {
                    name.name.parse().map(|slot| self.ledger.take_slot(slot)).ok();
                }
                self.names.insert(name.clone(), held);
            }
            Event::Name(name::Event::Released { name }) => {
                let held = self.names.remove(name);
                if name.kind == NameKind::IdMap && held.is_some() {
                    name.name.parse().map(|slot| self.ledger.free_slot(slot)).ok();
                }
            }
        }
    }

    fn evolve_server(&mut self, event: &server::Event, at: DateTime<Utc>) {
        self.server.evolve(event, at);
        if let server::Event::GroupRenamed { from, to } = event {
            self.nodes.change(
                |node| node.groups.contains(from),
                |node| {
                    node.groups.remove(from);
                    node.groups.insert(to.clone());
                },
            );
        }
    }

    /// What only mentions the node forgets it.
    fn remove_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.pools.change(|it| it.parts.get(id).is_some(), |it| it.parts.remove(id));
        self.networks.change(|it| it.parts.get(id).is_some(), |it| it.parts.remove(id));
        self.images.change(
            |image| image.holders.contains(&id),
            |image| {
                image.holders.remove(&id);
            },
        );
        let mentions = |instance: &Instance| {
            instance.home == Some(id) || instance.replica.is_some_and(|replica| replica.node == id)
        };
        self.instances.change(mentions, |instance| {
            instance.home = instance.home.filter(|home| *home != id);
            instance.replica = instance.replica.filter(|replica| replica.node != id);
        });
    }

    fn evolve_instance(&mut self, id: InstanceId, event: &instance::Event, at: DateTime<Utc>) {
        if event.replaces()
            && let Some(before) = self.instances.remove(&id)
        {
            self.ledger.settle(id, before.claim.as_ref(), None);
        }
        if let instance::Event::Created(created) = event {
            self.instances.insert(id, Instance::born(id, created, at));
        } else if let Some(instance) = self.instances.get_mut(&id) {
            instance.evolve(event, at);
            evacuation::remember_home(&self.nodes, instance, event);
        }
        if event.changes_claim() {
            self.settle_claim(id);
        }
    }

    fn settle_claim(&mut self, id: InstanceId) {
        let Some(claim) = self.instances.get(&id).map(|instance| Claim::of(self, instance)) else {
            return;
        };
        if let Some(instance) = self.instances.get_mut(&id)
            && instance.claim.as_ref() != Some(&claim)
        {
            self.ledger.settle(id, instance.claim.as_ref(), Some(&claim));
            instance.claim = Some(claim);
        }
    }

    /// The instances of a node.
    pub fn instances_on(&self, node: NodeId) -> impl Iterator<Item = &Instance> {
        self.ledger.on(node).filter_map(|id| self.instances.get(&id))
    }

    /// Who holds a name.
    #[must_use]
    pub fn holder(
        &self,
        kind: NameKind,
        scope: impl Into<uuid::Uuid>,
        name: &str,
    ) -> Option<&Held> {
        self.names.get(&Name::new(kind, scope, name))
    }

    /// All names of one kind in one scope, with their holders, in order.
    pub fn held(
        &self,
        kind: NameKind,
        scope: impl Into<uuid::Uuid>,
    ) -> impl Iterator<Item = (&str, &Held)> {
        let scope = scope.into();
        let names = self.names.range(Name::new(kind, scope, "")..);
        names
            .take_while(move |(name, _)| name.kind == kind && name.scope == scope)
            .map(|(name, held)| (name.name.as_str(), held))
    }

    /// # Errors
    /// When there is no project of that name.
    pub fn project(&self, name: &str) -> Result<&Project, Rejection> {
        let held = self.holder(NameKind::Project, uuid::Uuid::nil(), name);
        held.and_then(|held| self.projects.get(&ProjectId(held.holder)))
            .ok_or_else(|| missing(Noun::Project, name))
    }

    /// # Errors
    /// When there is no project or no instance of that name.
    pub fn instance(&self, project: &str, name: &str) -> Result<&Instance, Rejection> {
        let scope = self.project(project)?.id;
        let held = self.holder(NameKind::Instance, scope, name);
        held.and_then(|held| self.instances.get(&InstanceId(held.holder)))
            .ok_or_else(|| missing(Noun::Instance, name))
    }

    /// # Errors
    /// When there is no pool of that name.
    pub fn pool(&self, name: &str) -> Result<&Pool, Rejection> {
        let held = self.holder(NameKind::Pool, uuid::Uuid::nil(), name);
        held.and_then(|held| self.pools.get(&PoolId(held.holder)))
            .ok_or_else(|| missing(Noun::Pool, name))
    }

    /// Networks belong to a project that has the feature, else to the default project.
    ///
    /// # Errors
    /// When there is no project or no network of that name.
    pub fn network(&self, project: &str, name: &str) -> Result<&Network, Rejection> {
        let scope = self.project(project)?.networks_in();
        let held = self.holder(NameKind::Network, scope, name);
        held.and_then(|held| self.networks.get(&NetworkId(held.holder)))
            .ok_or_else(|| missing(Noun::Network, name))
    }

    /// Profiles belong to a project that has the feature, else to the default project.
    ///
    /// # Errors
    /// When there is no project or no profile of that name.
    pub fn profile(&self, project: &str, name: &str) -> Result<&Profile, Rejection> {
        let scope = self.project(project)?.profiles_in();
        self.profile_in(scope, name)
    }

    /// # Errors
    /// When the project has no profile of that name.
    pub fn profile_in(&self, scope: ProjectId, name: &str) -> Result<&Profile, Rejection> {
        let held = self.holder(NameKind::Profile, scope, name);
        held.and_then(|held| self.profiles.get(&ProfileId(held.holder)))
            .ok_or_else(|| missing(Noun::Profile, name))
    }

    /// An image by fingerprint, by the unambiguous beginning of one, or by alias.
    ///
    /// # Errors
    /// When there is none, or more than one begins like that.
    pub fn image(&self, project: &str, reference: &str) -> Result<&Image, Rejection> {
        let scope = self.project(project)?.images_in();
        if let Some(held) = self.holder(NameKind::ImageAlias, scope, reference) {
            return self
                .images
                .get(&ImageId(held.holder))
                .ok_or_else(|| missing(Noun::Image, reference));
        }
        let begins = |image: &&Image| {
            image.project == scope && image.facts.fingerprint.as_str().starts_with(reference)
        };
        let mut found = self.images.values().filter(begins).take(2);
        match (found.next(), found.next()) {
            (Some(image), None) if reference.len() >= 4 => Ok(image),
            (Some(_), Some(_)) if reference.len() >= 4 => Err(Rejection::Invalid(format!(
                "More than one image matches \"{reference}\": give more of its fingerprint"
            ))),
            _ => Err(missing(Noun::Image, reference)),
        }
    }

    /// # Errors
    /// When the pool or the volume is not there.
    pub fn volume(&self, pool: &str, name: &str) -> Result<&Volume, Rejection> {
        let scope = self.pool(pool)?.id;
        let held = self.holder(NameKind::Volume, scope, name);
        held.and_then(|held| self.volumes.get(&VolumeId(held.holder)))
            .ok_or_else(|| missing(Noun::Volume, name))
    }
}

/// The rejection for what is not there.
#[must_use]
pub fn missing(noun: Noun, name: &str) -> Rejection {
    Rejection::NotFound { noun, name: name.to_owned() }
}

/// Whether nothing can follow in the event's stream. Names come back, so theirs never end.
fn ends_its_stream(event: &Event) -> bool {
    match event {
        Event::Instance(event) => matches!(event, instance::Event::Deleted),
        Event::Operation(event) => !matches!(event, crate::operation::Event::Accepted { .. }),
        Event::Network(event) => matches!(event, network::Event::Deleted),
        Event::Pool(event) => matches!(event, pool::Event::Deleted),
        Event::Volume(event) => matches!(event, volume::Event::Deleted),
        Event::Project(event) => matches!(event, project::Event::Deleted),
        Event::Profile(event) => matches!(event, profile::Event::Deleted),
        // An image's id follows from its fingerprint, so it may come back.
        Event::Image(_) | Event::Name(_) | Event::Server(_) | Event::Node(_) => false,
    }
}
