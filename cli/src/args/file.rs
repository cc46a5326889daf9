//! `stapes file …`: files inside an instance, as INSTANCE/PATH.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Make a file, a directory or a symlink
    Create(CreateArgs),
    /// Delete files
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// Edit a file in $EDITOR
    Edit(EditArgs),
    /// Copy out of an instance
    #[command(after_help = "Examples:\n  stapes file pull web/etc/hosts .\n  \
        stapes file pull web/etc/hosts -          (to standard output)\n  \
        stapes file pull -r web/var/log/nginx logs/")]
    Pull(PullArgs),
    /// Copy into an instance
    #[command(
        after_help = "Examples:\n  stapes file push nginx.conf web/etc/nginx/nginx.conf --mode 0644\n  \
        stapes file push -r site/ web/srv/ -p\n  echo hello | stapes file push - web/root/hello"
    )]
    Push(PushArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CreateArgs {
    #[arg(value_name = "INSTANCE/PATH")]
    pub(crate) path: String,
    /// What a symlink points at
    pub(crate) target: Option<String>,
    #[arg(long, default_value = "file", value_parser = ["file", "directory", "symlink"])]
    pub(crate) r#type: String,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[arg(value_name = "INSTANCE/PATH", required = true)]
    pub(crate) paths: Vec<String>,
    /// Directories with all that is in them
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EditArgs {
    #[arg(value_name = "INSTANCE/PATH")]
    pub(crate) path: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PullArgs {
    #[arg(value_name = "INSTANCE/PATH", required = true)]
    pub(crate) sources: Vec<String>,
    /// A file, a directory, or - for standard output
    #[arg(required = true)]
    pub(crate) target: PathBuf,
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Make the directories that are missing
    #[arg(long, short = 'p')]
    pub(crate) create_dirs: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PushArgs {
    /// Files, directories with -r, or - for standard input
    #[arg(required = true)]
    pub(crate) sources: Vec<PathBuf>,
    #[arg(value_name = "INSTANCE/PATH", required = true)]
    pub(crate) target: String,
    #[arg(long, short)]
    pub(crate) recursive: bool,
    /// Make the directories that are missing
    #[arg(long, short = 'p')]
    pub(crate) create_dirs: bool,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OwnerArgs {
    #[arg(long)]
    pub(crate) uid: Option<u32>,
    #[arg(long)]
    pub(crate) gid: Option<u32>,
    /// In octal
    #[arg(long)]
    pub(crate) mode: Option<String>,
}
