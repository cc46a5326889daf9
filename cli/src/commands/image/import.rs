//! `stapes image import`: from files, a directory or a URL.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stapes_api::{
    client::{Method, Pending, UploadOptions},
    wire::operation::Operation,
};

use super::alias;
use crate::{
    args::image::ImportArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    operation::{Outcome, follow, submit},
    output::progress::Progress,
    pairs,
    session::Session,
};

/// What an image of files is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) metadata: PathBuf,
    pub(crate) root: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, mut args: ImportArgs) -> Result<ExitStatus> {
    // The second word is a property when it looks like one.
    if let Some(second) = args.rootfs.take_if(|second| second.to_string_lossy().contains('=')) {
        args.properties.insert(0, second.to_string_lossy().into_owned());
    }
    if args.reuse {
        alias::take_away(session, &args.alias).await?;
    }
    if args.source.starts_with("http://") || args.source.starts_with("https://") {
        return from_url(session, &args).await;
    }
    let files = files(Path::new(&args.source), args.rootfs)?;
    let properties = pairs::flags(&args.properties)?;
    let options = UploadOptions {
        public: args.public,
        aliases: args.alias.clone(),
        properties: properties.into_iter().collect(),
        fingerprint: None,
    };
    upload(session, &files, &options).await
}

/// Sends the files and prints the fingerprint of what they became.
pub(crate) async fn upload(
    session: &Session,
    files: &Files,
    options: &UploadOptions,
) -> Result<ExitStatus> {
    let is_disk = |path: &Path| {
        let name = path.to_string_lossy();
        [".img", ".qcow2", ".img.qcow2"].iter().any(|end| name.ends_with(end))
    };
    let root = files.root.as_deref().map(|root| (root, is_disk(root)));
    let progress =
        Progress::spinner(session.printer, &format!("sending {}", files.metadata.display()));
    let pending: Pending = session.client.upload_image(&files.metadata, root, options).await?;
    drop(progress);
    let id = pending.id().to_owned();
    if session.settings.submit.no_wait {
        session.printer.line(&id)?;
        return Ok(ExitStatus::Done);
    }
    finish(session, &follow(session, &id, "importing the image").await?)
}

fn finish(session: &Session, operation: &Operation) -> Result<ExitStatus> {
    let made = operation.metadata.as_ref().and_then(|metadata| metadata.get("fingerprint"));
    let fingerprint = made.and_then(Value::as_str).unwrap_or_default();
    session.printer.say("the image is imported; its fingerprint:");
    session.printer.line(fingerprint)?;
    Ok(ExitStatus::Done)
}

async fn from_url(session: &Session, args: &ImportArgs) -> Result<ExitStatus> {
    let aliases: Vec<Value> =
        args.alias.iter().map(|name| json!({ "name": name, "description": "" })).collect();
    let body = json!({
        "public": args.public,
        "properties": pairs::flags(&args.properties)?,
        "aliases": aliases,
        "source": { "type": "url", "mode": "pull", "url": args.source },
    });
    let what = format!("fetching {}", args.source);
    match submit(session, Method::POST, "/1.0/images", &body, &what).await? {
        Outcome::Finished(operation) => finish(session, &operation),
        Outcome::Immediate(_) | Outcome::Submitted(_) => Ok(ExitStatus::Done),
    }
}

/// A file, a metadata file and a root, or a directory that holds those.
pub(crate) fn files(source: &Path, root: Option<PathBuf>) -> Result<Files> {
    let missing = |path: &Path| {
        Failure::usage(format!("there is no file {}", path.display())).effect("Nothing was sent.")
    };
    if !source.is_dir() {
        let all = [Some(source.to_owned()), root.clone()];
        if let Some(absent) = all.into_iter().flatten().find(|path| !path.is_file()) {
            return Err(missing(&absent));
        }
        return Ok(Files { metadata: source.to_owned(), root });
    }
    let find = |beginnings: &[&str]| {
        let entries = std::fs::read_dir(source).ok()?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.into_iter().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path.is_file() && beginnings.iter().any(|beginning| name.starts_with(beginning))
        })
    };
    let metadata = find(&["incus.tar", "lxd.tar", "meta", "stapes.tar"])
        .ok_or_else(|| missing(&source.join("incus.tar.xz")))?;
    let root = find(&["rootfs.", "root.", "disk."])
        .ok_or_else(|| missing(&source.join("rootfs.squashfs")))?;
    Ok(Files { metadata, root: Some(root) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_metadata_and_root() {
        let dir = tempfile::tempdir().unwrap();
        assert!(files(dir.path(), None).is_err());
        for name in ["incus.tar.xz", "rootfs.squashfs", "other"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = files(dir.path(), None).unwrap();
        assert_eq!(found.metadata, dir.path().join("incus.tar.xz"));
        assert_eq!(found.root, Some(dir.path().join("rootfs.squashfs")));
        let single = dir.path().join("other");
        assert_eq!(files(&single, None).unwrap(), Files { metadata: single, root: None });
        assert!(files(&dir.path().join("absent"), None).is_err());
    }
}
