//! `stapes snapshot …`, of instances and of volumes.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::FormatArgs;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot
    Create(CreateArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// List an instance's snapshots
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Give a snapshot another name
    Rename(RenameArgs),
    /// Put an instance back to a snapshot
    Restore(RestoreArgs),
    /// Show a snapshot's configuration
    Show(ShowArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    /// snap0, snap1 … if it is left out
    pub(crate) snapshot: Option<String>,
    /// With the memory's state
    #[arg(long)]
    pub(crate) stateful: bool,
    /// When it may be deleted: a span (2w) or RFC 3339
    #[arg(long, conflicts_with = "no_expiry")]
    pub(crate) expiry: Option<String>,
    #[arg(long)]
    pub(crate) no_expiry: bool,
    /// Replace the one that has the name
    #[arg(long)]
    pub(crate) reuse: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    pub(crate) snapshot: String,
    /// Ask first
    #[arg(long, short)]
    pub(crate) interactive: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RenameArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    pub(crate) snapshot: String,
    pub(crate) new_name: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    pub(crate) snapshot: String,
    /// With the memory's state
    #[arg(long)]
    pub(crate) stateful: bool,
    /// The root volume only, not the configuration
    #[arg(long)]
    pub(crate) diskonly: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    pub(crate) snapshot: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
