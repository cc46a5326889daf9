//! An image: what instances are made from. Its files are the image store's; this is what is known.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    decision::{Context, Decision},
    ids::{Fingerprint, ImageId, NodeId, PoolId, ProjectId, StreamId, StreamKind},
    name::{self, Name, NameKind},
    node::Node,
    operation::{Class, Gain, Resource, ResourceKind, Verb},
    port::image::ImageFacts,
    rejection::{Noun, Rejection},
    spec::Incarnation,
    table::Table,
    task::{Subject, Work},
    world::{World, missing},
};

/// What an image says of itself at most.
const PROPERTIES_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub id: ImageId,
    pub project: ProjectId,
    pub facts: ImageFacts,
    pub uploaded_at: DateTime<Utc>,
    /// The image's own, changed by users.
    pub properties: BTreeMap<String, String>,
    pub public: bool,
    pub auto_update: bool,
    /// Of instances that name none.
    pub profiles: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
    /// The nodes that have its files.
    #[serde(default)]
    pub holders: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Imported {
        project: ProjectId,
        facts: Box<ImageFacts>,
        properties: BTreeMap<String, String>,
        public: bool,
        auto_update: bool,
        profiles: Vec<String>,
        /// Where its files are; none: on the one that there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeId>,
    },
    /// Another node has it too.
    Fetched {
        node: NodeId,
    },
    /// All that may be changed of it, as it is now.
    Described {
        properties: BTreeMap<String, String>,
        public: bool,
        auto_update: bool,
        profiles: Vec<String>,
        expires_at: Option<DateTime<Utc>>,
    },
    Deleted {
        fingerprint: Fingerprint,
    },
}

impl Event {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Imported { .. } => "imported",
            Self::Fetched { .. } => "fetched",
            Self::Described { .. } => "described",
            Self::Deleted { .. } => "deleted",
        }
    }
}

pub(crate) fn evolve(
    images: &mut Table<ImageId, Image>,
    known: &Table<NodeId, Node>,
    id: ImageId,
    event: &Event,
    at: DateTime<Utc>,
) {
    match event {
        Event::Imported { project, facts, properties, public, auto_update, profiles, node } => {
            let image = Image {
                id,
                project: *project,
                facts: (**facts).clone(),
                uploaded_at: at,
                properties: properties.clone(),
                public: *public,
                auto_update: *auto_update,
                profiles: profiles.clone(),
                expires_at: facts.expires_at,
                holders: match node {
                    Some(node) => [*node].into(),
                    None => known.keys().copied().collect(),
                },
            };
            images.insert(id, image);
        }
        Event::Described { properties, public, auto_update, profiles, expires_at } => {
            if let Some(image) = images.get_mut(&id) {
                image.properties.clone_from(properties);
                image.public = *public;
                image.auto_update = *auto_update;
                image.profiles.clone_from(profiles);
                image.expires_at = *expires_at;
            }
        }
        Event::Fetched { node } => {
            if let Some(image) = images.get_mut(&id) {
                image.holders.insert(*node);
            }
        }
        Event::Deleted { .. } => {
            images.remove(&id);
        }
    }
}

fn stream(id: ImageId) -> StreamId {
    StreamId::new(StreamKind::Image, id)
}

/// The image of these files in this project.
#[must_use]
pub fn id_of(project: ProjectId, fingerprint: &Fingerprint) -> ImageId {
    ImageId::derive(&[&project.to_string(), fingerprint.as_str()])
}

/// An upload that the image store has checked and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub project: String,
    pub facts: ImageFacts,
    /// Beside those that the image brings.
    pub properties: BTreeMap<String, String>,
    pub public: bool,
    pub auto_update: bool,
    pub profiles: Vec<String>,
    pub aliases: Vec<(String, String)>,
    /// Whose image store has it; none: the one that there is.
    pub node: Option<NodeId>,
}

