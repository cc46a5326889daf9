//! `stapes project …`

use clap::{Args, Subcommand};

use super::common::{FormatArgs, GetArgs, NameArgs, RenameArgs, SetArgs, ShowArgs, UnsetArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Create a project; YAML is read from stdin when that is a file or a pipe
    Create(CreateArgs),
    /// Delete a project
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// Print one key
    Get(GetArgs),
    /// Print the project that is worked in
    GetCurrent,
    /// Show what a project uses of its limits
    Info(ShowArgs),
    /// List projects
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Give a project another name
    Rename(RenameArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Show a project as it is configured
    Show(ShowArgs),
    /// Work in another project from now on
    Switch(NameArgs),
    /// Unset one key
    Unset(UnsetArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    pub(crate) name: String,
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(crate) config: Vec<String>,
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    pub(crate) name: String,
    /// With all that is in it
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
