//! `create`: what is asked for, in the words of the API.

use std::path::Path;

use stapes_api::{
    client::{Method, escape},
    wire::{
        ConfigMap, DevicesMap,
        instance::{InstancePut, InstanceSource, InstancesPost},
        network::Network,
        profile::Profile,
    },
};

use crate::{
    args::instance::{CreateArgs, NewInstanceArgs},
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    input, name,
    operation::submit,
    pairs,
    session::{FAILED, Session},
};

pub(crate) async fn run(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    if let Some(name) = create(session, &args.new, false).await? {
        session.printer.say(&format!("{name} is created"));
        session.printer.hint(&format!("stapes start {name}"));
    }
    Ok(ExitStatus::Done)
}

/// Creates it, and starts it in the same operation if `start`. Answers its name once it is there;
/// `None` when nobody waited for that.
pub(crate) async fn create(
    session: &Session,
    args: &NewInstanceArgs,
    start: bool,
) -> Result<Option<String>> {
    let (image, name) = source_and_name(args)?;
    let mut post = InstancesPost {
        instance: from_stdin(session)?,
        name: name.clone().unwrap_or_default(),
        source: source(image),
        instance_type: args.instance_type.clone().unwrap_or_default(),
        kind: if args.vm { "virtual-machine" } else { "container" }.to_owned(),
        start,
    };
    apply_flags(session, args, &mut post.instance).await?;
    let path = match &args.config.target {
        Some(node) => format!("/1.0/instances?target={}", escape(node)),
        None => "/1.0/instances".to_owned(),
    };
    let what = match (&name, start) {
        (Some(name), true) => format!("launching {name}"),
        (Some(name), false) => format!("creating {name}"),
        (None, true) => "launching an instance".to_owned(),
        (None, false) => "creating an instance".to_owned(),
    };
    let submitted = submit(session, Method::POST, &path, &post, &what).await;
    let outcome = match (submitted, &name) {
        (Err(failure), Some(name)) if failure.code() == FAILED => {
            return Err(left_over(session, name, failure).await);
        }
        (submitted, _) => submitted?,
    };
    let made = outcome.name("instances").map(str::to_owned).or_else(|| name.clone());
    if !outcome.finished() {
        return Ok(None);
    }
    let made = made
        .ok_or_else(|| Failure::protocol("the daemon did not say what it called the instance"))?;
    if name.is_none() {
        session.printer.line(&made)?;
    }
    Ok(Some(made))
}

/// What cannot be made is not there; what was made and cannot be started stays for another try.
async fn left_over(session: &Session, name: &str, failure: Failure) -> Failure {
    let path = format!("/1.0/instances/{}", escape(name));
    match session.client.get::<serde_json::Value>(&path).await {
        Ok(_) => failure
            .hint(format!("stapes delete {name}"))
            .effect(format!("{name} is created, and not started.")),
        Err(_) => failure.effect("Nothing is left of it."),
    }
}

/// With `--empty` there is no image, so the first word is the name.
fn source_and_name(args: &NewInstanceArgs) -> Result<(Option<&str>, Option<String>)> {
    let local = |text: &Option<String>| {
        text.as_deref().map(|text| name::local(text).map(str::to_owned)).transpose()
    };
    match (args.empty, &args.image, &args.name) {
        (true, Some(_), Some(_)) => {
            Err(Failure::usage("--empty takes no image, only the name of the instance"))
        }
        (true, first, None) => Ok((None, local(first)?)),
        (true, None, name) => Ok((None, local(name)?)),
        (false, Some(image), name) => Ok((Some(name::image(image)?), local(name)?)),
        (false, None, _) => Err(Failure::usage("say which image to make it from, or --empty")
            .hint("stapes launch debian/12 web")
            .hint("stapes image list")),
    }
}

