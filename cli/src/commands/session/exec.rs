//! `stapes exec` and `shell`

use stapes_api::{
    client::{ExecHandle, ExecSocket},
    wire::exec::{Control, InstanceExecPost},
};

use super::{streams, terminal};
use crate::{
    args::session::{ExecArgs, Mode, ShellArgs},
    commands::object::Object,
    exit::ExitStatus,
    failure::{Failure, Result},
    pairs,
    session::Session,
};

/// What a shell of old would say for "stapes itself failed".
const ENGINE_FAILED: ExitStatus = ExitStatus::Own(125);

pub(crate) async fn shell(session: &Session, args: ShellArgs) -> Result<ExitStatus> {
    let command = ["su", "-l", &args.user].map(str::to_owned).to_vec();
    let exec = ExecArgs {
        instance: args.instance.instance,
        command,
        cwd: None,
        env: Vec::new(),
        user: None,
        group: None,
        mode: Mode::Auto,
        force_interactive: false,
        force_noninteractive: false,
        disable_stdin: false,
    };
    run(session, exec).await
}

/// Runs a command and ends as it ends.
pub(crate) async fn run(session: &Session, args: ExecArgs) -> Result<ExitStatus> {
    let object = Object::instance(&args.instance)?;
    let interactive = wants_terminal(&args);
    let (width, height) = terminal::size();
    let mut environment = pairs::flags(&args.env)?;
    if interactive && !environment.contains_key("TERM") {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        environment.insert("TERM".to_owned(), term);
    }
    let post = InstanceExecPost {
        command: args.command.clone(),
        wait_for_websocket: true,
        interactive,
        environment,
        width,
        height,
        user: args.user.unwrap_or_default(),
        group: args.group.unwrap_or_default(),
        cwd: args.cwd.clone().unwrap_or_default(),
        ..InstanceExecPost::default()
    };
    session.trace("POST", &format!("{}/exec", object.path));
    let begun = session.client.exec(&object.name, &post).await.map_err(Failure::from);
    let handle =
        object.explain(session, begun).await.map_err(|failure| failure.with_exit(ENGINE_FAILED))?;
    let status = if interactive {
        with_terminal(handle).await
    } else {
        with_pipes(handle, args.disable_stdin).await
    };
    let status = status.map_err(|failure| failure.with_exit(ENGINE_FAILED))?;
    Ok(ExitStatus::Own(u8::try_from(status & 0xff).unwrap_or(1)))
}

fn wants_terminal(args: &ExecArgs) -> bool {
    match (args.force_interactive, args.force_noninteractive, args.mode) {
        (true, _, _) => true,
        (_, true, _) => false,
        (_, _, Mode::Interactive) => true,
        (_, _, Mode::NonInteractive) => false,
        (_, _, Mode::Auto) => !args.disable_stdin && terminal::interactive(),
    }
}

async fn with_terminal(mut handle: ExecHandle) -> Result<i32> {
    let socket = handle.stdin.take().ok_or_else(|| missing("terminal"))?;
    let control = handle.control.take();
    let raw = terminal::interactive().then(terminal::Raw::enter).transpose()?;
    let (to, from) = socket.split();
    let feed = streams::feed(streams::stdin(), to);
    tokio::pin!(feed);
    let mut fed = None;
    let ended = async {
        let drain = streams::drain(from, false);
        tokio::pin!(drain);
        loop {
            tokio::select! {
                drained = &mut drain => break drained,
                // Its end is not the session's; the socket is held until that.
                sender = &mut feed, if fed.is_none() => fed = Some(sender),
            }
        }
    };
    let result = tokio::select! {
        result = ended => result,
        () = follow_window(control) => Ok(()),
    };
    drop(raw);
    result?;
    Ok(handle.wait().await?)
}

/// Tells the other side of every new size of the window; ends only with the session.
async fn follow_window(control: Option<ExecSocket>) {
    if let Some(mut control) = control {
        while let Some((columns, rows)) = terminal::resized().await {
            if control.control(&Control::resize(columns, rows)).await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

async fn with_pipes(mut handle: ExecHandle, disable_stdin: bool) -> Result<i32> {
    let stdin = handle.stdin.take().ok_or_else(|| missing("standard input"))?;
    let stdout = handle.stdout.take().ok_or_else(|| missing("standard output"))?;
    let stderr = handle.stderr.take().ok_or_else(|| missing("standard error"))?;
    let mut control = handle.control.take();
    let (to, _held) = stdin.split();
    let (_, stdout) = stdout.split();
    let (_, stderr) = stderr.split();
    let outputs = async {
        let (out, err) = tokio::join!(streams::drain(stdout, false), streams::drain(stderr, true));
        out.and(err)
    };
    let input = if disable_stdin { nothing() } else { streams::stdin() };
    let feed = streams::feed(input, to);
    tokio::pin!(outputs, feed);
    let mut fed = None;
    loop {
        tokio::select! {
            drained = &mut outputs => {
                drained?;
                break;
            }
            sender = &mut feed, if fed.is_none() => fed = Some(sender),
            // Ctrl-C is the program's, as if it ran here.
            () = crate::operation::interrupt() => {
                if let Some(control) = &mut control {
                    control.control(&Control::Signal { signal: 2 }).await?;
                }
            }
        }
    }
    Ok(handle.wait().await?)
}

/// An input that ends at once.
fn nothing() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    tokio::sync::mpsc::channel(1).1
}

fn missing(what: &str) -> Failure {
    Failure::protocol(format!("the daemon gave no socket for the {what}"))
}
