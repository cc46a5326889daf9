//! `stapes storage volume snapshot …`

use serde_json::json;
use stapes_api::client::{Method, escape};

use super::object;
use crate::{
    args::volume::{
        ShowArgs, SnapshotArgs, SnapshotCreateArgs, SnapshotRenameArgs, VolumeSnapshotCommand,
    },
    commands::{
        object::{Noun, Object, delete, rename, show},
        snapshot::expiry,
        text,
    },
    exit::ExitStatus,
    failure::Result,
    operation::submit,
    output::{Format, Listing},
    session::Session,
};

pub(crate) async fn run(session: &Session, command: VolumeSnapshotCommand) -> Result<ExitStatus> {
    match command {
        VolumeSnapshotCommand::Create(args) => create(session, args).await,
        VolumeSnapshotCommand::Delete(args) => delete(session, &one(&args)?).await,
        VolumeSnapshotCommand::List(args) => list(session, args).await,
        VolumeSnapshotCommand::Rename(SnapshotRenameArgs { volume, snapshot, new_name }) => {
            rename(session, &one(&SnapshotArgs { volume, snapshot })?, &new_name).await
        }
        VolumeSnapshotCommand::Restore(args) => restore(session, args).await,
        VolumeSnapshotCommand::Show(args) => show(session, &one(&args)?, Format::default()).await,
    }
}

fn one(args: &SnapshotArgs) -> Result<Object> {
    let volume = object(&args.volume)?;
    let path = format!("{}/snapshots/{}", volume.path, escape(&args.snapshot));
    Ok(Object::new(Noun::Snapshot, &format!("{}/{}", volume.name, args.snapshot), path))
}

async fn create(session: &Session, args: SnapshotCreateArgs) -> Result<ExitStatus> {
    let volume = object(&args.volume)?;
    let mut body = json!({ "name": args.snapshot.clone().unwrap_or_default() });
    if let Some(text) = &args.expiry {
        body["expires_at"] = json!(expiry(text)?);
    }
    let path = format!("{}/snapshots", volume.path);
    let what = format!("taking a snapshot of {}", volume.name);
    if submit(session, Method::POST, &path, &body, &what).await?.finished() {
        session.printer.say(&format!("a snapshot of {} is taken", volume.name));
    }
    Ok(ExitStatus::Done)
}

async fn list(session: &Session, args: ShowArgs) -> Result<ExitStatus> {
    let volume = object(&args.volume)?;
    let mut listing = Listing::new(&["Name", "Taken at", "Expires at", "Description"]);
    for value in session.values(&format!("{}/snapshots?recursion=1", volume.path)).await? {
        let full = text(&value, "name");
        let name = full.rsplit('/').next().unwrap_or_default().to_owned();
        let fields = ["created_at", "expires_at", "description"].map(|field| text(&value, field));
        listing.push([vec![name], fields.to_vec()].concat(), value);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}

async fn restore(session: &Session, args: SnapshotArgs) -> Result<ExitStatus> {
    let volume = object(&args.volume)?;
    let body = json!({ "restore": args.snapshot });
    let what = format!("restoring {}", volume.name);
    if submit(session, Method::PUT, &volume.path, &body, &what).await?.finished() {
        session.printer.say(&format!("{} is back at {}", volume.name, args.snapshot));
    }
    Ok(ExitStatus::Done)
}
