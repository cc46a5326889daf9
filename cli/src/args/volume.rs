//! `stapes storage volume …`

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::FormatArgs;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Attach a volume to an instance
    Attach(AttachArgs),
    /// Copy a volume: POOL/VOLUME POOL/VOLUME
    #[command(visible_alias = "cp")]
    Copy(CopyArgs),
    /// Create a volume
    Create(CreateArgs),
    /// Delete a volume
    #[command(visible_alias = "rm")]
    Delete(VolumeArgs),
    /// Detach a volume from an instance
    Detach(DetachArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(VolumeArgs),
    /// Print one key
    Get(GetArgs),
    /// Show a volume's use
    Info(ShowArgs),
    /// List volumes
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Give a volume another name
    Rename(RenameArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Show a volume as it is configured
    Show(ShowArgs),
    /// Points in time of a volume
    #[command(subcommand)]
    Snapshot(VolumeSnapshotCommand),
    /// Unset one key
    Unset(GetArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeSnapshotCommand {
    /// Take a snapshot of a volume
    Create(SnapshotCreateArgs),
    /// Delete a snapshot
    #[command(visible_alias = "rm")]
    Delete(SnapshotArgs),
    /// List a volume's snapshots
    #[command(visible_alias = "ls")]
    List(ShowArgs),
    /// Give a snapshot another name
    Rename(SnapshotRenameArgs),
    /// Put a volume back to a snapshot
    Restore(SnapshotArgs),
    /// Show a snapshot as it is configured
    Show(SnapshotArgs),
}

/// A volume of a pool; custom unless it says `container/NAME` or `virtual-machine/NAME`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeArgs {
    #[arg(add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: String,
    #[arg(value_name = "[TYPE/]VOLUME")]
    pub(crate) volume: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    /// [DEVICE] PATH
    #[arg(value_name = "[DEVICE] PATH", required = true, num_args = 1..=2)]
    pub(crate) place: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DetachArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    pub(crate) device: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CopyArgs {
    #[arg(value_name = "POOL/VOLUME")]
    pub(crate) source: String,
    #[arg(value_name = "POOL/VOLUME")]
    pub(crate) target: String,
    #[arg(long)]
    pub(crate) volume_only: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    /// filesystem or block
    #[arg(long = "type", default_value = "filesystem")]
    pub(crate) content: String,
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    pub(crate) key: String,
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// The pool; all of them if it is left out
    #[arg(add = ArgValueCompleter::new(completion::pools))]
    pub(crate) pool: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    pub(crate) new_name: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) pairs: Vec<String>,
    #[arg(long, short = 'p')]
    pub(crate) property: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotCreateArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    pub(crate) snapshot: Option<String>,
    /// When it may be deleted: a span (2w) or RFC 3339
    #[arg(long)]
    pub(crate) expiry: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    pub(crate) snapshot: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SnapshotRenameArgs {
    #[command(flatten)]
    pub(crate) volume: VolumeArgs,
    pub(crate) snapshot: String,
    pub(crate) new_name: String,
}
