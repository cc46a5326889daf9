//! `… device …`, of an instance and of a profile.

use clap::{Args, Subcommand};

use super::common::FormatArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Add a device
    #[command(after_help = "Examples:\n  stapes config device add web eth1 nic network=br1\n  \
        stapes config device add web data disk source=/srv path=/srv")]
    Add(AddArgs),
    /// Show one key of a device
    Get(GetArgs),
    /// List the devices' names
    #[command(visible_alias = "ls")]
    List(OwnerArgs),
    /// Copy a profile's device to the instance and change keys there
    Override(OverrideArgs),
    /// Remove devices
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Set keys of a device
    Set(SetArgs),
    /// Show all devices
    Show(OwnerArgs),
    /// Unset a key of a device
    Unset(GetArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OwnerArgs {
    /// The instance or the profile
    pub(crate) owner: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AddArgs {
    /// The instance or the profile
    pub(crate) owner: String,
    pub(crate) device: String,
    /// disk, nic, proxy, unix-char, gpu …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OverrideArgs {
    pub(crate) owner: String,
    pub(crate) device: String,
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GetArgs {
    pub(crate) owner: String,
    pub(crate) device: String,
    pub(crate) key: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RemoveArgs {
    pub(crate) owner: String,
    #[arg(required = true)]
    pub(crate) devices: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetArgs {
    pub(crate) owner: String,
    pub(crate) device: String,
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
}
