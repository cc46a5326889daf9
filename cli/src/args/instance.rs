//! The verbs on instances: Incus's, with its flags.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::{FormatArgs, InstanceConfigArgs};
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Create an instance from an image and start it
    Launch(LaunchArgs),
    /// Create an instance from an image
    Create(CreateArgs),
    /// Start instances
    Start(StartArgs),
    /// Stop instances
    Stop(StopArgs),
    /// Restart instances
    Restart(StopArgs),
    /// Freeze instances
    Pause(NamesArgs),
    /// Thaw instances
    Resume(NamesArgs),
    /// Delete instances or snapshots
    #[command(visible_alias = "rm")]
    Delete(DeleteArgs),
    /// List instances
    #[command(visible_alias = "ls", after_help = LIST_HELP)]
    List(ListArgs),
    /// Show what an instance, or the server, is and does
    Info(InfoArgs),
    /// Copy an instance or a snapshot to a new instance
    #[command(visible_alias = "cp")]
    Copy(CopyArgs),
    /// Rename an instance
    Rename(RenameArgs),
    /// Move an instance: to another name, pool, project or node
    #[command(visible_alias = "mv")]
    Move(MoveArgs),
    /// Make the root volume anew from an image; the configuration stays
    Rebuild(RebuildArgs),
    /// Make an image of an instance or a snapshot
    Publish(PublishArgs),
}

const LAUNCH_HELP: &str = "\
Configuration in YAML is read from standard input when that is a file or a pipe.

Examples:
  stapes launch debian/12 web
  stapes launch debian/12 web -c limits.memory=2GiB -c limits.cpu=2 -m \"blog, ticket 812\"
  stapes launch debian/12 big --vm -d root,size=20GiB
  stapes launch debian/12 web < web.yaml";

const MOVE_HELP: &str = "\
Examples:
  stapes move web blog                          another name
  stapes move web --target n2                   another member, alive if it can
  stapes move web --target @ssd --live required alive or not at all, to a member of a group
  stapes move web --target '*'                  anywhere else";

const LIST_HELP: &str = "\
Filters: a word is a name's beginning or a regular expression; KEY=VALUE compares state, type,
ipv4, ipv6, architecture, location, description or any configuration key (user.owner=alice).

Columns (-c, default ns46tS):
  4 IPv4          6 IPv6           a architecture      b pool
  c created       d description    D disk usage        e project
  f image         F image (long)   l last used         L location
  m memory        M memory %       n name              N processes
  p pid           P profiles       s state             S snapshots
  t type          u CPU seconds    U started
or words: name,state,ipv4,node,project,type,pid,profiles,snapshots,memory,created
or keys: limits.memory:LIMIT:8, volatile.eth0.hwaddr:MAC, devices:eth0.network

Examples:
  stapes list
  stapes list state=running -c nsm4
  stapes list --at \"yesterday 18:00\"
  stapes list -f json | jq -r '.[].name'";

#[derive(Args, Clone, Debug)]
pub(crate) struct NewInstanceArgs {
    /// The image: an alias or a fingerprint. With --empty: the name
    pub(crate) image: Option<String>,
    /// The instance's name; one is drawn if it is left out
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) config: InstanceConfigArgs,
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// Without an image
    #[arg(long)]
    pub(crate) empty: bool,
    /// Take environment variables (KEY=VALUE lines) from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) environment_file: Option<PathBuf>,
    /// Connect eth0 to this network
    #[arg(long, short, add = ArgValueCompleter::new(completion::networks))]
    pub(crate) network: Option<String>,
    /// A size: c2-m4 is two CPUs and 4 GiB
    #[arg(long = "type", short = 't')]
    pub(crate) instance_type: Option<String>,
    /// A virtual machine instead of a container
    #[arg(long)]
    pub(crate) vm: bool,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = LAUNCH_HELP)]
