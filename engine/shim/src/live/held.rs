//! A guest between two decisions: who holds it, and how it goes on.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Subject, announce, criu,
    criu::Criu,
    kept, ports,
    rendezvous::{self, Said, Verdict},
};
use crate::{
    fault::{Doing as _, Fault, Result},
    protocol::{Checkpointed, Held},
    record,
    spec::Spec,
    sys::{self, process},
};

/// The file that says who holds the guest, for a shim that takes it over.
const RECORD: &str = "hold";

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// CRIU writes the files.
    Dumping {
        frozen_at_us: i64,
        undo: bool,
    },
    Dumped(Checkpointed),
    /// CRIU lets it go.
    Resuming,
    Restored,
    Activating,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    state: State,
    criu: i32,
    criu_since: u64,
    images: PathBuf,
}

/// What has come of it.
#[derive(Debug)]
pub(crate) enum Step {
    Nothing,
    Dumped(Checkpointed),
    /// The guest runs on.
    NotDumped(Fault),
    Resumed,
    Activated,
    /// It cannot go on.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Hold {
    state: State,
    images: PathBuf,
    said: OwnedFd,
    /// Nobody once CRIU was killed by others.
    criu: Option<Criu>,
}

impl Hold {
    pub(super) fn dumping(images: PathBuf, said: OwnedFd, criu: Criu) -> Self {
        let state = State::Dumping { frozen_at_us: sys::now_us(), undo: false };
        Self { state, images, said, criu: Some(criu) }
    }

    pub(super) fn restored(images: PathBuf, said: OwnedFd, criu: Criu) -> Self {
        Self { state: State::Restored, images, said, criu: Some(criu) }
    }

