//! `stapes cluster …`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::common::{FormatArgs, GetArgs, NameArgs, RenameArgs, SetArgs, ShowArgs, UnsetArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make this server the first member of a new cluster
    #[command(after_help = ENABLE_HELP)]
    Enable(EnableArgs),
    /// Print a token that lets a server join under this name, once
    #[command(visible_alias = "token")]
    Add(NameArgs),
    /// Make this server a member of the cluster that the token is of
    #[command(after_help = JOIN_HELP)]
    Join(JoinArgs),
    /// Members, and whether they are heard
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// One look: what works, who is missing, what to type
    Status(StatusArgs),
    /// Load, memory and pools of a member
    Info(ShowArgs),
    /// Show a member as it is configured
    Show(ShowArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// Print one key
    Get(GetArgs),
    /// Set keys, as KEY=VALUE
    Set(SetArgs),
    /// Unset one key
    Unset(UnsetArgs),
    /// Give a member another name
    Rename(RenameArgs),
    /// Take a member out of the cluster
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Move a member's instances away, and put none on it
    Evacuate(EvacuateArgs),
    /// Bring them back, and put some on it again
    Restore(RestoreArgs),
    /// Say that a member that is offline runs nothing any more
    #[command(after_help = FENCE_HELP)]
    Fence(FenceArgs),
    /// List join tokens that are open
    ListTokens(ListArgs),
    /// Take a join token back
    RevokeToken(NameArgs),
    /// Groups of members, for --target @GROUP
    #[command(subcommand)]
    Group(GroupCommand),
}

const ENABLE_HELP: &str = "\
What the server has stays as it is, and guests run on. The log moves to nats-servers that stapes runs
beside its daemons on the two ports after the address's, or to those of --nats.

Examples:
  stapes cluster enable n1 --address 10.0.0.1:8443
  stapes cluster add n2                              then, on the other server:
  stapes cluster join TOKEN --address 10.0.0.2:8443
  stapes cluster enable n1 --address 10.0.0.1:8443 --nats tls://log:4222 --nats-ca ca.pem --nats-creds log.creds";

const FENCE_HELP: &str = "\
What is highly available starts on the members that have its copies at once, instead of when the
member's lease is over; when many members fall silent together nothing starts without this. Look first:
what still runs there would run twice.

Example:
  stapes cluster fence n3";

const JOIN_HELP: &str = "\
The server must have no instances and no volumes: they belong to another history.

Example:
  stapes cluster join eyJzZXJ2ZXJf… --address 10.0.0.2:8443";

#[derive(Args, Clone, Debug)]
pub(crate) struct EnableArgs {
    /// What this server is called in the cluster
    pub(crate) name: String,
    /// Where the others reach it: HOST:PORT [default: the server's core.https_address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// `managed`, or the URLs of nats-servers that are there already
    #[arg(long, value_name = "managed|URL", default_value = "managed", value_delimiter = ',')]
    pub(crate) nats: Vec<String>,
    /// Who signed those servers' certificates, PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nats_ca: Option<PathBuf>,
    /// What to show to those servers, PEM
    #[arg(long, value_name = "FILE", requires = "nats_key", requires = "nats_ca", value_hint = ValueHint::FilePath)]
    pub(crate) nats_cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "nats_cert", value_hint = ValueHint::FilePath)]
    pub(crate) nats_key: Option<PathBuf>,
    /// What those servers' operators handed out: a JWT with its seed, or a seed alone
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) nats_creds: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct JoinArgs {
    /// As `stapes cluster add NAME` printed it; - reads it from stdin
    pub(crate) token: String,
    /// Where the others reach this server: HOST:PORT [default: the server's core.https_address]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RemoveArgs {
    pub(crate) name: String,
    /// One that does not come back, with what was on it
    #[arg(long, short)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EvacuateArgs {
    pub(crate) name: String,
    /// auto, live-migrate, migrate, stop, stateful-stop or force-stop [default: as each instance says]
    #[arg(long, value_name = "MODE")]
    pub(crate) action: Option<String>,
    /// Do not ask
    #[arg(long, short, visible_alias = "yes")]
    pub(crate) force: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct FenceArgs {
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short, visible_alias = "yes")]
    pub(crate) force: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RestoreArgs {
    pub(crate) name: String,
    /// Do not ask
    #[arg(long, short, visible_alias = "yes")]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Put a member into a group
    Add(MembershipArgs),
    /// Put a member into exactly these groups (separated by commas)
    Assign(AssignArgs),
    /// Make a group of members
    Create(GroupCreateArgs),
    /// Delete a group of members
    #[command(visible_alias = "rm")]
    Delete(NameArgs),
    /// Edit in $EDITOR, or read YAML from stdin
    Edit(NameArgs),
    /// List groups of members
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Take a member out of a group
    Remove(MembershipArgs),
    /// Give a group of members another name
    Rename(RenameArgs),
    /// Show a group of members as it is configured
    Show(ShowArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct GroupCreateArgs {
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) description: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct MembershipArgs {
    pub(crate) member: String,
    pub(crate) group: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct AssignArgs {
    pub(crate) member: String,
    #[arg(value_delimiter = ',', required = true)]
    pub(crate) groups: Vec<String>,
}
