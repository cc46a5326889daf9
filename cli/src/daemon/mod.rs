//! `stapes daemon`: the composition root. Everything is wired here and nowhere else.

use std::path::PathBuf;

use clap::Args;

use crate::{exit::ExitStatus, failure::Result};

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
    drop((args, dir));
    Err(crate::failure::Failure::new(ExitStatus::Failed, "no-daemon", "this build has no daemon"))
}
