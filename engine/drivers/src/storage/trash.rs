//! The trash: what is deleted gets a name here first, and goes in the background.
//!
//! One thread a pool sweeps; what it does not finish is finished when the pool is opened again.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    error::DriverError,
    layout,
    pool::{Pool, rename},
    trees::{Access, Trees},
};

/// Rounds of one thread at most; each empties what it found.
const ROUNDS_MAX: u32 = 1000;

#[derive(Debug)]
pub(super) struct Sweeper {
    trash: PathBuf,
    trees: Arc<dyn Trees>,
    state: Mutex<State>,
    /// Held while sweeping.
    sweeping: Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// A thread sweeps.
    Sweeping,
    /// A thread sweeps, and something was added since it looked.
    SweepAgain,
    /// The pool goes away.
    Closed,
}

impl Sweeper {
    pub(super) fn new(trash: PathBuf, trees: Arc<dyn Trees>) -> Self {
        Self { trash, trees, state: Mutex::new(State::Idle), sweeping: Mutex::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Deletes everything in the trash, and lets no thread look there again.
    pub(super) fn close(&self) -> Result<(), DriverError> {
        *self.state() = State::Closed;
        self.sweep()
    }

    fn sweep(&self) -> Result<(), DriverError> {
        let _one_at_a_time = self.sweeping.lock().expect("no holder panics");
        let mut failed = Ok(());
        for name in layout::names(&self.trash)? {
            failed = self.trees.delete(&self.trash.join(name)).and(failed);
        }
        failed
    }

    /// Sweeps on a thread of its own, unless one does; that one looks again.
    pub(super) fn sweep_in_background(this: &Arc<Self>) {
        let mut state = this.state();
        match *state {
            State::Sweeping => *state = State::SweepAgain,
            State::SweepAgain | State::Closed => {}
            State::Idle => {
                let sweeper = this.clone();
                // Work of any length must not take a thread from the calls that users wait for.
                let thread = std::thread::Builder::new().name("stapes-sweep".into());
                match thread.spawn(move || sweeper.sweep_until_idle()) {
                    Ok(_) => *state = State::Sweeping,
                    Err(error) => tracing::warn!(%error, "no thread: the trash stays for now"),
                }
            }
        }
    }

    fn sweep_until_idle(&self) {
        for round in 1..=ROUNDS_MAX {
            // The lock is free for calls while this sweeps; a closed pool needs no sweep.
            if *self.state() == State::Closed {
                return;
            }
            if let Err(error) = self.sweep() {
                tracing::warn!(trash = %self.trash.display(), %error, "trash stays for now");
            }
            let mut state = self.state();
            match *state {
                State::SweepAgain if round < ROUNDS_MAX => *state = State::Sweeping,
                State::SweepAgain | State::Sweeping | State::Idle => {
                    *state = State::Idle;
                    return;
                }
                State::Closed => return,
            }
        }
    }
}

impl Pool {
    /// Gives the tree a name in the trash. Fine when there is none.
    pub(super) fn throw_away(&self, path: &Path) -> Result<(), DriverError> {
        if !layout::exists(path)? {
            return Ok(());
        }
        // btrfs lets no read-only subvolume change its directory.
        self.trees.set_access(path, Access::Writable)?;
        rename(path, &self.layout.trash().join(uuid::Uuid::new_v4().to_string()))
    }
}
