//! A program or a console from its first connection to its last byte.

use std::os::fd::OwnedFd;

use axum::extract::ws::{Message, WebSocket};
use futures::{StreamExt, stream::SplitStream};
use stapes_core::{
    ids::InstanceId,
    port::guest::{Console, ExecControl, ExecSession, ExecSpec, Guests},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    CONNECT_WITHIN, Connections, Recorded, Stream,
    descriptor::{Reader, Writer, both_ways},
    pump::{self, SocketSink},
};
use crate::wire::exec::Control;

/// Control messages that may wait.
const CONTROLS_MAX: usize = 64;
const SIGKILL: i32 = 9;

/// How a session ended: with an exit status, or without ever beginning.
pub(crate) type Outcome = Result<i32, String>;

/// Runs a program for a client with websockets.
pub(crate) async fn run_with_sockets(
    guests: &dyn Guests,
    instance: InstanceId,
    spec: ExecSpec,
    mut connections: Connections,
) -> Outcome {
    let interactive = spec.terminal.is_some();
    let sockets = timeout(CONNECT_WITHIN, async {
        let input = connections.connected(Stream::Input).await?;
        if interactive {
            return Some((input, None));
        }
        let output = connections.connected(Stream::Output).await?;
        let error = connections.connected(Stream::Error).await?;
        Some((input, Some((output, error))))
    });
    let Ok(Some((input, outputs))) = sockets.await else {
        return Err("Timed out waiting for websockets to connect".to_owned());
    };
    let control = connections.later(Stream::Control);
    let session = guests.exec(instance, &spec).await.map_err(|error| error.to_string())?;
    match outputs {
        None => on_a_terminal(session, input, control).await,
        Some((output, error)) => on_three_streams(session, input, output, error, control).await,
    }
}

/// Runs a program whose output goes to files or nowhere.
pub(crate) async fn run_recorded(
    guests: &dyn Guests,
    instance: InstanceId,
    spec: ExecSpec,
    mut output: Recorded,
    mut error: Recorded,
) -> Outcome {
    let session = guests.exec(instance, &spec).await.map_err(|error| error.to_string())?;
    let ExecSession { input, output: streams, mut control } = session;
    // Nobody will write to it.
    drop(input);
    let (mut out, mut err) = outputs(streams)?;
    let (ending, ended) = watch::channel(false);
    let (status, (), ()) = tokio::join!(
        wait(control.as_mut(), None, ending),
        pump::forward(&mut out, &mut output, ended.clone()),
        pump::forward(&mut err, &mut error, ended),
    );
    Ok(status)
}

fn outputs(streams: Option<(OwnedFd, OwnedFd)>) -> Result<(Reader, Reader), String> {
    let (output, error) = streams.ok_or("The program has no output streams")?;
    Ok((Reader::new(output).map_err(unusable)?, Reader::new(error).map_err(unusable)?))
}

fn unusable(error: std::io::Error) -> String {
    format!("The program's streams cannot be used: {error}")
}

/// One stream both ways. The client's control connection is the program's lifeline.
async fn on_a_terminal(
    session: ExecSession,
    socket: WebSocket,
    control: Option<oneshot::Receiver<WebSocket>>,
) -> Outcome {
    let (mut reader, mut writer) = both_ways(session.input).map_err(unusable)?;
    let mut program = session.control;
    let (sink, mut from) = socket.split();
    let mut sink = SocketSink(sink);
    let (sender, receiver) = mpsc::channel(CONTROLS_MAX);
    let listener = tokio::spawn(listen(control, sender, true));
    let (ending, ended) = watch::channel(false);
    let (status, (), ()) = tokio::join!(
        wait(program.as_mut(), Some(receiver), ending),
        pump::forward(&mut reader, &mut sink, ended.clone()),
        until(ended, pump::feed(&mut from, &mut writer)),
    );
    listener.abort();
    tokio::spawn(pump::part(sink.0, from));
    Ok(status)
}

async fn on_three_streams(
    session: ExecSession,
    input: WebSocket,
    output: WebSocket,
    error: WebSocket,
    control: Option<oneshot::Receiver<WebSocket>>,
) -> Outcome {
    let (mut out, mut err) = outputs(session.output)?;
    let mut stdin = Writer::new(session.input).map_err(unusable)?;
    let mut program = session.control;
    let (input_sink, mut from) = input.split();
    let ((out_sink, out_rest), (err_sink, err_rest)) = (output.split(), error.split());
    let (mut out_sink, mut err_sink) = (SocketSink(out_sink), SocketSink(err_sink));
    let (sender, receiver) = mpsc::channel(CONTROLS_MAX);
    let listener = tokio::spawn(listen(control, sender, false));
    let (ending, ended) = watch::channel(false);
    let feed = async {
        pump::feed(&mut from, &mut stdin).await;
        // Dropping the descriptor is what tells the program that its input ended.
        drop(stdin);
    };
    let (status, (), (), ()) = tokio::join!(
        wait(program.as_mut(), Some(receiver), ending),
        pump::forward(&mut out, &mut out_sink, ended.clone()),
        pump::forward(&mut err, &mut err_sink, ended.clone()),
        until(ended, feed),
    );
    listener.abort();
    for (sink, rest) in [(out_sink.0, out_rest), (err_sink.0, err_rest), (input_sink, from)] {
        tokio::spawn(pump::part(sink, rest));
    }
    Ok(status)
}

