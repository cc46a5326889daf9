//! `stapes image …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::FormatArgs;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Other names of images
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Make an image on this machine from a distribution's packages and import it (as root)
    #[command(after_help = BUILD_HELP)]
    Build(BuildArgs),
    /// Delete images
    #[command(visible_alias = "rm")]
    Delete(ImagesArgs),
    /// Edit properties in $EDITOR, or read YAML from stdin
    Edit(ImageArgs),
    /// Write an image to files
    Export(ExportArgs),
    /// Show one property
    GetProperty(PropertyArgs),
    /// Import an image from a file, a pair of files or a URL
    Import(ImportArgs),
    /// Show what an image is
    Info(ShowArgs),
    /// List images
    #[command(
        visible_alias = "ls",
        after_help = "Columns (-c, default lfpdatsu):\n  \
        l alias   L all aliases   f fingerprint   F fingerprint (long)   p public\n  \
        d description   a architecture   t type   s size   u uploaded   e project"
    )]
    List(ListArgs),
    /// Set one property
    SetProperty(SetPropertyArgs),
    /// Show an image's properties
    Show(ShowArgs),
    /// Unset one property
    UnsetProperty(PropertyArgs),
}

const BUILD_HELP: &str = "\
Examples:
  stapes image build debian/13
  stapes image build debian/12 --alias base --include openssh-server,curl
  stapes image build busybox --output .";

#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Make an alias
    Create(AliasCreateArgs),
    /// Delete an alias
    #[command(visible_alias = "rm")]
    Delete(AliasArgs),
    /// List aliases
    #[command(visible_alias = "ls")]
    List(AliasListArgs),
    /// Give an alias another name
    Rename(AliasRenameArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AliasCreateArgs {
    pub(crate) alias: String,
    #[arg(value_name = "IMAGE")]
    pub(crate) target: String,
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AliasArgs {
    pub(crate) alias: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AliasRenameArgs {
    pub(crate) alias: String,
    pub(crate) new_name: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AliasListArgs {
    /// Only what contains one of these words
    pub(crate) filters: Vec<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BuildArgs {
    /// busybox, debian/11, debian/12 or debian/13
    pub(crate) recipe: String,
    /// Take packages from here alone, without security updates [default: where apt gets this host's]
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Option<String>,
    /// Packages to add; repeat or separate by commas
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    pub(crate) include: Vec<String>,
    /// Metadata and a squashfs in two files instead of one
    #[arg(long)]
    pub(crate) split: bool,
    /// The recipe's name if it is left out
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    #[arg(long)]
    pub(crate) public: bool,
    /// Take the alias from the image that has it
    #[arg(long)]
    pub(crate) reuse: bool,
    /// Keep the image's files in this directory instead of importing them
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    #[arg(add = ArgValueCompleter::new(completion::images))]
    pub(crate) image: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImagesArgs {
    #[arg(value_name = "IMAGE", required = true, add = ArgValueCompleter::new(completion::images))]
    pub(crate) images: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExportArgs {
    #[arg(add = ArgValueCompleter::new(completion::images))]
    pub(crate) image: String,
    /// A directory, or the name of the file
    pub(crate) target: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PropertyArgs {
    #[arg(add = ArgValueCompleter::new(completion::images))]
    pub(crate) image: String,
    pub(crate) key: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SetPropertyArgs {
    #[arg(add = ArgValueCompleter::new(completion::images))]
    pub(crate) image: String,
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImportArgs {
    /// A tarball, a metadata tarball (then a rootfs follows), a directory, or a URL
    pub(crate) source: String,
    pub(crate) rootfs: Option<PathBuf>,
    /// Properties: KEY=VALUE
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    #[arg(long)]
    pub(crate) public: bool,
    /// Take the alias from the image that has it
    #[arg(long)]
    pub(crate) reuse: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    /// Words of an alias, a fingerprint or a description; KEY=VALUE of a property
    pub(crate) filters: Vec<String>,
    #[arg(long, short)]
    pub(crate) columns: Option<String>,
    #[arg(long)]
    pub(crate) all_projects: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    #[arg(add = ArgValueCompleter::new(completion::images))]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}