    /// The hold that another shim wrote down.
    pub(crate) fn find(directory: &OwnedFd, spec: &Spec) -> Result<Option<Self>> {
        let words = "find who holds the guest";
        let Some(record) = record::read::<Record>(directory, RECORD).doing(words)? else {
            return Ok(None);
        };
        let Record { state, criu, criu_since, images } = record;
        let said = rendezvous::reopen(directory).doing(words)?;
        let pid = rustix::process::Pid::from_raw(criu);
        let pidfd = pid.and_then(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
        });
        // Held by the pidfd, the pid cannot become another's while it is looked at.
        let criu = pidfd
            .filter(|_| process::is_running(criu, criu_since))
            .map(|pidfd| Criu { pid: criu, pidfd });
        let hold = Self { state, images, said, criu };
        if hold.criu.is_none() && hold.held() == Some(Held::Restored) {
            // Nobody can finish what CRIU began. Its end is seen as any other.
            spec.cgroups.group(&spec.instance).kill().doing(words)?;
        } else if hold.criu.is_none() && hold.held().is_some() {
            stand_still(spec).doing(words)?;
        }
        Ok(Some(hold))
    }

    /// Writes down who holds the guest.
    pub(crate) fn write(&self, directory: &OwnedFd) -> Result<()> {
        let words = "write down who holds the guest";
        let pid = self.criu.as_ref().map_or(0, |criu| criu.pid);
        let record = Record {
            state: self.state.clone(),
            criu: pid,
            criu_since: process::start_ticks(pid).unwrap_or(0),
            images: self.images.clone(),
        };
        record::write(directory, RECORD, &record, false).doing(words)
    }

    pub(crate) fn forget(directory: &OwnedFd) {
        // What stays goes with the directory.
        let _ = record::remove(directory, RECORD);
        rendezvous::close(directory);
    }

    pub(crate) const fn held(&self) -> Option<Held> {
        match self.state {
            State::Dumping { .. } => None,
            State::Dumped(_) | State::Resuming => Some(Held::Checkpointed),
            State::Restored | State::Activating => Some(Held::Restored),
        }
    }

    /// The answer to who asks for the same again.
    pub(crate) fn checkpointed(&self, images: &Path) -> Option<&Checkpointed> {
        match &self.state {
            State::Dumped(checkpointed) if self.images == images => Some(checkpointed),
            State::Dumped(_)
            | State::Dumping { .. }
            | State::Resuming
            | State::Restored
            | State::Activating => None,
        }
    }

    pub(crate) fn is_dumping_into(&self, images: &Path) -> bool {
        matches!(self.state, State::Dumping { .. }) && self.images == images
    }

    /// What to wait for: the hook's words, and CRIU's end.
    pub(crate) fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.said.as_fd()), self.criu.as_ref().map(|criu| criu.pidfd.as_fd())]
    }

    /// Something was said, or CRIU has ended.
    pub(crate) fn turn(
        &mut self,
        subject: &Subject<'_>,
        keep: impl FnOnce(&Path) -> Result<()>,
    ) -> Step {
        let said = rendezvous::hear(&self.said);
        if let State::Dumping { frozen_at_us, .. } = &mut self.state {
            if said.contains(&Said::Began) {
                *frozen_at_us = sys::now_us();
            }
            if said.contains(&Said::Dumped) {
                return self.dumped(subject, keep);
            }
        }
        match &self.criu {
            Some(criu) if has_ended(criu) => self.criu_ended(subject),
            Some(_) | None => Step::Nothing,
        }
    }

    fn dumped(&mut self, subject: &Subject<'_>, keep: impl FnOnce(&Path) -> Result<()>) -> Step {
        let State::Dumping { frozen_at_us, undo } = self.state else { return Step::Nothing };
        let bytes = if undo {
            Err(Fault::because("checkpoint the guest", "it was resumed meanwhile"))
        } else {
            keep(&self.images).and_then(|()| size(&self.images).doing("measure the checkpoint"))
        };
        match bytes {
            Ok(bytes) => {
                let took_us = sys::now_us().saturating_sub(frozen_at_us);
                let checkpointed = Checkpointed { bytes, frozen_at_us, took_us };
                self.state = State::Dumped(checkpointed.clone());
                Step::Dumped(checkpointed)
            }
            Err(fault) => {
                self.state = State::Resuming;
                let told = rendezvous::tell_soon(subject.directory, Verdict::Undo);
                if let Err(error) = told {
                    crate::supervise::log(&error.to_string());
                    self.end_criu();
                }
                Step::NotDumped(subject.open().err().unwrap_or(fault))
            }
        }
    }

    fn criu_ended(&mut self, subject: &Subject<'_>) -> Step {
        let ended = self.criu.take().and_then(|criu| process::reap(criu.pidfd.as_fd()).ok());
        let well = ended.flatten() == Some(process::Ended::Status(0));
        match self.state {
            State::Dumping { .. } => {
                let log = self.images.join(DUMP_LOG);
                let fault = criu::complaint("checkpoint the guest", &log);
                Step::NotDumped(subject.open().err().unwrap_or(fault))
            }
            State::Dumped(_) => {
                // Somebody killed CRIU, and the kernel has let the guest go.
                if stand_still(subject.spec).is_err() { Step::Lost } else { Step::Nothing }
            }
            State::Resuming => {
                // As the hook does before CRIU lets go; a CRIU that was killed has called none.
                if let Err(fault) = ports::open(&subject.spec.nics) {
                    crate::supervise::log(&fault.to_string());
                }
                opened(subject, Step::Resumed)
            }
            // Its processes wait for a word of CRIU's that never comes.
            State::Restored => Step::Lost,
            // Of one that another shim started there is no status; the guest's own end tells.
            State::Activating if well || ended.is_none() => opened(subject, Step::Activated),
            State::Activating => Step::Lost,
        }
    }

    /// Lets a checkpointed guest go on. Whether it does; otherwise [`Self::turn`] says when.
    pub(crate) fn resume(&mut self, subject: &Subject<'_>) -> Result<bool> {
        let words = "resume the guest";
        match (&self.state, &self.criu) {
            (State::Resuming, _) => return Ok(false),
            (State::Dumped(_), Some(_)) => {
                subject.plug_console()?;
                rendezvous::tell_soon(subject.directory, Verdict::Undo).doing(words)?;
            }
            (State::Dumped(_), None) => {
                let spec = subject.spec;
                subject.open()?;
                spec.cgroups.group(&spec.instance).freeze(false).doing(words)?;
                opened(subject, Step::Resumed);
                return Ok(true);
            }
            (State::Dumping { frozen_at_us, .. }, _) => {
                // Killed in the middle, CRIU would leave its own code in the guest.
                self.state = State::Dumping { frozen_at_us: *frozen_at_us, undo: true };
                return Ok(false);
            }
            (State::Restored | State::Activating, _) => {
                return Err(Fault::because(words, "it is not held by a checkpoint"));
            }
        }
        self.state = State::Resuming;
        self.write(subject.directory)?;
        Ok(false)
    }

    /// Lets a restored guest run. Done when [`Self::turn`] says so.
    pub(crate) fn activate(&mut self, subject: &Subject<'_>) -> Result<()> {
        let words = "activate the guest";
        match self.state {
            State::Activating => return Ok(()),
            State::Restored => {}
            State::Dumping { .. } | State::Dumped(_) | State::Resuming => {
                return Err(Fault::because(words, "it was not restored"));
            }
        }
        // Before anything of it runs: its first packets must arrive.
        subject.open()?;
        rendezvous::tell_soon(subject.directory, Verdict::GoOn).doing(words)?;
        self.state = State::Activating;
        self.write(subject.directory)
    }

    /// The guest is killed: nobody holds it any more.
    pub(crate) fn end_criu(&mut self) {
        let Some(criu) = self.criu.take() else { return };
        let _ = process::signal(criu.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = rustix::process::waitid(
            rustix::process::WaitId::PidFd(criu.pidfd.as_fd()),
            rustix::process::WaitIdOptions::EXITED,
        );
    }
}

pub(super) const DUMP_LOG: &str = "dump.log";

fn has_ended(criu: &Criu) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(criu.pidfd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// It goes on, and the network hears where.
fn opened(subject: &Subject<'_>, step: Step) -> Step {
    let announced = announce::announce(subject.guest.pidfd.as_fd(), &subject.spec.nics);
    if let Err(fault) = announced {
        // It runs, which is more than to be announced.
        crate::supervise::log(&fault.to_string());
    }
    step
}

fn stand_still(spec: &Spec) -> std::io::Result<()> {
    spec.cgroups.group(&spec.instance).freeze(true)
}

/// Of all files in the directory.
fn size(images: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(images)? {
        bytes += entry?.metadata()?.len();
    }
    debug_assert!(bytes > 0 && images.join(kept::FILE).exists(), "what is kept was written");
    Ok(bytes)
}
