//! `stapes copy`

use stapes_api::{
    client::{Method, escape},
    wire::instance::{Instance, InstancePut, InstanceSource, InstancesPost},
};

use super::create::{merge, root_disk};
use crate::{
    args::{common::InstanceConfigArgs, instance::CopyArgs},
    commands::object::Object,
    exit::ExitStatus,
    failure::Result,
    name::{self, instance_or_snapshot},
    operation::submit,
    pairs,
    session::Session,
};

/// Keys that belong to the one they were made for.
const OWN: [&str; 2] = ["volatile.", "user.network-config"];

pub(crate) async fn run(session: &Session, args: CopyArgs) -> Result<ExitStatus> {
    let source = instance_or_snapshot(&args.source)?;
    let object = match &source.snapshot {
        Some(snapshot) => Object::snapshot(&source.instance, snapshot),
        None => Object::instance(&source.instance)?,
    };
    let found: Instance = object.explain(session, session.get(&object.path).await).await?;
    let name = args.name.as_deref().map(name::local).transpose()?.unwrap_or_default();
    let full_name = match &source.snapshot {
        Some(snapshot) => format!("{}/{snapshot}", source.instance),
        None => source.instance.clone(),
    };
    let post = InstancesPost {
        instance: overridden(&found, &args.config)?,
        name: name.to_owned(),
        source: InstanceSource {
            kind: "copy".to_owned(),
            source: full_name,
            project: session.settings.project.clone(),
            instance_only: args.instance_only || source.snapshot.is_some(),
            live: found.stateful && !args.stateless,
            refresh: args.refresh,
            allow_inconsistent: args.allow_inconsistent,
            ..InstanceSource::default()
        },
        kind: found.kind.clone(),
        ..InstancesPost::default()
    };
    let mut path = "/1.0/instances?".to_owned();
    let project = args.target_project.as_ref().unwrap_or(&session.settings.project);
    path.push_str(&format!("project={}", escape(project)));
    if let Some(node) = &args.config.target {
        path.push_str(&format!("&target={}", escape(node)));
    }
    let what = format!("copying {}", args.source);
    let outcome = submit(session, Method::POST, &path, &post, &what).await?;
    let made = outcome.name("instances").unwrap_or(name).to_owned();
    if outcome.finished() {
        if name.is_empty() {
            session.printer.line(&made)?;
        }
        session.printer.say(&format!("{made} is a copy of {}", args.source));
    }
    Ok(ExitStatus::Done)
}

/// The source's own configuration with what the flags say on top.
fn overridden(found: &Instance, flags: &InstanceConfigArgs) -> Result<InstancePut> {
    let mut config = found.config.clone();
    config.retain(|key, _| !OWN.iter().any(|own| key.starts_with(own)));
    if let Some(image) = found.config.get("volatile.base_image") {
        config.insert("volatile.base_image".to_owned(), image.clone());
    }
    config.extend(pairs::flags(&flags.config)?);
    let mut devices = found.devices.clone();
    if let Some(pool) = &flags.storage {
        merge(&mut devices, [("root".to_owned(), root_disk(pool))].into());
    }
    merge(&mut devices, pairs::devices(&flags.device)?);
    let profiles = match (flags.no_profiles, flags.profile.as_slice()) {
        (true, _) => Vec::new(),
        (false, []) => found.profiles.clone(),
        (false, typed) => typed.to_vec(),
    };
    Ok(InstancePut {
        architecture: Some(found.architecture.clone()),
        config: Some(config),
        devices: Some(devices),
        ephemeral: Some(found.ephemeral || flags.ephemeral),
        profiles: Some(profiles),
        description: Some(found.description.clone()),
        ..InstancePut::default()
    })
}
