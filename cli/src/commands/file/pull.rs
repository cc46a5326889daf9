//! `stapes file pull`: from an instance to here.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::remote::{Found, Kind, RemotePath, get};
use crate::{
    args::file::PullArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
};

/// Directories below each other that are followed; a guest can make more than anybody wants.
const DEEPEST: usize = 128;

pub(crate) async fn run(session: &Session, args: PullArgs) -> Result<ExitStatus> {
    let sources: Vec<RemotePath> =
        args.sources.iter().map(|text| RemotePath::parse(text)).collect::<Result<_>>()?;
    let to_stdout = args.target.as_os_str() == "-";
    let into =
        args.target.is_dir() || args.target.to_string_lossy().ends_with('/') || sources.len() > 1;
    if args.create_dirs && !to_stdout {
        let place = if into { Some(args.target.as_path()) } else { args.target.parent() };
        if let Some(place) = place {
            fs::create_dir_all(place).map_err(|error| cannot(place, &error))?;
        }
    }
    for source in &sources {
        let found = get(session, source).await?;
        match found.kind {
            Kind::Directory if !args.recursive => {
                return Err(Failure::usage(format!(
                    "{}{} is a directory",
                    source.instance, source.path
                ))
                .hint("stapes file pull -r …"));
            }
            Kind::File if to_stdout => {
                to_standard_output(session, found).await?;
                continue;
            }
            _ if to_stdout => return Err(Failure::usage("only a file goes to standard output")),
            Kind::File | Kind::Directory | Kind::Symlink => {}
        }
        let target = if into { args.target.join(source.file_name()) } else { args.target.clone() };
        pull(session, source, found, target).await?;
    }
    Ok(ExitStatus::Done)
}

async fn to_standard_output(session: &Session, mut found: Found) -> Result<()> {
    while let Some(piece) = found.body.chunk().await? {
        session.printer.bytes(&piece)?;
    }
    Ok(())
}

/// One file, or a directory with all below it; a list of what is left to do instead of recursion.
async fn pull(session: &Session, source: &RemotePath, found: Found, target: PathBuf) -> Result<()> {
    let mut left = vec![(source.clone(), target, found, 0)];
    while let Some((source, target, found, depth)) = left.pop() {
        match found.kind {
            Kind::File => save(session, &source, found, &target).await?,
            Kind::Symlink => {
                let to = String::from_utf8_lossy(&found.bytes().await?).into_owned();
                symlink(&to, &target).map_err(|error| cannot(&target, &error))?;
            }
            Kind::Directory => {
                if depth == DEEPEST {
                    return Err(Failure::usage(format!("{} lies too deep", source.path)));
                }
                fs::create_dir_all(&target).map_err(|error| cannot(&target, &error))?;
                for name in found.names().await? {
                    let child = source.join(safe(&name)?);
                    let found = get(session, &child).await?;
                    left.push((child, target.join(safe(&name)?), found, depth + 1));
                }
            }
        }
    }
    Ok(())
}

/// A guest names its own files; none of its names may lead out of the target.
fn safe(name: &str) -> Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.contains('\0') {
        return Err(Failure::protocol(format!(
            "the guest has a file of the impossible name {name:?}"
        )));
    }
    Ok(name)
}

async fn save(
    session: &Session,
    source: &RemotePath,
    mut found: Found,
    target: &Path,
) -> Result<()> {
    let total = found.body.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let progress = Progress::bytes(session.printer, &source.path, total);
    // Through a link that an earlier file of the same guest made, nothing is written.
    if fs::symlink_metadata(target).is_ok_and(|there| there.is_symlink()) {
        fs::remove_file(target).map_err(|error| cannot(target, &error))?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(found.mode & 0o777)
        .open(target)
        .map_err(|error| cannot(target, &error))?;
    while let Some(piece) = found.body.chunk().await? {
        file.write_all(&piece).map_err(|error| cannot(target, &error))?;
        progress.advance(piece.len() as u64);
    }
    Ok(())
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("cannot write {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_name_its_way_out() {
        assert!(safe("hosts").is_ok());
        for bad in ["", ".", "..", "a/b", "/etc", "a\0b"] {
            assert!(safe(bad).is_err(), "{bad:?}");
        }
    }
}
