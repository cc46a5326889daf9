//! The log as files: an archive that can be verified, kept, and made a log again.
//!
//! Nothing here writes to a log that is in use. An export works on a copy of the files, so that a
//! daemon may go on appending meanwhile: what it appends after the copy is in the next export.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;
use stapes_log::{Options, Range, SegmentLog};

use crate::{
    args::event::{ExportArgs, ImportArgs, VerifyArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    output::{Format, format::Shape, progress::Progress},
    session::Session,
};

/// How far the log had certainly come. Copied first: the segments only grow past it.
const MARKER: &str = "head";
const LOCK: &str = "lock";

pub(crate) async fn export(session: &Session, args: ExportArgs) -> Result<ExitStatus> {
    let source = existing(&session.settings.log_dir())?;
    let progress = Progress::spinner(session.printer, "exporting the log");
    let copy = copy_of(&source)?;
    let log = SegmentLog::open(copy.path(), Options::default())
        .map_err(|error| Failure::local("the log cannot be opened", &error))?;
    if let Some(damage) = log.damage() {
        return Err(Failure::new(ExitStatus::Failed, "log-broken", "the log is damaged")
            .fact(damage.to_owned())
            .hint("stapes log verify")
            .effect("Nothing was exported."));
    }
    let exported = stapes_log::export(&log, &args.target, Range::default())
        .await
        .map_err(|error| Failure::local("the export ended early", &error))?;
    drop(progress);
    session.printer.say(&format!(
        "{} records in {} commits exported; {} holds the log up to seq {}, hash {}",
        exported.records,
        exported.commits,
        args.target.display(),
        exported.head,
        exported.hash
    ));
    Ok(ExitStatus::Done)
}

/// Into the daemon's own directory, of which no daemon may be running.
pub(crate) async fn import(session: &Session, args: ImportArgs) -> Result<ExitStatus> {
    let source = existing(&args.source)?;
    let target = session.settings.log_dir();
    let log = SegmentLog::open(&target, Options::default()).map_err(|error| {
        Failure::local(format!("cannot open the log in {}", target.display()), &error)
            .hint("stapes shutdown    (the daemon must not be running)")
            .effect("Nothing was imported.")
    })?;
    let imported = stapes_log::import(&source, &log)
        .await
        .map_err(|error| Failure::local("the import ended early", &error))?;
    session.printer.say(&format!(
        "{} records in {} commits imported; the log ends at seq {}",
        imported.records, imported.commits, imported.head
    ));
    session.printer.hint("stapes daemon    (rebuilds everything else from it)");
    Ok(ExitStatus::Done)
}

/// Reads every byte of it; a log in use too.
pub(crate) fn verify(session: &Session, args: VerifyArgs) -> Result<ExitStatus> {
    let dir = existing(&args.source.unwrap_or_else(|| session.settings.log_dir()))?;
    let progress = Progress::spinner(session.printer, "verifying the log");
    let report = stapes_log::verify(&dir)
        .map_err(|error| Failure::local(format!("cannot read {}", dir.display()), &error))?;
    drop(progress);
    let problems: Vec<String> = report
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path.display(), problem.what))
        .collect();
    let shown = json!({
        "first": report.first, "head": report.head, "records": report.records,
        "commits": report.commits, "streams": report.streams, "hash": report.hash,
        "problems": problems,
    });
    let yaml = Format { shape: Shape::Yaml, header: true };
    let format = if args.format.format.shape == Shape::Table { yaml } else { args.format.format };
    session.printer.object(format, &shown)?;
    if problems.is_empty() {
        return Ok(ExitStatus::Done);
    }
    Err(Failure::new(ExitStatus::Failed, "log-broken", format!("{} is damaged", dir.display()))
        .facts(problems))
}

fn existing(dir: &Path) -> Result<PathBuf> {
    if dir.is_dir() {
        return Ok(dir.to_owned());
    }
    let failure = Failure::new(
        ExitStatus::NotFound,
        "not-found",
        format!("there is no log in {}", dir.display()),
    );
    Err(failure.hint("export STAPES_DIR=…    (the daemon's directory)").effect("Nothing was done."))
}

/// The files as they are on the disk now, beside the original, gone when dropped.
fn copy_of(dir: &Path) -> Result<tempfile::TempDir> {
    let cannot = |error: &io::Error| {
        Failure::local(format!("cannot copy the log in {}", dir.display()), error)
            .effect("Nothing was exported.")
    };
    let beside = dir.parent().unwrap_or(dir);
    let copy = tempfile::Builder::new()
        .prefix(".log-export-")
        .tempdir_in(beside)
        .map_err(|error| cannot(&error))?;
    let mut names: Vec<_> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>())
        .map_err(|error| cannot(&error))?;
    names.sort_by_key(|name| (name != MARKER, name.clone()));
    for name in names.into_iter().filter(|name| name != LOCK) {
        match fs::copy(dir.join(&name), copy.path().join(&name)) {
            Ok(_) => {}
            // A spare file that became a segment since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(&error)),
        }
    }
    Ok(copy)
}
