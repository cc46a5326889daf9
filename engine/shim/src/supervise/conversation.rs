//! One connection, and the program that it started, if any.
//!
//! Nobody is waited for: a message that the other side does not take at once ends the
//! conversation. A program goes on without its conversation, and is reaped all the same.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::moving::Awaited;

use crate::{
    exec::Program,
    protocol::{Exit, Reply, Request},
    sys::{
        process::{self, Ended},
        terminal,
    },
    transport,
};

#[derive(Debug)]
pub(super) struct Conversation {
    socket: Option<OwnedFd>,
    program: Option<Program>,
    watching: bool,
    awaited: Awaited,
}

impl Conversation {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)?;
        Ok(Self { socket: Some(socket), program: None, watching: false, awaited: Awaited::Nothing })
    }

    pub(super) fn watching(mut self) -> Self {
        self.watch();
        self
    }

    pub(super) fn watch(&mut self) {
        self.watching = true;
    }

    /// It is answered later.
    pub(super) fn await_word(&mut self, awaited: Awaited) {
        self.awaited = awaited;
    }

    /// Whether this is what it waits for; then it waits no more.
    pub(super) fn hears(&mut self, awaited: Awaited) -> bool {
        self.awaited == awaited && std::mem::take(&mut self.awaited) == awaited
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(OwnedFd::as_fd)
    }

    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.program.as_ref().map(|program| program.pidfd.as_fd())
    }

    pub(super) fn is_over(&self) -> bool {
        self.socket.is_none() && self.program.is_none()
    }

    /// The next request; the end or nonsense ends it.
    pub(super) fn hear(&mut self) -> Option<(Request, Vec<OwnedFd>)> {
        let socket = self.socket.as_ref()?;
        match transport::receive(socket) {
            Ok(Some(heard)) => Some(heard),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Ok(None) | Err(_) => {
                self.socket = None;
                None
            }
        }
    }

    pub(super) fn tell(&mut self, reply: &Reply, descriptor: Option<&OwnedFd>) {
        let Some(socket) = &self.socket else { return };
        let descriptor = descriptor.map(OwnedFd::as_fd);
        if transport::send(socket, reply, descriptor.as_slice()).is_err() {
            self.socket = None;
        }
    }

    /// The program is this conversation's from now on.
    pub(super) fn run(&mut self, program: Program) -> io::Result<(Reply, Option<OwnedFd>)> {
        let master = match &program.terminal {
            Some(master) => Some(master.try_clone()?),
            None => None,
        };
        let started = Reply::Started { pid: program.pid };
        self.program = Some(program);
        Ok((started, master))
    }

    /// Fine when it has ended.
    pub(super) fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.program {
            Some(program) => process::signal(program.pidfd.as_fd(), signal),
            None => Ok(()),
        }
    }

    /// Fine when it has ended or has no terminal.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match self.program.as_ref().and_then(|program| program.terminal.as_ref()) {
            Some(master) => terminal::resize(master.as_fd(), columns, rows),
            None => Ok(()),
        }
    }

    /// Tells the program's end, if it has ended.
    pub(super) fn reap(&mut self) {
        let Some(program) = &self.program else { return };
        let status = match process::reap(program.pidfd.as_fd()) {
            Ok(None) => return,
            Ok(Some(Ended::Status(status))) => status,
            Ok(Some(Ended::Signal(signal))) => 128 + signal,
            Err(_) => 128,
        };
        self.program = None;
        self.tell(&Reply::Ended { status }, None);
    }

    /// The guest has ended, and everything in it.
    pub(super) fn finish(&mut self, exit: &Exit) {
        self.reap();
        if self.watching {
            self.tell(&Reply::Exited(exit.clone()), None);
        }
    }
}
