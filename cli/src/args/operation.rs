//! `stapes operation …`, `stapes op …`: an id may be cut to any unique beginning.

use clap::{Args, Subcommand};

use super::common::FormatArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// List what runs; with --all, what ever ran
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show an operation, under way or ended
    Show(ShowArgs),
    /// Follow one until it ends
    Watch(IdArgs),
    /// Ask one to stop
    #[command(visible_aliases = ["delete", "rm"])]
    Cancel(IdArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// The finished ones too
    #[arg(long, short)]
    pub(crate) all: bool,
    #[arg(long)]
    pub(crate) all_projects: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct IdArgs {
    pub(crate) id: String,
}
