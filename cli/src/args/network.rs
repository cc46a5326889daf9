//! `stapes network …`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::{FormatArgs, GetArgs, NameArgs, RenameArgs, SetArgs, ShowArgs, UnsetArgs};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Connect an instance to a network
    Attach(AttachArgs),
    /// Connect a profile to a network
    AttachProfile(AttachArgs),
    /// Create a network
    #[command(
        after_help = "Examples:\n  stapes network create br1 ipv4.address=10.9.0.1/24 ipv4.nat=true\n  \
        stapes network create br2 --type=bridge ipv6.address=none"
    )]
    Create(CreateArgs),
    /// Delete a network
    #[command(visible_alias = "rm")]
    Delete(NameArgs),
    /// Disconnect an instance from a network
    Detach(DetachArgs),
    /// Disconnect a profile from a network
    DetachProfile(DetachArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// Print one key
    Get(GetArgs),
    /// Show a network's state: addresses, counters
    Info(ShowArgs),
    /// List networks
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// All addresses in use
    ListAllocations(ListArgs),
    /// Addresses given out
    ListLeases(ShowArgs),
    /// Give a network another name
    Rename(RenameArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Show a network as it is configured
    Show(ShowArgs),
    /// Unset one key
    Unset(UnsetArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AttachArgs {
    #[arg(add = ArgValueCompleter::new(completion::networks))]
    pub(crate) network: String,
    #[arg(value_name = "INSTANCE|PROFILE", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) owner: String,
    /// The device's name; the network's if it is left out
    pub(crate) device: Option<String>,
    /// The interface's name inside
    pub(crate) interface: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DetachArgs {
    #[arg(add = ArgValueCompleter::new(completion::networks))]
    pub(crate) network: String,
    #[arg(value_name = "INSTANCE|PROFILE", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) owner: String,
    pub(crate) device: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    pub(crate) name: String,
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    #[arg(long = "type", short = 't')]
    pub(crate) kind: Option<String>,
    #[arg(long)]
    pub(crate) description: Option<String>,
    #[arg(long, value_name = "NODE")]
    pub(crate) target: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[arg(long)]
    pub(crate) all_projects: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
