//! `stapes storage volume …`: what only volumes do.

pub(crate) mod snapshot;

use serde_json::{Value, json};
use stapes_api::{
    client::{Method, escape},
    wire::{ConfigMap, storage::StorageVolumePut},
};

use super::{
    count, device,
    object::{Noun, Object, last_segment},
    text,
};
use crate::{
    args::volume::{AttachArgs, CopyArgs, CreateArgs, DetachArgs, ListArgs, ShowArgs, VolumeArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    name,
    operation::submit,
    output::Listing,
    pairs,
    session::Session,
};

/// `data` is a custom volume, `container/web` an instance's root.
pub(crate) fn object(args: &VolumeArgs) -> Result<Object> {
    let pool = name::local(&args.pool)?;
    let (kind, volume) = args.volume.split_once('/').unwrap_or(("custom", &args.volume));
    if !matches!(kind, "custom" | "container" | "virtual-machine" | "image") || volume.is_empty() {
        return Err(Failure::usage(format!("`{}` is no volume's name", args.volume))
            .fact("Write data, container/web, virtual-machine/big or image/FINGERPRINT."));
    }
    let path = format!("/1.0/storage-pools/{}/volumes/{kind}/{}", escape(pool), escape(volume));
    Ok(Object::new(Noun::Volume, &format!("{pool}/{volume}"), path))
}

fn custom_name(args: &VolumeArgs) -> &str {
    args.volume.rsplit('/').next().unwrap_or(&args.volume)
}

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result<ExitStatus> {
    let pools = match &args.pool {
        Some(pool) => vec![name::local(pool)?.to_owned()],
        None => {
            let urls: Vec<String> = session.get("/1.0/storage-pools").await?;
            urls.iter().map(|url| last_segment(url).to_owned()).collect()
        }
    };
    let titles = ["Pool", "Type", "Name", "Description", "Content type", "Used by"];
    let mut listing = Listing::new(&titles);
    for pool in pools {
        let owner = Object::pool(&pool)?;
        let path = format!("{}/volumes?recursion=1", owner.path);
        for value in owner.explain(session, session.values(&path).await).await? {
            let row = vec![
                pool.clone(),
                text(&value, "type"),
                text(&value, "name"),
                text(&value, "description"),
                text(&value, "content_type"),
                count(&value, "used_by").to_string(),
            ];
            listing.push(row, value);
        }
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn create(session: &Session, args: CreateArgs) -> Result<ExitStatus> {
    let pool = Object::pool(&args.volume.pool)?;
    let volume = custom_name(&args.volume);
    let put = StorageVolumePut {
        name: volume.to_owned(),
        kind: "custom".to_owned(),
        content_type: args.content.clone(),
        config: Some(pairs::flags(&args.pairs)?),
        description: args.description.clone(),
        ..StorageVolumePut::default()
    };
    let path = format!("{}/volumes/custom", pool.path);
    let made =
        submit(session, Method::POST, &path, &put, &format!("creating volume {volume}")).await;
    pool.explain(session, made).await?;
    session.printer.say(&format!("volume {}/{volume} is created", pool.name));
    Ok(ExitStatus::Done)
}

pub(crate) async fn copy(session: &Session, args: CopyArgs) -> Result<ExitStatus> {
    let parse = |text: &str| -> Result<(String, String)> {
        let (pool, volume) = name::local(text)?
            .split_once('/')
            .ok_or_else(|| Failure::usage(format!("`{text}` is not POOL/VOLUME")))?;
        Ok((pool.to_owned(), volume.to_owned()))
    };
    let (from_pool, from) = parse(&args.source)?;
    let (to_pool, to) = parse(&args.target)?;
    let body = json!({
        "name": to,
        "type": "custom",
        "source": { "type": "copy", "pool": from_pool, "name": from, "volume_only": args.volume_only },
    });
    let path = format!("/1.0/storage-pools/{}/volumes/custom", escape(&to_pool));
    submit(session, Method::POST, &path, &body, &format!("copying {}", args.source)).await?;
    session.printer.say(&format!("{} is a copy of {}", args.target, args.source));
    Ok(ExitStatus::Done)
}

pub(crate) async fn info(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let object = object(&args.volume)?;
    let mut value = object.read(session).await?;
    if let Ok(state) = session.value(&format!("{}/state", object.path)).await {
        value["state"] = state;
    }
    session.printer.object(args.format.format, &value)?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn attach(session: &Session, args: AttachArgs) -> Result<ExitStatus> {
    let pool = name::local(&args.volume.pool)?;
    let volume = custom_name(&args.volume);
    let found = object(&args.volume)?.read(session).await?;
    let (device, path) = match args.place.as_slice() {
        [path] => (volume, path.as_str()),
        [device, path] => (device.as_str(), path.as_str()),
        _ => return Err(Failure::usage("say where: [DEVICE] PATH")),
    };
    let mut keys: ConfigMap = [("type", "disk"), ("pool", pool), ("source", volume)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    if text(&found, "content_type") != "block" {
        keys.insert("path".to_owned(), path.to_owned());
    }
    device::insert(session, &Object::instance(&args.instance)?, device, keys).await?;
    Ok(ExitStatus::Done)
}

pub(crate) async fn detach(session: &Session, args: DetachArgs) -> Result<ExitStatus> {
    let owner = Object::instance(&args.instance)?;
    let (pool, volume) = (name::local(&args.volume.pool)?, custom_name(&args.volume));
    let value = owner.read(session).await?;
    let devices = value.get("devices").and_then(Value::as_object);
    let named = args.device.or_else(|| {
        devices
            .into_iter()
            .flatten()
            .find(|(_, keys)| text(keys, "pool") == pool && text(keys, "source") == volume)
            .map(|(name, _)| name.clone())
    });
    let device = named.ok_or_else(|| {
        Failure::usage(format!("volume {pool}/{volume} is not attached to {}", owner.name))
    })?;
    device::take_out(session, &owner, &[device]).await?;
    Ok(ExitStatus::Done)
}
