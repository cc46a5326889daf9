//! Bytes between this process and a guest's program.

use std::io::{self, Read as _};

use stapes_api::client::{ExecReceiver, ExecSender};
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

/// How much is read at once.
const PIECE: usize = 32 * 1024;
/// How many pieces may wait to be sent.
const WAITING: usize = 8;

/// Standard input, piece by piece; the channel ends with it. Reading blocks, so it has a thread
/// of its own, which ends with the process.
pub(crate) fn stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        let mut stdin = io::stdin().lock();
        while let Ok(length) = stdin.read(&mut piece) {
            if length == 0 || sender.blocking_send(piece[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// All of stdin, and its end. A program that no longer reads is no failure.
pub(crate) async fn feed(mut input: mpsc::Receiver<Vec<u8>>, mut to: ExecSender) -> ExecSender {
    while let Some(piece) = input.recv().await {
        if to.send(piece).await.is_err() {
            return to;
        }
    }
    let _ = to.end().await;
    to
}

/// Writes all that comes to stdout or stderr.
pub(crate) async fn drain(mut from: ExecReceiver, to_stderr: bool) -> Result<()> {
    while let Some(bytes) = from.recv().await? {
        let written = if to_stderr {
            write(&mut io::stderr().lock(), &bytes)
        } else {
            write(&mut io::stdout().lock(), &bytes)
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|error| Failure::local("cannot write the output", &error))?,
        }
    }
    Ok(())
}

fn write(to: &mut impl io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}