pub(crate) fn source(image: Option<&str>) -> InstanceSource {
    let Some(image) = image else {
        return InstanceSource { kind: "none".to_owned(), ..InstanceSource::default() };
    };
    let source = InstanceSource { kind: "image".to_owned(), ..InstanceSource::default() };
    // The daemon looks for an alias first and takes a fingerprint's beginning too.
    if looks_like_fingerprint(image) {
        InstanceSource { fingerprint: image.to_owned(), ..source }
    } else {
        InstanceSource { alias: image.to_owned(), ..source }
    }
}

fn looks_like_fingerprint(name: &str) -> bool {
    name.len() >= 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn from_stdin(session: &Session) -> Result<InstancePut> {
    let Some(value) = input::piped_yaml(session)? else { return Ok(InstancePut::default()) };
    let bytes = value.to_string();
    stapes_api::wire::decode(bytes.as_bytes()).map_err(|error| {
        Failure::usage("standard input is no instance configuration").fact(error.to_string())
    })
}

async fn apply_flags(
    session: &Session,
    args: &NewInstanceArgs,
    put: &mut InstancePut,
) -> Result<()> {
    let mut config = put.config.take().unwrap_or_default();
    if let Some(file) = &args.environment_file {
        config.extend(pairs::environment(&read(file)?)?);
    }
    config.extend(pairs::flags(&args.config.config)?);
    put.config = Some(config);

    let mut devices = put.devices.take().unwrap_or_default();
    if let Some(network) = &args.network {
        devices.insert("eth0".to_owned(), nic(session, network).await?);
    }
    if let Some(pool) = &args.config.storage {
        devices.insert("root".to_owned(), root_disk(pool));
    }
    put.profiles = match (args.config.no_profiles, args.config.profile.as_slice()) {
        (true, _) => Some(Vec::new()),
        (false, []) => put.profiles.take(),
        (false, typed) => Some(typed.to_vec()),
    };
    for (device, keys) in pairs::devices(&args.config.device)? {
        if !keys.contains_key("type") && !devices.contains_key(&device) {
            let inherited = inherited(session, put.profiles.as_deref(), &device).await?;
            devices.insert(device.clone(), inherited);
        }
        devices.entry(device).or_default().extend(keys);
    }
    put.devices = Some(devices);

    if args.config.ephemeral {
        put.ephemeral = Some(true);
    }
    if args.description.is_some() {
        put.description.clone_from(&args.description);
    }
    Ok(())
}

/// What the profiles make of a device, the last one that has it; a key that is typed changes that.
async fn inherited(
    session: &Session,
    profiles: Option<&[String]>,
    device: &str,
) -> Result<ConfigMap> {
    let default = ["default".to_owned()];
    for name in profiles.unwrap_or(&default).iter().rev() {
        let object = Object::profile(name)?;
        let profile: Profile = object.explain(session, session.get(&object.path).await).await?;
        if let Some(keys) = profile.devices.get(device) {
            return Ok(keys.clone());
        }
    }
    Err(Failure::usage(format!("no profile brings a device `{device}`: say its type"))
        .hint(format!("-d {device},type=disk,…")))
}

pub(crate) fn merge(devices: &mut DevicesMap, more: DevicesMap) {
    for (name, keys) in more {
        devices.entry(name).or_default().extend(keys);
    }
}

pub(crate) fn root_disk(pool: &str) -> ConfigMap {
    [("type", "disk"), ("path", "/"), ("pool", pool)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A nic on a managed network, or on a bridge that is only there.
pub(crate) async fn nic(session: &Session, network: &str) -> Result<ConfigMap> {
    let object = Object::network(network)?;
    let found: Network = object.explain(session, session.get(&object.path).await).await?;
    let keys: &[(&str, &str)] = if found.managed {
        &[("type", "nic"), ("network", &object.name), ("name", "eth0")]
    } else {
        &[("type", "nic"), ("nictype", "bridged"), ("parent", &object.name), ("name", "eth0")]
    };
    Ok(keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::local(format!("cannot read {}", path.display()), &error))
}
