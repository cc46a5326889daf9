//! `… device …`, the same for instances and profiles.

use serde_json::{Map, Value, json};
use stapes_api::wire::{ConfigMap, instance::Instance};

use crate::{
    args::device::{AddArgs, DeviceCommand, GetArgs, OverrideArgs, OwnerArgs, RemoveArgs, SetArgs},
    commands::{
        object::{Noun, Object},
        text,
    },
    exit::ExitStatus,
    failure::{Failure, Result},
    pairs,
    session::Session,
};

pub(crate) async fn run(
    session: &Session,
    noun: Noun,
    command: DeviceCommand,
) -> Result<ExitStatus> {
    match command {
        DeviceCommand::Add(args) => add(session, noun, args).await,
        DeviceCommand::Get(args) => get(session, noun, args).await,
        DeviceCommand::List(args) => list(session, noun, args).await,
        DeviceCommand::Override(args) => override_device(session, noun, args).await,
        DeviceCommand::Remove(args) => remove(session, noun, args).await,
        DeviceCommand::Set(args) => set(session, noun, args).await,
        DeviceCommand::Show(args) => show(session, noun, args).await,
        DeviceCommand::Unset(args) => unset(session, noun, args).await,
    }
}

fn owner(noun: Noun, name: &str) -> Result<Object> {
    if noun == Noun::Profile { Object::profile(name) } else { Object::instance(name) }
}

/// Adds a device under a name that is free.
pub(crate) async fn insert(
    session: &Session,
    object: &Object,
    device: &str,
    keys: ConfigMap,
) -> Result<()> {
    object
        .alter(session, |body| {
            let devices = devices_of(body)?;
            if devices.contains_key(device) {
                return Err(Failure::new(
                    ExitStatus::Conflict,
                    "exists",
                    format!("{} has a device `{device}` already", object.title()),
                )
                .effect("Nothing was changed."));
            }
            devices.insert(device.to_owned(), json!(keys));
            Ok(())
        })
        .await?;
    session.printer.say(&format!("device {device} is added to {}", object.name));
    Ok(())
}

async fn add(session: &Session, noun: Noun, args: AddArgs) -> Result<ExitStatus> {
    let mut keys = pairs::flags(&args.pairs)?;
    keys.insert("type".to_owned(), args.kind);
    insert(session, &owner(noun, &args.owner)?, &args.device, keys).await?;
    Ok(ExitStatus::Done)
}

async fn get(session: &Session, noun: Noun, args: GetArgs) -> Result<ExitStatus> {
    let object = owner(noun, &args.owner)?;
    let value = object.read(session).await?;
    let device = value.get("devices").and_then(|devices| devices.get(&args.device));
    let device = device.ok_or_else(|| missing(&object, &args.device, &value))?;
    session.printer.line(&text(device, &args.key))?;
    Ok(ExitStatus::Done)
}

async fn list(session: &Session, noun: Noun, args: OwnerArgs) -> Result<ExitStatus> {
    let value = owner(noun, &args.owner)?.read(session).await?;
    for name in names(&value) {
        session.printer.line(name)?;
    }
    Ok(ExitStatus::Done)
}

async fn show(session: &Session, noun: Noun, args: OwnerArgs) -> Result<ExitStatus> {
    let value = owner(noun, &args.owner)?.read(session).await?;
    let devices = value.get("devices").cloned().unwrap_or_else(|| json!({}));
    session.printer.object(args.format.format, &devices)?;
    Ok(ExitStatus::Done)
}

/// A device that comes from a profile becomes the instance's own, with keys changed.
async fn override_device(session: &Session, noun: Noun, args: OverrideArgs) -> Result<ExitStatus> {
    if noun == Noun::Profile {
        return Err(Failure::usage("a profile has no devices from elsewhere to override"));
    }
    let object = owner(noun, &args.owner)?;
    let instance: Instance = object.explain(session, session.get(&object.path).await).await?;
    if instance.devices.contains_key(&args.device) {
        return Err(Failure::usage(format!("`{}` is the instance's own already", args.device))
            .hint(format!("stapes config device set {} {} …", args.owner, args.device)));
    }
    let mut keys = instance.expanded_devices.get(&args.device).cloned().ok_or_else(|| {
        Failure::usage(format!("no profile of {} has a device `{}`", object.name, args.device))
    })?;
    keys.extend(pairs::flags(&args.pairs)?);
    insert(session, &object, &args.device, keys).await?;
    Ok(ExitStatus::Done)
}

async fn remove(session: &Session, noun: Noun, args: RemoveArgs) -> Result<ExitStatus> {
    let object = owner(noun, &args.owner)?;
    take_out(session, &object, &args.devices).await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn take_out(session: &Session, object: &Object, names: &[String]) -> Result<()> {
    object
        .alter(session, |body| {
            let before = Value::Object(body.clone());
            let devices = devices_of(body)?;
            for name in names {
                devices.remove(name).ok_or_else(|| missing(object, name, &before))?;
            }
            Ok(())
        })
        .await?;
    session.printer.say(&format!("removed from {}: {}", object.name, names.join(", ")));
    Ok(())
}

async fn set(session: &Session, noun: Noun, args: SetArgs) -> Result<ExitStatus> {
    let object = owner(noun, &args.owner)?;
    let pairs = pairs::parse(&args.pairs)?;
    object
        .alter(session, |body| {
            let before = Value::Object(body.clone());
            let device = devices_of(body)?
                .get_mut(&args.device)
                .and_then(Value::as_object_mut)
                .ok_or_else(|| missing(&object, &args.device, &before))?;
            for (key, value) in pairs {
                if value.is_empty() {
                    device.remove(&key);
                } else {
                    device.insert(key, Value::String(value));
                }
            }
            Ok(())
        })
        .await?;
    Ok(ExitStatus::Done)
}

async fn unset(session: &Session, noun: Noun, args: GetArgs) -> Result<ExitStatus> {
    let pairs = vec![format!("{}=", args.key)];
    set(session, noun, SetArgs { owner: args.owner, device: args.device, pairs }).await
}

fn devices_of(body: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let devices = body.entry("devices").or_insert_with(|| json!({}));
    if devices.is_null() {
        *devices = json!({});
    }
    devices.as_object_mut().ok_or_else(|| Failure::protocol("the devices are no map"))
}

fn names(value: &Value) -> impl Iterator<Item = &str> {
    let devices = value.get("devices").and_then(Value::as_object);
    devices.into_iter().flatten().map(|(name, _)| name.as_str())
}

fn missing(object: &Object, device: &str, value: &Value) -> Failure {
    let all: Vec<&str> = names(value).collect();
    let failure = Failure::new(
        ExitStatus::NotFound,
        "not-found",
        format!("{} has no device `{device}` of its own", object.title()),
    );
    let inherited = value.get("expanded_devices").and_then(|devices| devices.get(device)).is_some();
    let failure = match (inherited, all.as_slice()) {
        (true, _) => failure
            .fact("It comes from a profile.")
            .hint(format!("stapes config device override {} {device} …", object.name)),
        (false, []) => failure,
        (false, all) => failure.fact(format!("It has {}.", all.join(", "))),
    };
    failure.effect("Nothing was changed.")
}
