//! `stapes daemon`: the composition root. Everything is wired here and nowhere else.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::{
    exit::ExitStatus,
    failure::{Failure, Result},
};

mod cluster;
mod directory;
mod door;
mod early;
mod footing;
mod host;
mod identity;
mod membership;
mod serve;
mod shutdown;
mod simulated;
mod views;

#[derive(Args, Clone, Debug)]
pub(crate) struct DaemonArgs {
    /// Guests, volumes and networks are pretended: for trying out, without root
    #[arg(long)]
    pub(crate) simulated: bool,
    /// error, warn, info, debug or trace, or a filter such as info,stapes_node=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

/// Serves until SIGTERM. `dir` holds everything.
pub(crate) async fn run(args: DaemonArgs, dir: PathBuf) -> Result<ExitStatus> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|error| Failure::usage(format!("--log-level {:?}: {error}", args.log_level)))?;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    match Box::pin(serve::serve(&dir, args.simulated)).await {
        Ok(serve::End::Gone) => Ok(ExitStatus::Done),
        Ok(serve::End::Again) => Err(again()),
        Err(error) => Err(failure(&error)),
    }
}

/// The same program, in the same process, from the start. Answers only if it cannot.
fn again() -> Failure {
    use std::os::unix::process::CommandExt as _;
    tracing::info!("starting anew");
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program());
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).exec();
    Failure::local("the daemon cannot start anew", &error)
        .hint("stapes daemon")
        .effect("Guests that run are not touched.")
}

/// The file that runs: by its own name, so that the process keeps that, unless another file has taken
/// it since.
fn program() -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let running = PathBuf::from("/proc/self/exe");
    let file = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).ok();
    let named = fs::read_link(&running).ok().filter(|named| file(named) == file(&running));
    named.unwrap_or(running)
}

/// An error with its causes, each of which tells the operator something.
fn failure(error: &serve::DaemonError) -> Failure {
    let mut failure = Failure::new(ExitStatus::Failed, "daemon", error.to_string());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        failure = failure.fact(error.to_string());
        cause = error.source();
    }
    failure.effect("Guests that run are not touched.")
}