/// # Errors
/// When the project has it already, or an alias is taken.
pub fn import(world: &World, context: &Context, wanted: &Import) -> Result<Decision, Rejection> {
    let project = world.project(&wanted.project)?.images_in();
    let fingerprint = &wanted.facts.fingerprint;
    let id = id_of(project, fingerprint);
    if world.images.contains_key(&id) {
        return Err(Rejection::AlreadyExists { noun: Noun::Image, name: fingerprint.to_string() });
    }
    let mut properties = wanted.facts.properties.clone();
    properties.extend(wanted.properties.clone());
    check_properties(&properties)?;
    let mut decision = Decision::for_context(context);
    let resource = Resource { kind: ResourceKind::Image, name: fingerprint.to_string() };
    decision.accept(project, Verb::ImportImage, Class::Task, vec![resource]);
    let profiles = if wanted.profiles.is_empty() {
        vec!["default".to_owned()]
    } else {
        wanted.profiles.clone()
    };
    decision.record(
        stream(id),
        Event::Imported {
            project,
            facts: Box::new(wanted.facts.clone()),
            properties,
            public: wanted.public,
            auto_update: wanted.auto_update,
            profiles,
            node: wanted.node.filter(|_| world.nodes.len() > 1),
        },
    );
    for (alias, description) in &wanted.aliases {
        reserve_alias(world, &mut decision, project, alias, id, description)?;
    }
    let gain =
        Gain::Image { fingerprint: fingerprint.clone(), size_bytes: wanted.facts.size_bytes };
    decision.succeed(context.operation, gain);
    Ok(decision)
}

fn check_properties(properties: &BTreeMap<String, String>) -> Result<(), Rejection> {
    if properties.len() > PROPERTIES_MAX {
        return Err(Rejection::Invalid(format!(
            "An image has at most {PROPERTIES_MAX} properties"
        )));
    }
    let prefixed =
        properties.iter().map(|(key, value)| (format!("image.{key}"), value.clone())).collect();
    crate::config::check(crate::config::Scope::Instance, &prefixed)
}

/// The nodes that have the image's files, whichever projects it is in.
#[must_use]
pub fn holders(world: &World, project: ProjectId, fingerprint: &Fingerprint) -> BTreeSet<NodeId> {
    let image = world.images.get(&id_of(project, fingerprint));
    image.map(|image| image.holders.clone()).unwrap_or_default()
}

/// A node has unpacked the image, and with it its files.
pub(crate) fn record_fetched(
    world: &World,
    decision: &mut Decision,
    project: ProjectId,
    fingerprint: &Fingerprint,
    node: NodeId,
) {
    let id = id_of(project, fingerprint);
    if world.images.get(&id).is_some_and(|image| !image.holders.contains(&node)) {
        decision.record(stream(id), Event::Fetched { node });
    }
}

/// What may be changed of an image; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Describe {
    pub properties: Option<BTreeMap<String, String>>,
    pub public: Option<bool>,
    pub auto_update: Option<bool>,
    pub profiles: Option<Vec<String>>,
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// # Errors
/// When there is no such image, or a property is wrong.
pub fn describe(
    world: &World,
    context: &Context,
    project: &str,
    reference: &str,
    wanted: &Describe,
) -> Result<Decision, Rejection> {
    let image = world.image(project, reference)?;
    let properties = wanted.properties.clone().unwrap_or_else(|| image.properties.clone());
    check_properties(&properties)?;
    let mut decision = Decision::for_context(context);
    let described = Event::Described {
        properties,
        public: wanted.public.unwrap_or(image.public),
        auto_update: wanted.auto_update.unwrap_or(image.auto_update),
        profiles: wanted.profiles.clone().unwrap_or_else(|| image.profiles.clone()),
        expires_at: wanted.expires_at.unwrap_or(image.expires_at),
    };
    decision.record(stream(image.id), described);
    Ok(decision)
}

