//! Verbs that need no noun.

use clap::CommandFactory as _;

use crate::{
    args::{
        Cli,
        event::{AuditCommand, EventCommand, LogCommand},
        instance::InstanceCommand,
        server::{AdminCommand, ServerCommand},
        session::SessionCommand,
    },
    commands::{
        event,
        instance::{self, state::Action},
        server,
        session::{console, exec},
    },
    daemon,
    exit::ExitStatus,
    failure::{Failure, Result},
    session::Session,
};

pub(super) async fn instance(session: &Session, command: InstanceCommand) -> Result<ExitStatus> {
    match command {
        InstanceCommand::Launch(args) => instance::launch::run(session, args).await,
        InstanceCommand::Create(args) => instance::create::run(session, args).await,
        InstanceCommand::Start(args) => instance::state::start(session, args).await,
        InstanceCommand::Stop(args) => instance::state::stop(session, Action::Stop, args).await,
        InstanceCommand::Restart(args) => {
            instance::state::stop(session, Action::Restart, args).await
        }
        InstanceCommand::Pause(args) => {
            instance::state::freeze(session, Action::Pause, &args.targets).await
        }
        InstanceCommand::Resume(args) => {
            instance::state::freeze(session, Action::Resume, &args.targets).await
        }
        InstanceCommand::Delete(args) => instance::delete::run(session, args).await,
        InstanceCommand::List(args) => instance::list::run(session, args).await,
        InstanceCommand::Info(args) => instance::info::run(session, args).await,
        InstanceCommand::Copy(args) => instance::copy::run(session, args).await,
        InstanceCommand::Rename(args) => instance::movement::rename(session, args).await,
        InstanceCommand::Move(args) => instance::movement::run(session, args).await,
        InstanceCommand::Rebuild(args) => instance::rebuild::run(session, args).await,
        InstanceCommand::Publish(args) => instance::publish::run(session, args).await,
    }
}

pub(super) async fn session(session: &Session, command: SessionCommand) -> Result<ExitStatus> {
    match command {
        SessionCommand::Exec(args) => exec::run(session, args).await,
        SessionCommand::Shell(args) => exec::shell(session, args).await,
        SessionCommand::Console(args) => console::run(session, args).await,
    }
}

pub(super) async fn event(session: &Session, command: EventCommand) -> Result<ExitStatus> {
    match command {
        EventCommand::Log(args) => match args.files {
            None => event::log::run(session, args.query).await,
            Some(LogCommand::Export(args)) => event::files::export(session, args).await,
            Some(LogCommand::Import(args)) => event::files::import(session, args).await,
            Some(LogCommand::Verify(args)) => event::files::verify(session, args),
        },
        EventCommand::Tail(args) => event::tail::run(session, args).await,
        EventCommand::History(args) => event::history::run(session, args).await,
        EventCommand::Show(args) => event::show::run(session, args).await,
        EventCommand::Diff(args) => event::diff::run(session, args).await,
        EventCommand::Why(args) => event::why::run(session, args).await,
        EventCommand::Undo(args) => event::undo::run(session, args).await,
        EventCommand::Replay(args) => event::replay::run(session, args).await,
        EventCommand::Audit(AuditCommand::Verify(args)) => event::files::verify(session, args),
    }
}

pub(super) async fn server(session: &Session, command: ServerCommand) -> Result<ExitStatus> {
    match command {
        ServerCommand::Init(args) | ServerCommand::Admin(AdminCommand::Init(args)) => {
            server::init::run(session, args).await
        }
        ServerCommand::Waitready(args) | ServerCommand::Admin(AdminCommand::Waitready(args)) => {
            server::waitready::run(session, args.timeout).await
        }
        ServerCommand::Shutdown(args) | ServerCommand::Admin(AdminCommand::Shutdown(args)) => {
            server::shutdown::run(session, args).await
        }
        ServerCommand::Daemon(args) => daemon::run(args, session.settings.dir.clone()).await,
        ServerCommand::Doctor(args) => server::doctor::run(session, args).await,
        ServerCommand::Monitor(args) => server::monitor::run(session, args).await,
        ServerCommand::Query(args) => server::query::run(session, args).await,
        ServerCommand::Version(args) => server::version::run(session, args).await,
        ServerCommand::Explain(args) => server::explain::run(session, &args.code),
        ServerCommand::Completion(args) => completion(session, &args.shell),
        ServerCommand::Help(args) => help(session, &args.words),
    }
}

/// The line that switches completion on; what is completed is asked of this program each time.
fn completion(session: &Session, shell: &str) -> Result<ExitStatus> {
    let line = match shell {
        "bash" | "zsh" => format!("source <(COMPLETE={shell} stapes)"),
        "fish" => "COMPLETE=fish stapes | source".to_owned(),
        "elvish" => "eval (E:COMPLETE=elvish stapes | slurp)".to_owned(),
        "powershell" => {
            "$env:COMPLETE = \"powershell\"; stapes | Out-String | Invoke-Expression".to_owned()
        }
        _ => {
            return Err(Failure::usage(format!("nothing is known of the shell `{shell}`"))
                .fact("There are bash, zsh, fish, elvish and powershell."));
        }
    };
    session.printer.line(&line)?;
    Ok(ExitStatus::Done)
}

fn help(session: &Session, words: &[String]) -> Result<ExitStatus> {
    if let [topic] = words
        && let Some(text) = server::explain::topic(topic)
    {
        session.printer.data(text)?;
        return Ok(ExitStatus::Done);
    }
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        found = match found.find_subcommand_mut(word) {
            Some(next) => next,
            None => {
                return Err(Failure::usage(format!("there is no verb `{word}`"))
                    .hint("stapes --help")
                    .hint("stapes help exit-codes | environment"));
            }
        };
    }
    session.printer.data(&found.render_long_help().ansi().to_string())?;
    Ok(ExitStatus::Done)
}
