//! Programs that a build runs: no shell, arguments as they are, their words told on.

use std::process::Stdio;

use stapes_core::port::DriverError;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

/// The last lines of a program that failed: enough to say why.
const LAST_LINES: usize = 5;
const LINE_BYTES_MAX: u64 = 16 * 1024;
const BUILD_SECONDS_MAX: u64 = 1800;

pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Of its own, so that all of it can be ended at once.
    command.process_group(0);
    command
}

/// Ends the whole group of a program that nobody waits for any more.
struct Group(Option<nix::unistd::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It unmounts and removes what it made on the way out.
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM).ok();
        }
    }
}

/// Runs it to its end; `package` is what to install when it is missing.
pub(super) async fn run(
    mut command: Command,
    package: &str,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<(), DriverError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed =
        |why: String| DriverError::Failed(format!("{program} failed: {why}; nothing was built"));
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let text =
                format!("{program} is not installed; install {package} (apt install {package})");
            DriverError::Refused(text)
        } else {
            failed(error.to_string())
        }
    })?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(nix::unistd::Pid::from_raw);
    let mut group = Group(pid);
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut last = std::collections::VecDeque::new();
    let mut follow = async || loop {
        let mut line = Vec::new();
        let count = (&mut stderr).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if count == 0 {
            return child.wait().await;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tell(line.strip_prefix("I: ").unwrap_or(&line));
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    };
    let wall = std::time::Duration::from_secs(BUILD_SECONDS_MAX);
    let status = tokio::time::timeout(wall, follow()).await;
    let status = status.map_err(|_| failed(format!("it took more than {} s", wall.as_secs())))?;
    let status = status.map_err(|error| failed(error.to_string()))?;
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let words: Vec<String> = last.into();
    Err(failed(format!("{status}: {}", words.join(" | "))))
}