/// Instances made from it keep what they share with it until they are gone.
///
/// # Errors
/// When there is no such image.
pub fn delete(
    world: &World,
    context: &Context,
    project: &str,
    reference: &str,
) -> Result<Decision, Rejection> {
    let image = world.image(project, reference)?;
    let fingerprint = &image.facts.fingerprint;
    let mut decision = Decision::for_context(context);
    let resource = Resource { kind: ResourceKind::Image, name: fingerprint.to_string() };
    decision.accept(image.project, Verb::DeleteImage, Class::Task, vec![resource]);
    for (alias, _) in world
        .held(NameKind::ImageAlias, image.project)
        .filter(|(_, held)| held.holder == image.id.0)
    {
        let name = Name::new(NameKind::ImageAlias, image.project, alias);
        decision.record(name.stream(), name::Event::Released { name });
    }
    decision.record(stream(image.id), Event::Deleted { fingerprint: fingerprint.clone() });
    let shared = world
        .images
        .values()
        .any(|other| other.id != image.id && other.facts.fingerprint == *fingerprint);
    let used =
        world.instances.values().any(|instance| instance.image.as_ref() == Some(fingerprint));
    if !shared && !used {
        let pools: Vec<PoolId> = world.pools.keys().copied().collect();
        // Its own sequence numbers its incarnations: an image may be deleted and imported again.
        let generation = crate::ids::Generation(world.tail(stream(image.id)).revision.0 + 1);
        let incarnation = Incarnation { generation, ..Incarnation::default() };
        // Where an instance of it came to from another node it is unpacked without its files.
        for node in world.nodes.keys() {
            let (subject, pools) = (Subject::Image(fingerprint.clone()), pools.clone());
            let work = Work::RemoveImage { pools };
            decision.order(*node, context.operation, subject, incarnation, work);
        }
    }
    decision.succeed(context.operation, Gain::Nothing);
    Ok(decision)
}

fn reserve_alias(
    world: &World,
    decision: &mut Decision,
    project: ProjectId,
    alias: &str,
    image: ImageId,
    description: &str,
) -> Result<(), Rejection> {
    if alias.is_empty()
        || alias.len() > 255
        || alias.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return Err(Rejection::Invalid(format!(
            "Invalid image alias {alias:?}: 1 to 255 characters without spaces"
        )));
    }
    if world.holder(NameKind::ImageAlias, project, alias).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::ImageAlias, name: alias.to_owned() });
    }
    let name = Name::new(NameKind::ImageAlias, project, alias);
    let reserved = name::Event::Reserved {
        name: name.clone(),
        holder: image.0,
        description: description.to_owned(),
    };
    decision.record(name.stream(), reserved);
    Ok(())
}

/// # Errors
/// When the alias is taken, or there is no such image.
pub fn create_alias(
    world: &World,
    context: &Context,
    project: &str,
    alias: &str,
    target: &str,
    description: &str,
) -> Result<Decision, Rejection> {
    let image = world.image(project, target)?;
    let mut decision = Decision::for_context(context);
    reserve_alias(world, &mut decision, image.project, alias, image.id, description)?;
    Ok(decision)
}

/// # Errors
/// When there is no such alias.
pub fn delete_alias(
    world: &World,
    context: &Context,
    project: &str,
    alias: &str,
) -> Result<Decision, Rejection> {
    let scope = world.project(project)?.images_in();
    let name = Name::new(NameKind::ImageAlias, scope, alias);
    if !world.names.contains_key(&name) {
        return Err(missing(Noun::ImageAlias, alias));
    }
    let mut decision = Decision::for_context(context);
    decision.record(name.stream(), name::Event::Released { name });
    Ok(decision)
}

/// Points an alias elsewhere, renames it, or describes it anew; what is `None` stays.
///
/// # Errors
/// When there is no such alias or image, or the new name is taken.
pub fn change_alias(
    world: &World,
    context: &Context,
    project: &str,
    alias: &str,
    change: (Option<&str>, Option<&str>, Option<&str>),
) -> Result<Decision, Rejection> {
    let (rename, target, description) = change;
    let scope = world.project(project)?.images_in();
    let held = world
        .holder(NameKind::ImageAlias, scope, alias)
        .ok_or_else(|| missing(Noun::ImageAlias, alias))?;
    let image = target.map_or(Ok(ImageId(held.holder)), |target| {
        world.image(project, target).map(|image| image.id)
    })?;
    let description = description.unwrap_or(&held.description);
    let old = Name::new(NameKind::ImageAlias, scope, alias);
    let mut decision = Decision::for_context(context);
    match rename.filter(|to| *to != alias) {
        Some(to) => {
            decision.record(old.stream(), name::Event::Released { name: old });
            reserve_alias(world, &mut decision, scope, to, image, description)?;
        }
        None => {
            let description = description.to_owned();
            let reserved =
                name::Event::Reserved { name: old.clone(), holder: image.0, description };
            decision.record(old.stream(), reserved);
        }
    }
    Ok(decision)
}
