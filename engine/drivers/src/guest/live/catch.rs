//! What is sent to a guest while it stands still, kept for when it goes on.
//!
//! A client whose packet got lost sends it again after 0.2, 0.4, 0.8 ... seconds: a guest that is away
//! for half a second would be missed for nearly a whole one. So the host that a guest comes to says
//! at once that the guest is there, and keeps what arrives: in the receive buffer of a socket that
//! sees the guest's frames on every interface, before its bridge drops them. Once the guest runs it
//! is given them.
//!
//! All of it is a help: what goes wrong here is told, and costs a client a moment.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use nix::{libc, net::if_::if_nametoindex};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use stapes_core::{
    ids::InstanceId,
    spec::{GuestSpec, NicSpec},
};
use stapes_shim::live::announce::announce_at;

use crate::{
    guest::{Inner, locked},
    network::packet_address,
};

/// Frames that are handed on at most; the kernel keeps fewer.
const FRAMES_MAX: usize = 1024;
/// A frame of the longest kind, whose segments are not cut yet, and what the kernel says of it.
const FRAME_BYTES_MAX: usize = (64 << 10) + 256;
const EVERY_PROTOCOL: u16 = 3_u16.to_be();

/// One interface's frames.
#[derive(Debug)]
pub(in crate::guest) struct Catch {
    socket: Socket,
    host_name: String,
}

impl Inner {
    /// The guest's frames come here from now on, and are kept.
    pub(in crate::guest) fn attract(&self, spec: &GuestSpec) {
        let begun: io::Result<Vec<Catch>> = spec.nics.iter().map(Catch::begin).collect();
        match begun {
            Ok(catches) => locked(&self.slot(spec.instance).state).catches = catches,
            Err(error) => tracing::warn!(
                instance = %spec.instance, %error, "what is sent to the guest is not kept"
            ),
        }
    }

    /// Gives the guest what was kept.
    pub(super) fn hand_on(&self, instance: InstanceId) {
        let catches = std::mem::take(&mut locked(&self.slot(instance).state).catches);
        for catch in &catches {
            match catch.hand_on() {
                Ok(frames) => tracing::info!(%instance, frames, "given what was sent meanwhile"),
                Err(error) => {
                    tracing::warn!(%instance, %error, "what was sent meanwhile is lost");
                }
            }
        }
        // The kernel takes its time to close such sockets, and nobody waits for it.
        tokio::task::spawn_blocking(move || drop(catches));
    }
}

impl Catch {
    fn begin(nic: &NicSpec) -> io::Result<Self> {
        let socket = packet_socket()?;
        socket.attach_filter(&to(nic.mac.0))?;
        socket.bind(&packet_address(0, EVERY_PROTOCOL)?)?;
        announce_at(&nic.bridge, nic.mac.0)?;
        Ok(Self { socket, host_name: nic.host_name.clone() })
    }

    fn hand_on(&self) -> io::Result<usize> {
        let sender = packet_socket()?;
        let port = packet_address(if_nametoindex(self.host_name.as_str())?, 0)?;
        let mut frame = vec![0; FRAME_BYTES_MAX];
        for count in 0..FRAMES_MAX {
            match rustix::io::read(&self.socket, &mut frame) {
                Ok(length) => sender.send_to(&frame[..length], &port).map(drop)?,
                Err(rustix::io::Errno::AGAIN) => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(FRAMES_MAX)
    }
}

/// With each frame comes what the kernel knows of it: on its way between two programs of one host
/// its checksum is not there yet, nor is it cut into packets.
fn packet_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    tell_more(socket.as_fd())?;
    Ok(socket)
}

fn tell_more(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the value lives across the call, and its size is told.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw const on).cast(),
            length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Passes frames to this address that come in, and nothing else.
fn to(mac: [u8; 6]) -> [SockFilter; 8] {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // What the kernel has beside the frame itself (SKF_AD_OFF), there the kind (SKF_AD_PKTTYPE).
    const KIND: u32 = 0xffff_f004;
    const OUTGOING: u32 = 4;
    let [a, b, c, d, e, f] = mac;
    let front = u32::from_be_bytes([a, b, c, d]);
    let back = u32::from(u16::from_be_bytes([e, f]));
    [
        SockFilter::new(LOAD_WORD, 0, 0, KIND),
        SockFilter::new(IS, 5, 0, OUTGOING),
        SockFilter::new(LOAD_WORD, 0, 0, 0),
        SockFilter::new(IS, 0, 3, front),
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(IS, 0, 1, back),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
