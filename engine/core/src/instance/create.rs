//! Creating an instance: from an image, as a copy of another, or empty.
//!
//! The name, the addresses and the range of host ids are reserved in the same commit, so the log
//! itself refuses a second holder. If the node fails to make the root volume, everything is undone.

use std::collections::BTreeMap;

use super::{
    Considered, Created, Event, Instance, Step,
    copy::{Making, Original},
    request::{append_job, assigned, image_of, name_of},
    specify::{self, Lessee},
    work,
};
use crate::{
    address::is_dns_label,
    config::{self, Config, Devices},
    decision::{Context, Decision},
    ids::{Fingerprint, InstanceId, NodeId, PoolId},
    name::{self, Name, NameKind},
    operation::{Class, Resource, ResourceKind, Verb},
    placement,
    port::image::ImageKind,
    project::Project,
    rejection::{Noun, Rejection},
    spec::RootSource,
    template::Trigger,
    world::World,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub project: String,
    pub name: String,
    pub kind: ImageKind,
    pub ephemeral: bool,
    pub description: String,
    pub config: Config,
    pub devices: Devices,
    /// `None`: as the image or the copied instance says, else `default`.
    pub profiles: Option<Vec<String>>,
    pub source: Source,
    pub start: bool,
    /// A cluster member's name, or `@` and a group's; none: wherever it fits best.
    pub target: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A fingerprint, the beginning of one, or an alias.
    Image(String),
    Copy {
        project: String,
        name: String,
        snapshot: Option<String>,
        /// Without the snapshots.
        instance_only: bool,
    },
    Empty,
}

/// What the source decides.
struct Origin<'a> {
    config: Config,
    devices: Devices,
    profiles: Vec<String>,
    image: Option<Fingerprint>,
    architecture: Option<String>,
    made_of: MadeOf<'a>,
}

enum MadeOf<'a> {
    Root(RootSource),
    Copy(Original<'a>),
}

impl MadeOf<'_> {
    fn place(
        &self,
        world: &World,
        wanted: &placement::Wanted<'_>,
    ) -> Result<(NodeId, Vec<Considered>), Rejection> {
        match self {
            Self::Root(_) => placement::choose(world, wanted),
            Self::Copy(original) => original.place(world, wanted),
        }
    }

    fn making(self, context: &Context, id: InstanceId, node: NodeId) -> Making {
        match self {
            Self::Root(source) => {
                Making { steps: vec![Step::CreateRoot { source }], ..Making::default() }
            }
            Self::Copy(original) => original.making(context, id, node),
        }
    }

    fn source(&self) -> Option<&Instance> {
        match self {
            Self::Root(_) => None,
            Self::Copy(original) => Some(original.source),
        }
    }
}

/// # Errors
/// Whatever is wrong with the request; nothing is reserved then.
pub fn create(world: &World, context: &Context, wanted: &Create) -> Result<Decision, Rejection> {
    let project = world.project(&wanted.project)?;
    check_name(&wanted.name)?;
    if world.holder(NameKind::Instance, project.id, &wanted.name).is_some() {
        return Err(Rejection::AlreadyExists { noun: Noun::Instance, name: wanted.name.clone() });
    }
    check_limits(world, project, wanted.kind)?;
    config::check(config::Scope::Instance, &wanted.config)?;
    config::check_devices(&wanted.devices)?;

    let id = InstanceId::derive(&[&context.operation.to_string()]);
    let origin = origin(world, wanted)?;
    let mut config = origin.config;
    config.extend(wanted.config.clone());
    config.retain(|key, value| !key.starts_with("volatile.") && !value.is_empty());
    let mut devices = origin.devices;
    devices.extend(wanted.devices.clone());
    let profiles = wanted.profiles.clone().unwrap_or(origin.profiles);
    specify::check_profiles(&profiles)?;
    let expanded = specify::expand(world, project, &profiles, &config, &devices)?;
    config::check_devices(&expanded.devices)?;

    let pool =
        pool_of(world, &expanded.devices, origin.made_of.source().map(|source| source.pool))?;
    let no_leases = BTreeMap::new();
    let lessee = Lessee { id, project, held: &no_leases };
    let (leases, mut names) = specify::lease_changes(world, lessee, &expanded.devices)?;
    let leases = assigned(leases);
    let (node, placement) = origin.made_of.place(
        world,
        &placement::Wanted {
            target: wanted.target.as_deref(),
            architecture: origin.architecture.as_deref(),
            pool,
            project,
            config: &expanded.config,
            devices: &expanded.devices,
            networks: leases.values().map(|lease| lease.network).collect(),
            holders: work::holders(
                world,
                project,
                origin.image.as_ref(),
                origin.made_of.source().map(|source| source.node),
            ),
            leaves: None,
            instance: None,
            bound_to: None,
        },
    )?;
    let Making { mut steps, snapshots } = origin.made_of.making(context, id, node);
    let idmap = work::free_slot(world, node, id, None)?;
    names.push(reserve(Name::new(NameKind::Instance, project.id, &wanted.name), id));
    names.push(reserve(work::slot(node, idmap), id));

    let created = Created {
        name: wanted.name.clone(),
        project: project.id,
        node,
        kind: wanted.kind,
        architecture: origin
            .architecture
            .unwrap_or_else(|| world.nodes[&node].architecture.clone()),
        ephemeral: wanted.ephemeral,
        description: wanted.description.clone(),
        config,
        devices,
        profiles,
        image: origin.image,
        pool,
        idmap,
        leases,
        snapshots,
        template: trigger(&wanted.source),
        placement,
    };
    if wanted.start {
        steps.push(Step::Start);
    }
    let instance = Instance::born(id, &created, context.time);
    let mut decision = Decision::for_context(context);
    let resource = Resource { kind: ResourceKind::Instance, name: wanted.name.clone() };
    decision.accept(project.id, Verb::CreateInstance, Class::Task, vec![resource]);
    for event in names {
        decision.record(name_of(&event).stream(), event);
    }
    let born = Event::Created(Box::new(created));
    append_job(world, context, &mut decision, &instance, Verb::CreateInstance, steps, vec![born])?;
    Ok(decision)
}