/// The work, or as much of it as there is until the program ended.
async fn until(mut ended: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

/// Waits for the program's end, and does what the client's control socket says meanwhile.
async fn wait(
    control: &mut dyn ExecControl,
    mut messages: Option<mpsc::Receiver<Control>>,
    ending: watch::Sender<bool>,
) -> i32 {
    loop {
        let message = tokio::select! {
            status = control.wait() => {
                ending.send_replace(true);
                return status.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the end of a program could not be observed");
                    -1
                });
            }
            message = next(&mut messages) => message,
        };
        let done = match message {
            Control::Signal { signal } => control.signal(signal).await,
            Control::WindowResize { args } => match (args.width.parse(), args.height.parse()) {
                (Ok(columns), Ok(rows)) => control.resize(columns, rows).await,
                _ => continue,
            },
        };
        if let Err(error) = done {
            tracing::debug!(%error, "a control message had no effect");
        }
    }
}

/// The next message; never ready when there will be none.
async fn next(messages: &mut Option<mpsc::Receiver<Control>>) -> Control {
    if let Some(receiver) = messages {
        if let Some(message) = receiver.recv().await {
            return message;
        }
        *messages = None;
    }
    std::future::pending().await
}

/// Reads the control socket. When a client that had one goes away without ending it, the program
/// is killed: its user is gone.
async fn listen(
    socket: Option<oneshot::Receiver<WebSocket>>,
    messages: mpsc::Sender<Control>,
    lifeline: bool,
) {
    let Some(socket) = socket else { return };
    let Ok(socket) = socket.await else { return };
    let (_sink, mut from) = socket.split();
    let said_goodbye = read_controls(&mut from, &messages).await;
    if lifeline || !said_goodbye {
        let _ = messages.send(Control::Signal { signal: SIGKILL }).await;
    }
    // Held to the end, so that the client does not see it close before the others.
    std::future::pending::<()>().await;
}

/// Whether the client closed the socket properly.
async fn read_controls(
    from: &mut SplitStream<WebSocket>,
    messages: &mpsc::Sender<Control>,
) -> bool {
    while let Some(Ok(message)) = from.next().await {
        match message {
            Message::Text(text) if text.is_empty() => return true,
            Message::Text(text) => {
                // What this version does not know is not an error: clients are newer sometimes.
                if let Ok(control) = serde_json::from_str(&text)
                    && messages.send(control).await.is_err()
                {
                    return true;
                }
            }
            Message::Close(_) => return true,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    false
}

/// Connects a client to an instance's console until the client leaves or the guest ends.
pub(crate) async fn attach_console(
    guests: &dyn Guests,
    instance: InstanceId,
    size: (u16, u16),
    mut connections: Connections,
) -> Outcome {
    let both = timeout(CONNECT_WITHIN, async {
        let terminal = connections.connected(Stream::Input).await?;
        Some((terminal, connections.connected(Stream::Control).await?))
    });
    let Ok(Some((terminal, control))) = both.await else {
        return Err("Timed out waiting for websockets to connect".to_owned());
    };
    let Console { stream } =
        guests.console(instance, size).await.map_err(|error| error.to_string())?;
    let (mut reader, mut writer) = both_ways(stream).map_err(unusable)?;
    let (sink, mut from) = terminal.split();
    let mut sink = SocketSink(sink);
    let (_control_sink, mut control_from) = control.split();
    let (sender, mut receiver) = mpsc::channel(CONTROLS_MAX);
    // Kept: dropping it would say that the console ended.
    let (_running, ended) = watch::channel(false);
    tokio::select! {
        () = pump::forward(&mut reader, &mut sink, ended) => {}
        () = pump::feed(&mut from, &mut writer) => {}
        _ = read_controls(&mut control_from, &sender) => {}
        // The console has no size of its own once it is open; messages are taken and dropped.
        () = async { while receiver.recv().await.is_some() {} } => {}
    }
    tokio::spawn(pump::part(sink.0, from));
    Ok(0)
}
