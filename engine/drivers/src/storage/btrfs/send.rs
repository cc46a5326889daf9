//! A read-only subvolume as the kernel's send stream.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use super::{
    super::{
        envelope::{self, Outlet, sending},
        error::{Context, DriverError},
    },
    ioctl,
};

const BUFFER_BYTES: usize = 256 << 10;

/// Writes what the subvolume is, or what of it differs from the parent. The kernel writes into a
/// pipe of ours on a thread of its own; what goes on is counted here.
pub(super) fn send(
    subvolume: BorrowedFd<'_>,
    parent: Option<u64>,
    outlet: &mut Outlet,
) -> Result<(), DriverError> {
    let (reader, writer) = envelope::pipe()?;
    let (copied, sent) = std::thread::scope(|scope| {
        let kernel = std::thread::Builder::new().name("stapes-send".into());
        let kernel = kernel.spawn_scoped(scope, move || {
            // Closed when the kernel is through: that is the reader's end.
            let writer = writer;
            ioctl::send(subvolume, writer.as_fd(), parent)
        });
        let kernel = kernel.context(|| "starting a thread that sends".into())?;
        // Closed when the other side stops reading: that stops the kernel.
        let copied = copy(File::from(reader), outlet);
        let sent = kernel.join();
        Ok::<_, DriverError>((copied, sent))
    })?;
    copied.map_err(|error| sending(&error))?;
    let sent = sent.map_err(|_| DriverError::Failed("the thread that sends panicked".into()))?;
    sent.context(|| "sending a subvolume".into())
}

fn copy(mut from: File, to: &mut Outlet) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
