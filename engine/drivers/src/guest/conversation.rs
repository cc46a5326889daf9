//! The driver's end of a conversation with a shim.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use stapes_shim::{
    protocol::{Reply, Request},
    record, transport,
};
use tokio::io::{Interest, unix::AsyncFd};

/// How often a shim whose queue of callers is full is called again.
const CALL_AGAIN: Duration = Duration::from_millis(1);

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[derive(Debug)]
pub(super) struct Conversation(AsyncFd<OwnedFd>);

impl Conversation {
    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)?;
        Ok(Self(waitable(socket, BOTH)?))
    }

    /// Calls the shim whose records are in `directory`. `NotFound` and `ConnectionRefused` say
    /// that there is none.
    pub(super) async fn with(directory: &OwnedFd) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let address = SocketAddrUnix::new(record::short_path(directory, record::CONTROL))?;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => return Ok(Self(waitable(socket, BOTH)?)),
                Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(CALL_AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) async fn tell(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let send = |socket: &OwnedFd| transport::send(socket, request, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next reply, with what rides along; `None` when the shim has hung up. Dropped before it
    /// is done, it has taken nothing.
    pub(super) async fn hear(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        let heard = self.0.async_io(Interest::READABLE, |socket| transport::receive(socket)).await;
        match heard {
            // The other end was closed with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            heard => heard,
        }
    }

    /// The process at the other end.
    pub(super) fn peer(&self) -> io::Result<OwnedFd> {
        let peer = rustix::net::sockopt::socket_peercred(self.0.get_ref().as_fd())?;
        Ok(rustix::process::pidfd_open(peer.pid, rustix::process::PidfdFlags::empty())?)
    }
}

/// A descriptor that the runtime can wait on.
pub(super) fn waitable(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers the same open descriptor until it is dropped, and it is dropped
    // after it is taken out of the runtime.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}
