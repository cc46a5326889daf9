//! `stapes file push`: from here into an instance.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::remote::{Kind, RemotePath, get, make_parents, put};
use crate::{
    args::file::{OwnerArgs, PushArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
};

pub(crate) async fn run(session: &Session, args: PushArgs) -> Result<ExitStatus> {
    let target = RemotePath::parse(&args.target)?;
    for source in &args.sources {
        if source.as_os_str() != "-" && source.is_dir() && !args.recursive {
            return Err(Failure::usage(format!("{} is a directory", source.display()))
                .hint("stapes file push -r …"));
        }
    }
    let into = args.sources.len() > 1
        || target.is_directory_like()
        || is_directory(session, &target).await?;
    for source in &args.sources {
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned());
        let place = match (into, name) {
            (true, Some(name)) if source.as_os_str() != "-" => target.join(&name),
            _ => target.clone(),
        };
        if args.create_dirs {
            make_parents(session, &place).await?;
        }
        push(session, source, &place, &args.owner).await?;
    }
    Ok(ExitStatus::Done)
}

async fn is_directory(session: &Session, path: &RemotePath) -> Result<bool> {
    match get(session, path).await {
        Ok(found) => Ok(found.kind == Kind::Directory),
        Err(failure) if failure.exit() == ExitStatus::NotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// One file, or a directory with all below it; parents before what is in them.
async fn push(
    session: &Session,
    source: &Path,
    target: &RemotePath,
    owner: &OwnerArgs,
) -> Result<()> {
    if source.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::local("cannot read standard input", &error))?;
        return put(session, target, Kind::File, bytes, owner).await;
    }
    let mut left: Vec<(PathBuf, RemotePath)> = vec![(source.to_owned(), target.clone())];
    while let Some((source, target)) = left.pop() {
        let kind = fs::symlink_metadata(&source).map_err(|error| cannot(&source, &error))?;
        if kind.is_symlink() {
            let to = fs::read_link(&source).map_err(|error| cannot(&source, &error))?;
            let to = to.to_string_lossy().into_owned().into_bytes();
            put(session, &target, Kind::Symlink, to, owner).await?;
        } else if kind.is_dir() {
            let owner = with_defaults(owner, &kind);
            put(session, &target, Kind::Directory, Vec::new(), &owner).await?;
            for entry in fs::read_dir(&source).map_err(|error| cannot(&source, &error))? {
                let entry = entry.map_err(|error| cannot(&source, &error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                left.push((entry.path(), target.join(&name)));
            }
        } else {
            let progress = Progress::bytes(session.printer, &target.path, kind.size());
            let bytes = fs::read(&source).map_err(|error| cannot(&source, &error))?;
            put(session, &target, Kind::File, bytes, &with_defaults(owner, &kind)).await?;
            progress.advance(kind.size());
        }
    }
    Ok(())
}

/// As Incus: the file's own mode, and root's ownership, unless the flags say otherwise.
fn with_defaults(owner: &OwnerArgs, file: &fs::Metadata) -> OwnerArgs {
    let mode = format!("{:04o}", file.permissions().mode() & 0o7777);
    OwnerArgs {
        uid: owner.uid.or(Some(0)),
        gid: owner.gid.or(Some(0)),
        mode: owner.mode.clone().or(Some(mode)),
    }
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot read {}", path.display()), error)
}
