//! `stapes storage …`

use clap::{Args, Subcommand};

use super::{
    common::{FormatArgs, GetArgs, NameArgs, SetArgs, ShowArgs, UnsetArgs},
    volume::VolumeCommand,
};

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Create a pool
    #[command(after_help = "Examples:\n  stapes storage create fast btrfs size=20GiB\n  \
        stapes storage create here dir source=/srv/stapes")]
    Create(CreateArgs),
    /// Delete a pool
    #[command(visible_alias = "rm")]
    Delete(NameArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// Print one key
    Get(GetArgs),
    /// Show a pool's space and what uses it
    Info(ShowArgs),
    /// List pools
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Show a pool as it is configured
    Show(ShowArgs),
    /// Unset one key
    Unset(UnsetArgs),
    /// Volumes of a pool
    #[command(subcommand)]
    Volume(VolumeCommand),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    pub(crate) name: String,
    /// btrfs, dir …
    pub(crate) driver: String,
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    #[arg(long)]
    pub(crate) description: Option<String>,
    #[arg(long, value_name = "NODE")]
    pub(crate) target: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
