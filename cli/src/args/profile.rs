//! `stapes profile …`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::{
    common::{FormatArgs, GetArgs, NameArgs, RenameArgs, SetArgs, ShowArgs, UnsetArgs},
    device::DeviceCommand,
};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// Add a profile to an instance
    Add(AttachArgs),
    /// Give an instance exactly these profiles (separated by commas)
    Assign(AssignArgs),
    /// Copy a profile
    #[command(visible_alias = "cp")]
    Copy(CopyArgs),
    /// Create a profile; YAML is read from stdin when that is a file or a pipe
    Create(CreateArgs),
    /// Delete a profile
    #[command(visible_alias = "rm")]
    Delete(NameArgs),
    /// Devices of a profile
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// Print one key
    Get(GetArgs),
    /// List profiles
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Take a profile from an instance
    Remove(AttachArgs),
    /// Give a profile another name
    Rename(RenameArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Show a profile as it is configured
    Show(ShowArgs),
    /// Unset one key
    Unset(UnsetArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AttachArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    #[arg(add = ArgValueCompleter::new(completion::profiles))]
    pub(crate) profile: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AssignArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    #[arg(value_delimiter = ',')]
    pub(crate) profiles: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CopyArgs {
    pub(crate) source: String,
    pub(crate) name: String,
    /// Bring an earlier copy up to date
    #[arg(long)]
    pub(crate) refresh: bool,
    #[arg(long, value_name = "PROJECT")]
    pub(crate) target_project: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[arg(long)]
    pub(crate) all_projects: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
