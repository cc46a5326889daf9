//! Making an image here, from a distribution's own packages, and importing it.

use std::os::unix::fs::MetadataExt as _;

use stapes_api::client::UploadOptions;
use stapes_core::port::{DriverError, image::Upload};
use stapes_drivers::image::build::{BuildSpec, Format, Recipe, build};

use super::{
    alias,
    import::{Files, upload},
};
use crate::{
    args::image::BuildArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    output::progress::Progress,
    session::Session,
};

/// The program that makes a Debian out of packages.
const TOOL: &str = "mmdebstrap";

pub(crate) async fn run(session: &Session, args: BuildArgs) -> Result<ExitStatus> {
    let recipe = recipe(&args)?;
    if matches!(recipe, Recipe::Debian(_)) {
        needs(is_root(), has_tool())?;
    }
    let kept = args.output.as_deref();
    let staging = match kept {
        Some(dir) => tempfile::Builder::new().prefix(".stapes-build-").tempdir_in(dir),
        None => tempfile::Builder::new().prefix("stapes-build-").tempdir(),
    };
    let staging =
        staging.map_err(|error| Failure::local("cannot make a directory to build in", &error))?;
    let format = if args.split { Format::Split } else { Format::Unified };
    let spec = BuildSpec { recipe, format, created_at: chrono::Utc::now() };
    let progress = Progress::spinner(session.printer, &format!("building {}", args.recipe));
    let tell = |line: &str| progress.say(&format!("building {}: {line}", args.recipe));
    let built = tokio::select! {
        built = build(&spec, staging.path(), &tell) => built.map_err(explain)?,
        () = crate::operation::interrupt() => {
            return Err(Failure::end(ExitStatus::Interrupted, "interrupted; nothing is left of the build"));
        }
    };
    drop(progress);
    let files = match built {
        Upload::Unified { file, .. } => Files { metadata: file, root: None },
        Upload::Split { metadata, root, .. } => Files { metadata, root: Some(root) },
    };
    if let Some(dir) = kept {
        return keep(session, &files, dir, &args.recipe);
    }
    let aliases = if args.alias.is_empty() { vec![args.recipe.clone()] } else { args.alias };
    if args.reuse {
        alias::take_away(session, &aliases).await?;
    }
    let options = UploadOptions { public: args.public, aliases, ..UploadOptions::default() };
    upload(session, &files, &options).await
}

fn recipe(args: &BuildArgs) -> Result<Recipe> {
    let mut recipe: Recipe =
        args.recipe.parse().map_err(|error: stapes_drivers::image::build::NoRecipe| {
            Failure::usage(error.to_string()).hint("stapes image import FILE")
        })?;
    match &mut recipe {
        Recipe::Debian(debian) => {
            debian.include.clone_from(&args.include);
            debian.mirror.clone_from(&args.mirror);
        }
        Recipe::Busybox if args.mirror.is_some() || !args.include.is_empty() => {
            return Err(Failure::usage("busybox is made without packages"));
        }
        Recipe::Busybox => {}
    }
    Ok(recipe)
}

/// Puts the files where the user wants them, and prints their names.
fn keep(
    session: &Session,
    files: &Files,
    dir: &std::path::Path,
    recipe: &str,
) -> Result<ExitStatus> {
    let stem = recipe.replace('/', "-");
    let named = [(Some(&files.metadata), "tar.zst"), (files.root.as_ref(), "root.squashfs")];
    for (file, ending) in named {
        let Some(file) = file else { continue };
        let place = dir.join(format!("{stem}.{ending}"));
        std::fs::rename(file, &place)
            .map_err(|error| Failure::local(format!("cannot write {}", place.display()), &error))?;
        session.printer.line(&place.display().to_string())?;
    }
    Ok(ExitStatus::Done)
}

fn needs(root: bool, tool: bool) -> Result<()> {
    if !tool {
        return Err(Failure::new(ExitStatus::Failed, "local", format!("{TOOL} is not installed"))
            .hint(format!("apt-get install {TOOL}"))
            .effect("Nothing was built."));
    }
    if !root {
        return Err(Failure::new(ExitStatus::Denied, "no-access", "building a Debian needs root")
            .hint("sudo stapes image build …")
            .effect("Nothing was built."));
    }
    Ok(())
}

/// The owner of our own process in /proc is who we are.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn has_tool() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(TOOL).is_file())
}

fn explain(error: DriverError) -> Failure {
    let failure = Failure::new(ExitStatus::Failed, "local", error.to_string());
    failure.effect("Nothing was imported.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let without_tool = needs(true, false).unwrap_err().render(false);
        assert!(without_tool.contains("apt-get install mmdebstrap"), "{without_tool}");
        assert_eq!(needs(false, true).unwrap_err().exit(), ExitStatus::Denied);
        assert!(needs(true, true).is_ok());
    }
}