const fn trigger(source: &Source) -> Option<Trigger> {
    match source {
        Source::Image(_) => Some(Trigger::Create),
        Source::Copy { .. } => Some(Trigger::Copy),
        Source::Empty => None,
    }
}

pub(super) fn reserve(name: Name, holder: InstanceId) -> name::Event {
    name::Event::Reserved { name, holder: holder.0, description: String::new() }
}

/// # Errors
/// Says what a name may be.
pub(super) fn check_name(name: &str) -> Result<(), Rejection> {
    let digit_first = name.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !is_dns_label(name) || digit_first {
        let rule = "1 to 63 letters, digits and hyphens, neither beginning with a digit or a hyphen nor ending with one";
        return Err(Rejection::Invalid(format!(
            "Invalid instance name {name:?}: a name is {rule}"
        )));
    }
    Ok(())
}

fn check_limits(world: &World, project: &Project, kind: ImageKind) -> Result<(), Rejection> {
    let of_kind = match kind {
        ImageKind::Container => "limits.containers",
        ImageKind::VirtualMachine => "limits.virtual-machines",
    };
    for key in ["limits.instances", of_kind] {
        let Some(limit) = project.config.get(key).and_then(|text| text.parse::<usize>().ok())
        else {
            continue;
        };
        let counted = |instance: &&Instance| {
            instance.project == project.id && (key == "limits.instances" || instance.kind == kind)
        };
        if world.instances.values().filter(counted).count() >= limit {
            return Err(Rejection::NotAllowed {
                message: format!(
                    "Reached maximum number of instances in project {:?} ({key} is {limit})",
                    project.name
                ),
                hint: format!(
                    "delete one, or: stapes project set {} {key}={}",
                    project.name,
                    limit + 1
                ),
            });
        }
    }
    Ok(())
}

fn origin<'a>(world: &'a World, wanted: &Create) -> Result<Origin<'a>, Rejection> {
    let default_profiles = || vec!["default".to_owned()];
    match &wanted.source {
        Source::Image(reference) => {
            let fingerprint = image_of(world, &wanted.project, reference, wanted.kind)?;
            let image = world.image(&wanted.project, fingerprint.as_str())?;
            let property =
                |(key, value): (&String, &String)| (format!("image.{key}"), value.clone());
            Ok(Origin {
                config: image.properties.iter().map(property).collect(),
                devices: Devices::new(),
                profiles: image.profiles.clone(),
                architecture: Some(image.facts.architecture.clone()),
                made_of: MadeOf::Root(RootSource::Image(fingerprint.clone())),
                image: Some(fingerprint),
            })
        }
        Source::Empty => Ok(Origin {
            config: Config::new(),
            devices: Devices::new(),
            profiles: default_profiles(),
            image: None,
            architecture: None,
            made_of: MadeOf::Root(RootSource::Empty),
        }),
        Source::Copy { project, name, snapshot, instance_only } => {
            let source = world.instance(project, name)?;
            if source.kind != wanted.kind {
                return Err(Rejection::Invalid(
                    "A copy is of the same type as its source".to_owned(),
                ));
            }
            let original = Original::find(source, snapshot.as_deref(), *instance_only)?;
            Ok(Origin {
                config: original.config(),
                devices: original.devices(),
                profiles: original.profiles(),
                image: source.image.clone(),
                architecture: Some(source.architecture.clone()),
                made_of: MadeOf::Copy(original),
            })
        }
    }
}

fn pool_of(world: &World, devices: &Devices, source: Option<PoolId>) -> Result<PoolId, Rejection> {
    let (_, root) = specify::root_device(devices)?;
    let pool = world.pool(root.get("pool").map_or("", String::as_str))?;
    if source.is_some_and(|source| source != pool.id) {
        let message = "A copy to another storage pool is not supported".to_owned();
        return Err(Rejection::NotAllowed {
            message,
            hint: "copy within the pool (leave out -s)".to_owned(),
        });
    }
    pool.usable()?;
    Ok(pool.id)
}
