//! The console: what the guest wrote lately, and who looks at it.
//!
//! A viewer is a stream with a position in what was written, so that nobody is waited for: one
//! that reads too slowly misses what the ring has forgotten.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};

use crate::{
    protocol::CONSOLE_BYTES_MAX,
    sys::terminal::{self, Terminal},
};

const VIEWERS_MAX: usize = 16;
const CHUNK_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Console {
    terminal: Terminal,
    ring: VecDeque<u8>,
    /// Bytes that the ring has forgotten.
    forgotten: u64,
    viewers: Vec<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    stream: UnixStream,
    position: u64,
}

impl Console {
    /// With what another terminal in its place has `shown`. The slave is kept open: a master without one answers "hung up" between two openers.
    pub(crate) fn new(terminal: Terminal, shown: Vec<u8>) -> io::Result<Self> {
        let flags = fcntl_getfl(&terminal.master)?;
        fcntl_setfl(&terminal.master, flags | OFlags::NONBLOCK)?;
        let mut console =
            Self { terminal, ring: VecDeque::new(), forgotten: 0, viewers: Vec::new() };
        console.keep(&shown);
        Ok(console)
    }

    pub(crate) const fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.terminal.master.as_fd()
    }

    /// Each viewer's stream, and whether there is something for it.
    pub(crate) fn viewers(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let end = self.end();
        self.viewers.iter().map(move |viewer| (viewer.stream.as_fd(), viewer.position < end))
    }

    fn end(&self) -> u64 {
        self.forgotten + self.ring.len() as u64
    }

    /// Takes what the guest has written.
    pub(crate) fn take(&mut self) {
        let mut bytes = [0; CHUNK_BYTES];
        while let Ok(count) = rustix::io::read(&self.terminal.master, &mut bytes) {
            self.keep(&bytes[..count]);
            if count < CHUNK_BYTES {
                return;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.ring.extend(bytes);
        let excess = self.ring.len().saturating_sub(CONSOLE_BYTES_MAX);
        self.ring.drain(..excess);
        self.forgotten += excess as u64;
    }

    /// A stream for a new viewer; it begins with all that is kept.
    pub(crate) fn view(&mut self, columns: u16, rows: u16) -> io::Result<OwnedFd> {
        if self.viewers.len() >= VIEWERS_MAX {
            return Err(io::Error::other(format!("{VIEWERS_MAX} look at the console already")));
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        if columns > 0 && rows > 0 {
            terminal::resize(self.terminal.master.as_fd(), columns, rows)?;
        }
        self.viewers.push(Viewer { stream: ours, position: self.forgotten });
        Ok(theirs.into())
    }

    /// A file with all that is kept.
    pub(crate) fn log(&self) -> io::Result<OwnedFd> {
        let file = memfd_create("console", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        self.copy(&mut file)?;
        Ok(file.into())
    }

    /// Writes all that is kept into a file.
    pub(crate) fn copy(&self, file: &mut std::fs::File) -> io::Result<()> {
        let (first, second) = self.ring.as_slices();
        file.write_all(first)?;
        file.write_all(second)
    }

    /// Serves the viewers: those that poll said something of, by their order in
    /// [`Self::viewers`].
    pub(crate) fn serve(&mut self, ready: &[(bool, bool)]) {
        let mut number = 0;
        let (ring, forgotten, master) = (&self.ring, self.forgotten, &self.terminal.master);
        self.viewers.retain_mut(|viewer| {
            let (readable, writable) = ready.get(number).copied().unwrap_or_default();
            number += 1;
            (!readable || viewer.hear(master)) && (!writable || viewer.tell(ring, forgotten))
        });
    }

    /// The guest has ended: what is left to say is said, as far as the streams take it.
    pub(crate) fn finish(&mut self) {
        self.take();
        let (ring, forgotten) = (&self.ring, self.forgotten);
        self.viewers.retain_mut(|viewer| viewer.tell(ring, forgotten) && viewer.position > 0);
        self.viewers.clear();
    }
}

impl Viewer {
    /// What was typed goes to the guest; what the guest does not take is dropped. Whether the
    /// viewer is still there.
    fn hear(&mut self, master: &OwnedFd) -> bool {
        let mut bytes = [0; CHUNK_BYTES];
        match io::Read::read(&mut self.stream, &mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                let _ = rustix::io::write(master, &bytes[..count]);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn tell(&mut self, ring: &VecDeque<u8>, forgotten: u64) -> bool {
        self.position = self.position.max(forgotten);
        loop {
            let skip = usize::try_from(self.position - forgotten).unwrap_or(usize::MAX);
            let (first, second) = ring.as_slices();
            let rest = if skip < first.len() {
                &first[skip..]
            } else {
                second.get(skip - first.len()..).unwrap_or_default()
            };
            if rest.is_empty() {
                return true;
            }
            match self.stream.write(rest) {
                Ok(count) => self.position += count as u64,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}
