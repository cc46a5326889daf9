//! What is around a tree on its way to another node, the same for every file system:
//!
//! ```text
//! "stapes" 0 1 · length u32 · label (JSON: format, subject, parent) · payload · "the end." · length u64
//! ```
//!
//! The payload knows its own end, and the last eight bytes say how much came before its end mark: half of a stream is
//! never taken for the whole, nor a stream for another.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Write},
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};
use stapes_core::ids::SnapshotId;

use super::{
    error::{Context, DriverError},
    room::Room,
};

/// The last byte is the version of all that is around the payload.
const MAGIC: &[u8; 8] = b"stapes\0\x01";
const END: &[u8; 8] = b"the end.";
const LABEL_BYTES_MAX: u32 = 4096;
const BUFFER_BYTES: usize = 256 << 10;
/// Pipes of this size wake each side less often. Where it is not allowed they stay small.
const PIPE_BYTES: usize = 1 << 20;
/// Whether there is room is looked at every so many bytes.
const ROOM_EVERY_BYTES: u64 = 64 << 20;

/// What a stream says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    /// How the payload is made, with a version: `btrfs-1`, `tree-1`.
    pub(crate) format: String,
    /// The snapshot's id or the image's fingerprint.
    pub(crate) subject: String,
    /// The snapshot that the receiver must have.
    pub(crate) parent: Option<SnapshotId>,
}

/// The pipe to the other node; counts.
#[derive(Debug)]
pub(crate) struct Outlet {
    file: File,
    bytes: u64,
}

impl Outlet {
    pub(crate) fn open(into: OwnedFd, label: &Label) -> Result<Self, DriverError> {
        widen(&into);
        let mut outlet = Self { file: File::from(into), bytes: 0 };
        let text = serde_json::to_vec(label).expect("it has no maps and no failing parts");
        let length = u32::try_from(text.len()).expect("a label is short");
        let head = [MAGIC.as_slice(), &length.to_le_bytes(), &text].concat();
        outlet.write_all(&head).map_err(|error| sending(&error))?;
        Ok(outlet)
    }

    /// Says that this was all, and how much it was.
    pub(crate) fn close(mut self) -> Result<u64, DriverError> {
        let length = self.bytes.to_le_bytes();
        let end = self.write_all(END).and_then(|()| self.write_all(&length));
        end.map_err(|error| sending(&error))?;
        Ok(self.bytes)
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why sending stopped.
pub(crate) fn sending(error: &io::Error) -> DriverError {
    if error.kind() == ErrorKind::BrokenPipe {
        return DriverError::Failed("the other side stopped reading: sending was given up".into());
    }
    DriverError::Failed(format!("sending: {error}"))
}

/// The pipe from the other node. Ends with an error when nobody waits for it any more, or when there
/// is no more room.
#[derive(Debug)]
pub(crate) struct Inlet<'a> {
    file: BufReader<File>,
    bytes: u64,
    abandoned: &'a AtomicBool,
    room: Option<&'a Room>,
    /// Look again from here on.
    look_at: u64,
    /// What a reader in between could not pass on.
    failure: Option<DriverError>,
}

impl<'a> Inlet<'a> {
    pub(crate) fn new(from: OwnedFd, abandoned: &'a AtomicBool, room: Option<&'a Room>) -> Self {
        widen(&from);
        let file = BufReader::with_capacity(BUFFER_BYTES, File::from(from));
        Self { file, bytes: 0, abandoned, room, look_at: 0, failure: None }
    }

    /// Reads the label, which must say what is expected. Answers with the parent that is needed.
    pub(crate) fn open(
        &mut self,
        format: &str,
        subject: &str,
    ) -> Result<Option<SnapshotId>, DriverError> {
        let mut head = [0; MAGIC.len() + 4];
        self.fill(&mut head)?;
        let (magic, length) = head.split_at(MAGIC.len());
        if magic[..7] != MAGIC[..7] {
            return Err(foreign("it does not begin as one"));
        }
        if magic[7] != MAGIC[7] {
            return Err(foreign("the other node speaks another version of it"));
        }
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        if length > LABEL_BYTES_MAX {
            return Err(foreign("its label is too long"));
        }
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        self.fill(&mut text)?;
        let label: Label = serde_json::from_slice(&text)
            .map_err(|error| foreign(&format!("its label cannot be understood: {error}")))?;
        if label.subject != subject {
            return Err(foreign(&format!("it is of {}, not of {subject}", label.subject)));
        }
        if label.format != format {
            return Err(foreign(&format!(
                "it is of the format {}, and this pool takes {format}: the pools of both nodes must \
                 have the same driver",
                label.format
            )));
        }
        Ok(label.parent)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DriverError> {
        self.read_exact(buffer).map_err(|error| self.reading(&error))
    }

    /// After the payload: it must have been whole.
    pub(crate) fn close(mut self) -> Result<u64, DriverError> {
        let before = self.bytes;
        let mut end = [0; END.len() + 8];
        self.fill(&mut end)?;
        let (mark, length) = end.split_at(END.len());
        if mark != END || length != before.to_le_bytes() {
            return Err(foreign("its end is not where it must be"));
        }
        Ok(self.bytes)
    }

    /// Why reading stopped.
    pub(crate) fn reading(&mut self, error: &io::Error) -> DriverError {
        match self.failure.take() {
            Some(failure) => failure,
            None if error.kind() == ErrorKind::UnexpectedEof => DriverError::Failed(
                "the stream ended early: the other node or the connection failed. Nothing was \
                 kept of it"
                    .into(),
            ),
            None => DriverError::Failed(format!("receiving: {error}")),
        }
    }

    pub(crate) const fn abandoned(&self) -> &'a AtomicBool {
        self.abandoned
    }

    /// What stopped the reading, if it was this end.
    pub(crate) fn take_failure(&mut self) -> Option<DriverError> {
        self.failure.take()
    }

    fn check(&mut self) -> Result<(), DriverError> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(given_up());
        }
        if self.bytes >= self.look_at {
            self.look_at = self.bytes + ROOM_EVERY_BYTES;
            self.room.map_or(Ok(()), Room::check)?;
        }
        Ok(())
    }
}

impl Read for Inlet<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.check() {
            let text = error.to_string();
            self.failure = Some(error);
            return Err(io::Error::other(text));
        }
        let read = self.file.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Nobody waits for it any more.
pub(crate) fn given_up() -> DriverError {
    DriverError::Failed("receiving was given up".into())
}

pub(crate) fn foreign(why: &str) -> DriverError {
    DriverError::Refused(format!(
        "what came is not the stream that was asked for ({why}). Nothing was kept of it"
    ))
}

/// A pipe of ours between two threads.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), DriverError> {
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (reader, writer) = pipe.context(|| "making a pipe".into())?;
    widen(&writer);
    Ok((reader, writer))
}

fn widen(pipe: &OwnedFd) {
    let _as_it_was = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}
