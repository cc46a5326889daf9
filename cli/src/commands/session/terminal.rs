//! This side's terminal: raw for as long as a session lasts, and put back whatever happens.

use std::io::{self, IsTerminal as _};

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Result};

/// Raw mode until it is dropped, by a panic too.
#[derive(Debug)]
pub(crate) struct Raw(());

impl Raw {
    pub(crate) fn enter() -> Result<Self> {
        crossterm::terminal::enable_raw_mode()
            .map_err(|error| Failure::local("cannot put the terminal into raw mode", &error))?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is no better state to put it in if this fails.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Columns and rows; what a terminal of the old days had when this is none.
pub(crate) fn size() -> (u16, u16) {
    crossterm::terminal::size().unwrap_or((80, 24))
}

pub(crate) fn interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Ends at the next change of the window's size; each call waits for one.
pub(crate) async fn resized() -> Option<(u16, u16)> {
    let mut signal = signal(SignalKind::window_change()).ok()?;
    signal.recv().await?;
    Some(size())
}
