//! The event-first verbs: what happened, what was, why, and back again.
//!
//! RESOURCE is an instance's name, or web/snap0, net/br0, pool/default, vol/default/data,
//! profile/default, project/blue, image/FINGERPRINT, node/n1. MOMENT is a sequence (18934), a
//! revision (r4), op:ID, a span back (2h), a local date or time, or RFC 3339.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::common::FormatArgs;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// All that happened, newest first; or `log export|import|verify`
    #[command(args_conflicts_with_subcommands = true, after_help = LOG_HELP)]
    Log(LogArgs),
    /// What happens, oldest first, as it happens
    #[command(after_help = TAIL_HELP)]
    Tail(TailArgs),
    /// The revisions of one thing: when, who, what changed
    History(HistoryArgs),
    /// What a thing is, or was
    #[command(after_help = SHOW_HELP)]
    Show(ShowArgs),
    /// How a thing changed between two moments
    #[command(
        after_help = "Exits with 0 if nothing changed, 1 if something did, 2 if it could not tell.\n\n\
        Examples:\n  stapes diff web --since 1d\n  stapes diff web r2..r4"
    )]
    Diff(DiffArgs),
    /// Who set this, when, and through which profile
    #[command(
        after_help = "Examples:\n  stapes why web\n  stapes why web.limits.memory\n  stapes why web state"
    )]
    Why(WhyArgs),
    /// Take an operation back by a new one
    Undo(UndoArgs),
    /// Rebuild all state from the log and compare
    Replay(ReplayArgs),
    /// Check the log's chain of hashes
    #[command(subcommand)]
    Audit(AuditCommand),
}

const LOG_HELP: &str = "\
Examples:
  stapes log web
  stapes log --since 2h --actor alice
  stapes log net/br0 -f jsonl | jq .data
  stapes log export backup/ && stapes log verify backup/";

const TAIL_HELP: &str = "\
Control records ({\"control\":\"caught-up\",\"sequence\":N}) are part of jsonl output. With a cursor
file, the next run goes on after the last event that was printed (or that --exec took): at least once.

Examples:
  stapes tail web
  stapes tail --since 10m -f jsonl --cursor-file ~/.cache/stapes.cursor | jq -r .type
  stapes tail --since start --until-caught-up -f jsonl > all.jsonl
  stapes tail --exec ./notify.sh       (each event on its standard input)";

const SHOW_HELP: &str = "\
Examples:
  stapes show web
  stapes show web --at \"yesterday 18:00\"
  stapes show net/br0 --at 18934 -f json";

#[derive(Args, Clone, Debug)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) files: Option<LogCommand>,
    #[command(flatten)]
    pub(crate) query: LogQueryArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LogQueryArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) resource: Option<String>,
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    /// Only this actor's
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only events whose type contains this
    #[arg(long = "type", value_name = "TEXT")]
    pub(crate) kind: Option<String>,
    /// Only this operation's
    #[arg(long, value_name = "ID")]
    pub(crate) op: Option<String>,
    /// Only lines that contain this
    #[arg(long, value_name = "TEXT")]
    pub(crate) grep: Option<String>,
    /// At most this many events
    #[arg(long, short = 'l', default_value_t = 200)]
    pub(crate) limit: usize,
    /// One line an event, not grouped by operation
    #[arg(long)]
    pub(crate) flat: bool,
    /// Oldest first
    #[arg(long)]
    pub(crate) reverse: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Copy the log to a directory: a backup that can be verified
    Export(ExportArgs),
    /// Put an exported log into an empty directory of a daemon that is not running
    Import(ImportArgs),
    /// Check files: frames, gaps, hashes
    Verify(VerifyArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExportArgs {
    #[arg(value_name = "TO")]
    pub(crate) target: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ImportArgs {
    #[arg(value_name = "FROM")]
    pub(crate) source: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// The exported directory; the daemon's own log if it is left out
    #[arg(value_name = "DIR")]
    pub(crate) source: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TailArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) resource: Option<String>,
    /// now, start, a sequence or a moment
    #[arg(long, visible_alias = "from", value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Go on where the last run stopped, and remember how far this one came
    #[arg(long, value_name = "FILE")]
    pub(crate) cursor_file: Option<PathBuf>,
    /// Stop at the newest event
    #[arg(long)]
    pub(crate) until_caught_up: bool,
    /// Run this for each event, the event on its stdin; stop if it fails
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
    /// table (a line for people) or jsonl
    #[arg(
        long,
        short,
        visible_short_alias = 'o',
        default_value = "table",
        hide_default_value = true
    )]
    pub(crate) format: crate::output::Format,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) resource: String,
    #[arg(long, short = 'l', default_value_t = 200)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) resource: String,
    #[arg(long, value_name = "MOMENT")]
    pub(crate) at: Option<String>,
    #[arg(
        long,
        short,
        visible_short_alias = 'o',
        default_value = "yaml",
        hide_default_value = true
    )]
    pub(crate) format: crate::output::Format,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct DiffArgs {
    #[arg(add = ArgValueCompleter::new(completion::instances))]
    pub(crate) resource: String,
    /// A..B; B is now if it is left out
    #[arg(value_name = "A..B")]
    pub(crate) range: Option<String>,
    #[arg(long, value_name = "MOMENT", conflicts_with = "range")]
    pub(crate) since: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct WhyArgs {
    /// RESOURCE or RESOURCE.KEY
    #[arg(value_name = "RESOURCE[.KEY]", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) target: String,
    /// A key, `state`, or `node`: why it is where it is
    pub(crate) key: Option<String>,
    /// After `on`: why it is there, or not
    #[arg(value_name = "MEMBER")]
    pub(crate) member: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UndoArgs {
    /// An operation's id
    #[arg(value_name = "OP")]
    pub(crate) operation: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Show what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArgs {
    /// Rebuild in memory and compare with what is served
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) format: FormatArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the log for gaps and broken hashes
    Verify(VerifyArgs),
}
