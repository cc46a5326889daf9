//! `stapes image export`

use std::path::{Path, PathBuf};

use super::resolve;
use crate::{
    args::image::ExportArgs,
    commands::text,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
};

/// Writes the image's file or files, and prints their names. A file that is there already is
/// not overwritten.
pub(crate) async fn run(session: &Session, args: ExportArgs) -> Result<ExitStatus> {
    let image = resolve(session, &args.image).await?;
    let found = image.read(session).await?;
    let target = args.target.unwrap_or_else(|| PathBuf::from("."));
    let (directory, name) = if target.is_dir() {
        (target, None)
    } else {
        let parent = target.parent().map(Path::to_owned).unwrap_or_default();
        (parent, target.file_name().map(ToOwned::to_owned))
    };
    let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
    let cannot = |error: &std::io::Error| {
        Failure::local(format!("cannot write to {}", directory.display()), error)
    };
    // Beside its place, so that moving it there is one step.
    let staging = tempfile::Builder::new()
        .prefix(".stapes-export-")
        .tempdir_in(&directory)
        .map_err(|error| cannot(&error))?;
    let progress = Progress::spinner(session.printer, &format!("exporting {}", args.image));
    let files = session.client.export_image(&text(&found, "fingerprint"), staging.path()).await?;
    drop(progress);
    for (ordinal, file) in [Some(files.metadata), files.root].into_iter().flatten().enumerate() {
        let own = file.file_name().unwrap_or_default().to_owned();
        let mut place = name.clone().unwrap_or(own);
        if ordinal > 0 && name.is_some() {
            place.push(".root");
        }
        let place = directory.join(place);
        if place.exists() {
            return Err(Failure::usage(format!("{} is there already", place.display()))
                .effect("It was not overwritten."));
        }
        std::fs::rename(&file, &place).map_err(|error| cannot(&error))?;
        session.printer.line(&place.display().to_string())?;
    }
    Ok(ExitStatus::Done)
}
