//! `stapes config …`: an instance's configuration, or the server's when no instance is named.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::{common::FormatArgs, device::DeviceCommand};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Devices of an instance
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(EditArgs),
    /// Show one key: [INSTANCE] KEY
    Get(GetArgs),
    /// Set keys: [INSTANCE] KEY=VALUE...
    #[command(
        after_help = "Examples:\n  stapes config set web limits.memory=4GiB -m \"was swapping\"\n  \
        stapes config set web user.motd=-       (the value is read from stdin)\n  \
        stapes config set core.https_address=:8443"
    )]
    Set(SetArgs),
    /// Show the whole configuration
    Show(ShowArgs),
    /// Unset a key: [INSTANCE] KEY
    Unset(GetArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EditArgs {
    #[arg(value_name = "INSTANCE[/SNAPSHOT]", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GetArgs {
    #[arg(value_name = "[INSTANCE] KEY", required = true, num_args = 1..=2,
        add = ArgValueCompleter::new(completion::instances))]
    pub(crate) words: Vec<String>,
    /// With what the profiles add
    #[arg(long, short)]
    pub(crate) expanded: bool,
    /// The key names a property of the instance, not of its configuration
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetArgs {
    #[arg(value_name = "[INSTANCE] KEY=VALUE", required = true,
        add = ArgValueCompleter::new(completion::instances))]
    pub(crate) words: Vec<String>,
    /// The keys name properties of the instance, not of its configuration
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "INSTANCE[/SNAPSHOT]", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: Option<String>,
    /// With what the profiles add
    #[arg(long, short)]
    pub(crate) expanded: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
