//! Verbs that connect a terminal with a guest.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::common::InstanceName;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Run a command inside an instance
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// A login shell inside an instance
    Shell(ShellArgs),
    /// Attach to an instance's console (leave with ctrl-a q)
    Console(ConsoleArgs),
}

const EXEC_HELP: &str = "\
The exit status is the command's own; 126 when it cannot be run, 127 when it is not there.

Examples:
  stapes exec web -- apt update
  stapes exec web --env LANG=C --cwd /srv -- ls -l
  tar c . | stapes exec web -T -- tar x -C /srv";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Auto,
    Interactive,
    NonInteractive,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExecArgs {
    #[arg(value_name = "INSTANCE", add = ArgValueCompleter::new(completion::instances))]
    pub(crate) instance: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// The directory to run in
    #[arg(long)]
    pub(crate) cwd: Option<String>,
    /// Set an environment variable: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// The user's id
    #[arg(long)]
    pub(crate) user: Option<u32>,
    /// The group's id
    #[arg(long)]
    pub(crate) group: Option<u32>,
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) mode: Mode,
    /// With a terminal, whatever stdin and stdout are
    #[arg(long, short = 't', conflicts_with = "force_noninteractive")]
    pub(crate) force_interactive: bool,
    /// Without a terminal
    #[arg(long, short = 'T')]
    pub(crate) force_noninteractive: bool,
    /// Give the command nothing to read
    #[arg(long, short = 'n')]
    pub(crate) disable_stdin: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) instance: InstanceName,
    /// The user to be
    #[arg(long, default_value = "root")]
    pub(crate) user: String,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ConsoleArgs {
    #[command(flatten)]
    pub(crate) instance: InstanceName,
    /// console or vga
    #[arg(long = "type", short = 't', default_value = "console")]
    pub(crate) kind: String,
    /// Print what was shown so far instead
    #[arg(long)]
    pub(crate) show_log: bool,
    /// Take the console over from who has it
    #[arg(long, short)]
    pub(crate) force: bool,
}
