//! Verbs on the daemon itself.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::common::FormatArgs;
use crate::{daemon::DaemonArgs, units};

#[derive(Debug, Subcommand)]
pub(crate) enum ServerCommand {
    /// Make the default pool, network and profile
    #[command(after_help = INIT_HELP)]
    Init(InitArgs),
    /// Wait until the daemon has read its log and works
    Waitready(WaitReadyArgs),
    /// Stop all guests, then the daemon
    Shutdown(ShutdownArgs),
    /// Incus's place for init, waitready and shutdown
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Run the daemon in the foreground
    Daemon(DaemonArgs),
    /// Check what this machine and the daemon need
    Doctor(DoctorArgs),
    /// Print the daemon's live events as they come
    Monitor(MonitorArgs),
    /// Send a request as it is
    #[command(after_help = "Examples:\n  stapes query /1.0/instances?recursion=1\n  \
        stapes query -X PUT /1.0/instances/web/state -d '{\"action\":\"start\"}' --wait")]
    Query(QueryArgs),
    /// Print the versions of client and daemon
    Version(VersionArgs),
    /// Say what an error's code means
    Explain(ExplainArgs),
    /// Print how to switch shell completion on
    Completion(CompletionArgs),
    /// Help on a verb, or on exit-codes and environment
    Help(HelpArgs),
}

const INIT_HELP: &str = "\
Without a flag it does what --auto does, after asking.

Examples:
  stapes init --auto
  stapes init --auto --storage-backend dir --network-address 10.4.0.1/24
  stapes init --preseed < preseed.yaml
  stapes init --dump > preseed.yaml";

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Make the default pool, network and profile
    Init(InitArgs),
    /// Wait until the daemon has read its log and works
    Waitready(WaitReadyArgs),
    /// Stop all guests, then the daemon
    Shutdown(ShutdownArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InitArgs {
    /// No questions: a pool, a network and a profile, all called for by default
    #[arg(long, conflicts_with_all = ["minimal", "preseed", "dump"])]
    pub(crate) auto: bool,
    /// The least that can run an instance: a dir pool and a network
    #[arg(long, conflicts_with_all = ["preseed", "dump"])]
    pub(crate) minimal: bool,
    /// Read what to make from stdin, in YAML
    #[arg(long, conflicts_with = "dump")]
    pub(crate) preseed: bool,
    /// Print what is there as a preseed
    #[arg(long)]
    pub(crate) dump: bool,
    /// btrfs or dir
    #[arg(long, value_name = "DRIVER")]
    pub(crate) storage_backend: Option<String>,
    /// A block device to use instead of a file
    #[arg(long, value_name = "DEVICE")]
    pub(crate) storage_create_device: Option<String>,
    /// The size of the file: 30 (GiB) or 500MiB
    #[arg(long, value_name = "SIZE", value_parser = loop_size)]
    pub(crate) storage_create_loop: Option<u64>,
    /// The pool's name [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) storage_pool: Option<String>,
    /// Serve the API on this address too
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) network_address: Option<String>,
    /// … and on this port
    #[arg(long, value_name = "PORT", requires = "network_address")]
    pub(crate) network_port: Option<u16>,
    /// The bridge's name [default: stapesbr0]
    #[arg(long, value_name = "NAME")]
    pub(crate) bridge: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct WaitReadyArgs {
    /// Give up after this long (90, 30s, 5m); 0 waits without end
    #[arg(long, short, default_value = "60", value_parser = units::span::parse)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShutdownArgs {
    /// Operations in flight are cut off
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Wait at most this long for it (90, 30s, 5m)
    #[arg(long, short, default_value = "120", value_parser = units::span::parse)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MonitorArgs {
    /// operation, lifecycle or logging; all of them if it is left out
    #[arg(long = "type", short, value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    #[arg(long)]
    pub(crate) all_projects: bool,
    /// For logging: debug, info, warning or error
    #[arg(long)]
    pub(crate) loglevel: Option<String>,
    /// One line for people instead of YAML
    #[arg(long)]
    pub(crate) pretty: bool,
    /// yaml, json or jsonl
    #[arg(long, short, default_value = "yaml", hide_default_value = true)]
    pub(crate) format: crate::output::Format,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct QueryArgs {
    /// /1.0/…
    pub(crate) path: String,
    #[arg(long = "request", short = 'X', default_value = "GET")]
    pub(crate) method: String,
    /// The body
    #[arg(long, short)]
    pub(crate) data: Option<String>,
    /// A file with the body; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) data_file: Option<PathBuf>,
    /// The whole answer, not only its metadata
    #[arg(long)]
    pub(crate) raw: bool,
    /// Wait for the operation and print that
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// not-found, unreachable …
    pub(crate) code: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CompletionArgs {
    /// bash, zsh, fish, elvish or powershell
    pub(crate) shell: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct HelpArgs {
    pub(crate) words: Vec<String>,
}

/// Incus's bare number is GiB here, and only here.
fn loop_size(text: &str) -> Result<u64, units::size::NotASize> {
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    units::size::parse(&if bare { format!("{text}GiB") } else { text.to_owned() })
}
