//! The programs of an imagined guest: `true`, `false`, `echo`, `cat`, `pwd`, `hostname`, `env`,
//! `sleep`, `kill`, `poweroff`, `reboot` and `sh -c` with these, `exit` and `;`.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{
    super::{ExecControl, ExecSession, ExecSpec, ExitCause},
    World,
};
use crate::{ids::InstanceId, port::DriverError};

/// Programs that an imagined guest runs at once, at most.
const PROGRAMS_MAX: usize = 256;

pub(super) fn failed(error: io::Error) -> DriverError {
    DriverError::Failed(format!("simulated exec: {error}"))
}

/// Its standard streams, as it sees them.
enum Streams {
    Terminal(UnixStream),
    Pipes { input: PipeReader, output: PipeWriter, error: PipeWriter },
}

struct Program {
    world: Arc<World>,
    instance: InstanceId,
    hostname: String,
    spec: ExecSpec,
    streams: Streams,
    signals: Receiver<i32>,
}

pub(super) fn run(
    world: &Arc<World>,
    instance: InstanceId,
    spec: &ExecSpec,
) -> Result<ExecSession, DriverError> {
    let (signal, signals) = mpsc::channel();
    let mut spec = spec.clone();
    let (hostname, number) = world.with(instance, |guest| {
        if guest.programs.len() >= PROGRAMS_MAX {
            return Err(DriverError::Full(format!("{instance} runs {PROGRAMS_MAX} programs")));
        }
        guest.next_program += 1;
        guest.programs.insert(guest.next_program, signal.clone());
        for (variable, value) in &guest.spec.environment {
            spec.environment.entry(variable.clone()).or_insert_with(|| value.clone());
        }
        Ok((guest.spec.hostname.clone(), guest.next_program))
    })??;
    let (streams, input, output) = streams(spec.terminal.is_some()).map_err(failed)?;
    let (done, status) = oneshot::channel();
    let mut program =
        Program { world: Arc::clone(world), instance, hostname, spec, streams, signals };
    std::thread::spawn(move || {
        let status = program.main();
        // The guest may be gone by now, and the caller may have lost interest.
        let _ = program.world.with(instance, |guest| guest.programs.remove(&number));
        drop(program);
        let _ = done.send(status);
    });
    let control = Box::new(Control { signal, status: Some(status) });
    Ok(ExecSession { input, output, control })
}

type Ends = (Streams, OwnedFd, Option<(OwnedFd, OwnedFd)>);

fn streams(terminal: bool) -> io::Result<Ends> {
    if terminal {
        let (ours, theirs) = UnixStream::pair()?;
        return Ok((Streams::Terminal(ours), theirs.into(), None));
    }
    let (input, to_input) = io::pipe()?;
    let (from_output, output) = io::pipe()?;
    let (from_error, error) = io::pipe()?;
    let streams = Streams::Pipes { input, output, error };
    Ok((streams, to_input.into(), Some((from_output.into(), from_error.into()))))
}

impl Program {
    fn main(&mut self) -> i32 {
        let command = self.spec.command.clone();
        self.word(&command.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn word(&mut self, command: &[&str]) -> i32 {
        let arguments = command.get(1..).unwrap_or_default();
        match command.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path)) {
            "true" | ":" => 0,
            "false" => 1,
            "echo" => self.print(&format!("{}\n", arguments.join(" "))),
            "hostname" => self.print(&format!("{}\n", self.hostname)),
            "pwd" => {
                let place = self.spec.working_directory.as_deref().unwrap_or("/");
                self.print(&format!("{place}\n"))
            }
            "env" => {
                let variables = self.spec.environment.iter();
                self.print(
                    &variables.map(|(key, value)| format!("{key}={value}\n")).collect::<String>(),
                )
            }
            "cat" => self.cat(),
            "sleep" => self.sleep(arguments),
            "poweroff" | "halt" => self.end(ExitCause::GuestShutdown),
            "reboot" => self.end(ExitCause::GuestReboot),
            "sh" | "bash" if arguments.first() == Some(&"-c") => {
                self.script(arguments.get(1).copied().unwrap_or_default())
            }
            name => self.complain(&format!("{name}: not found\n"), 127),
        }
    }

    fn script(&mut self, script: &str) -> i32 {
        let mut status = 0;
        for line in script.split([';', '\n']) {
            let mut words: Vec<&str> =
                line.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
            let aside = words.last() == Some(&">&2");
            words.truncate(words.len() - usize::from(aside));
            match words.as_slice() {
                [] => {}
                ["exit"] => return status,
                ["exit", number] => return number.parse().unwrap_or(2),
                ["echo", rest @ ..] if aside => {
                    status = self.complain(&format!("{}\n", rest.join(" ")), 0);
                }
                words => status = self.word(words),
            }
        }
        status
    }

    fn print(&mut self, text: &str) -> i32 {
        let written = match &mut self.streams {
            Streams::Terminal(terminal) => {
                terminal.write_all(text.replace('\n', "\r\n").as_bytes())
            }
            Streams::Pipes { output, .. } => output.write_all(text.as_bytes()),
        };
        i32::from(written.is_err())
    }

    fn complain(&mut self, text: &str, status: i32) -> i32 {
        // Whoever closed the stream does not want to read it.
        let _ = match &mut self.streams {
            Streams::Terminal(terminal) => {
                terminal.write_all(text.replace('\n', "\r\n").as_bytes())
            }
            Streams::Pipes { error, .. } => error.write_all(text.as_bytes()),
        };
        status
    }

    fn cat(&mut self) -> i32 {
        let mut buffer = [0; 4096];
        loop {
            let read = match &mut self.streams {
                Streams::Terminal(terminal) => terminal.read(&mut buffer),
                Streams::Pipes { input, .. } => input.read(&mut buffer),
            };
            let Ok(count) = read else { return 1 };
            // End of input, or end of transmission typed at a terminal.
            let end = buffer[..count].iter().position(|byte| *byte == 4);
            let text = String::from_utf8_lossy(&buffer[..end.unwrap_or(count)]).into_owned();
            if self.print(&text) != 0 {
                return 1;
            }
            if count == 0 || end.is_some() {
                return 0;
            }
        }
    }

    fn sleep(&mut self, arguments: &[&str]) -> i32 {
        let Some(seconds) = arguments.first().and_then(|text| text.parse::<f64>().ok()) else {
            return self.complain("sleep: how long?\n", 1);
        };
        let Ok(duration) = Duration::try_from_secs_f64(seconds) else { return 1 };
        match self.signals.recv_timeout(duration) {
            Ok(signal) => 128 + signal,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => 0,
        }
    }

    fn end(&mut self, cause: ExitCause) -> i32 {
        self.world.end_by_itself(self.instance, cause);
        0
    }
}

#[derive(Debug)]
struct Control {
    signal: mpsc::Sender<i32>,
    status: Option<oneshot::Receiver<i32>>,
}

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, _columns: u16, _rows: u16) -> Result<(), DriverError> {
        Ok(())
    }

    async fn signal(&self, signal: i32) -> Result<(), DriverError> {
        // One that has ended hears no signal; that is no failure.
        let _ = self.signal.send(signal);
        Ok(())
    }

    async fn wait(&mut self) -> Result<i32, DriverError> {
        let waited = || DriverError::Refused("waited for already".to_owned());
        let status = self.status.as_mut().ok_or_else(waited)?.await;
        self.status = None;
        status.map_err(|_| DriverError::Failed("the program is lost".to_owned()))
    }
}