pub(crate) struct LaunchArgs {
    #[command(flatten)]
    pub(crate) new: NewInstanceArgs,
    /// Attach to the console once it is started
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "console", require_equals = true)]
    pub(crate) console: Option<String>,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = LAUNCH_HELP)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) new: NewInstanceArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Targets {
    #[arg(value_name = "INSTANCE", required_unless_present = "all",
        add = ArgValueCompleter::new(completion::instances))]
    pub(crate) names: Vec<String>,
    /// All instances of the project
    #[arg(long, short, conflicts_with = "names")]
    pub(crate) all: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NamesArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Drop a saved state and start afresh
    #[arg(long)]
    pub(crate) stateless: bool,
    /// Attach to the console at once
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "console", require_equals = true)]
    pub(crate) console: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Do not ask the guest, pull the plug
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Keep the memory's state
    #[arg(long)]
    pub(crate) stateful: bool,
    /// Seconds to wait for the guest to stop by itself (-1: the server's default)
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub(crate) timeout: i64,
    /// Attach to the console at once
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "console", require_equals = true)]
    pub(crate) console: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DeleteArgs {
    #[arg(value_name = "INSTANCE[/SNAPSHOT]", required = true,
        add = ArgValueCompleter::new(completion::instances))]
    pub(crate) names: Vec<String>,
    /// Running instances too
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Ask about each one
    #[arg(long, short)]
    pub(crate) interactive: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
    /// Letters, words or keys; see below
    #[arg(long, short)]
    pub(crate) columns: Option<String>,
    /// Leave out what is slow to find
    #[arg(long, conflicts_with = "columns")]
    pub(crate) fast: bool,
    #[arg(long)]
    pub(crate) all_projects: bool,
    /// As it was at a sequence (18934) or time (2h, "yesterday 18:00")
    #[arg(long, value_name = "MOMENT")]
    pub(crate) at: Option<String>,
    /// Sort by this column's title
    #[arg(long, value_name = "COLUMN")]
    pub(crate) sort: Option<String>,
    /// Show at most this many
    #[arg(long, short = 'l')]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InfoArgs {
    /// Leave it out to see the server
    #[arg(value_name = "INSTANCE", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: Option<String>,
    /// The server's hardware
    #[arg(long)]
    pub(crate) resources: bool,
    /// The tail of the instance's console log
    #[arg(long)]
    pub(crate) show_log: bool,
    #[arg(long, value_name = "NODE")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CopyArgs {
    #[arg(value_name = "SOURCE[/SNAPSHOT]", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) source: String,
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) config: InstanceConfigArgs,
    /// Without its snapshots
    #[arg(long)]
    pub(crate) instance_only: bool,
    /// Without its memory's state
    #[arg(long)]
    pub(crate) stateless: bool,
    /// Bring an earlier copy up to date
    #[arg(long)]
    pub(crate) refresh: bool,
    #[arg(long, requires = "refresh")]
    pub(crate) refresh_exclude_older: bool,
    /// Go on when files change under the copy
    #[arg(long)]
    pub(crate) allow_inconsistent: bool,
    #[arg(long, value_name = "PROJECT")]
    pub(crate) target_project: Option<String>,
    // On one host every copy is a local one.
    #[arg(long, hide = true)]
    pub(crate) mode: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RenameArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) name: String,
    pub(crate) new_name: String,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = MOVE_HELP)]
pub(crate) struct MoveArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) source: String,
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) config: InstanceConfigArgs,
    /// With its processes and connections: required, preferred or never
    #[arg(long, value_name = "HOW", conflicts_with = "stateless",
        value_parser = ["required", "preferred", "never"])]
    pub(crate) live: Option<String>,
    #[arg(long)]
    pub(crate) instance_only: bool,
    #[arg(long)]
    pub(crate) stateless: bool,
    #[arg(long)]
    pub(crate) allow_inconsistent: bool,
    #[arg(long, value_name = "PROJECT")]
    pub(crate) target_project: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) mode: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RebuildArgs {
    /// IMAGE INSTANCE, or INSTANCE alone with --empty
    #[arg(value_name = "[IMAGE] INSTANCE", required = true, num_args = 1..=2)]
    pub(crate) names: Vec<String>,
    #[arg(long)]
    pub(crate) empty: bool,
    /// A running instance too: it is stopped, rebuilt and started again
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PublishArgs {
    #[arg(value_name = "INSTANCE[/SNAPSHOT]", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) source: String,
    /// The image's properties: KEY=VALUE
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
    #[arg(long)]
    pub(crate) alias: Vec<String>,
    #[arg(long)]
    pub(crate) compression: Option<String>,
    /// When the image may be deleted (RFC 3339)
    #[arg(long)]
    pub(crate) expire: Option<String>,
    #[arg(long)]
    pub(crate) public: bool,
    /// A running instance too: it is stopped, published and started again
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Take the alias from the image that has it, and delete that image
    #[arg(long)]
    pub(crate) reuse: bool,
}
