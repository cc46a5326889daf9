//! `stapes`: containers and virtual machines on an event log, from the command line.
//!
//! What is typed becomes arguments ([`args`], clap alone), the arguments and the environment become
//! settings, resolved once ([`settings`]), and a plain function does the work ([`commands`], one
//! file a verb). Data leaves by stdout and talk by stderr ([`output`]); a run ends with one of the
//! numbers of [`exit`].

mod args;
mod commands;
mod completion;
mod daemon;
mod dispatch;
mod exit;
mod failure;
mod input;
mod name;
mod operation;
mod output;
mod pairs;
mod session;
mod settings;
mod suggest;
mod units;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;

use crate::{args::Cli, failure::Result, output::Printer, session::Session, settings::Settings};

fn main() -> ExitCode {
    // Answers the shell and ends, when the shell asks what could be typed next.
    CompleteEnv::with_factory(Cli::command).complete();
    let cli = Cli::parse();
    choose_colour(cli.global.color);
    let debug = cli.global.flags().debug;
    match run(cli) {
        Ok(status) => status.into(),
        Err(failure) => {
            Printer::new(false).failure(&failure, debug);
            failure.exit().into()
        }
    }
}

fn choose_colour(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => {}
        ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
    }
}

/// One thread is enough for a client, and starts at once.
fn run(cli: Cli) -> Result<exit::ExitStatus> {
    let settings = Settings::resolve(cli.global.flags(), |name| std::env::var(name).ok())?;
    let mut runtime = if dispatch::wants_threads(&cli.command) {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| failure::Failure::local("cannot start", &error))?;
    let ended = runtime.block_on(Box::pin(dispatch::run(Session::new(settings), cli.command)));
    // A thread that still reads stdin must not hold the program.
    runtime.shutdown_background();
    ended
}
