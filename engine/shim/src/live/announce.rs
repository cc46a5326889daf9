//! Telling the network where a guest is now: as QEMU does for virtual machines, a RARP broadcast
//! from each interface, from which every bridge and switch on the way learns; and for each IPv4
//! address an ARP broadcast, for who counts on these.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    libc,
    net::if_::{InterfaceFlags, if_nametoindex},
    sys::socket::{SockaddrIn, SockaddrLike as _},
};

use crate::{
    fault::{Doing as _, Result},
    spec::Nic,
    sys::{self, process},
};

const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const ARP_REQUEST: u16 = 1;
const RARP_REQUEST: u16 = 3;
const ADDRESSES_MAX: usize = 64;

/// Announces the guest's interfaces, in its own network namespace.
pub(super) fn announce(guest: BorrowedFd<'_>, nics: &[Nic]) -> Result<()> {
    let words = "announce the guest";
    if nics.is_empty() {
        return Ok(());
    }
    let home: OwnedFd = std::fs::File::open("/proc/self/ns/net").doing(words)?.into();
    process::enter(guest, libc::CLONE_NEWNET).doing(words)?;
    let said = nics.iter().try_for_each(announce_one);
    process::enter(home.as_fd(), libc::CLONE_NEWNET).doing(words)?;
    said.doing(words)
}

/// Tells the network, from an interface here, that a guest with this address is behind it now.
///
/// # Errors
/// When there is no such interface, or nothing can be sent.
pub fn announce_at(interface: &str, mac: [u8; 6]) -> io::Result<()> {
    let index = if_nametoindex(interface)?;
    send(&packet_socket()?, index, RARP, &frame(RARP, RARP_REQUEST, mac, Ipv4Addr::UNSPECIFIED))
}

fn announce_one(nic: &Nic) -> io::Result<()> {
    let index = match if_nametoindex(nic.name.as_str()) {
        // The guest has renamed or removed it.
        Err(nix::Error::ENODEV) => return Ok(()),
        answer => answer.map_err(io::Error::from)?,
    };
    let socket = packet_socket()?;
    send(&socket, index, RARP, &frame(RARP, RARP_REQUEST, nic.mac, Ipv4Addr::UNSPECIFIED))?;
    for address in addresses(&nic.name)? {
        send(&socket, index, ARP, &frame(ARP, ARP_REQUEST, nic.mac, address))?;
    }
    Ok(())
}

fn addresses(interface: &str) -> io::Result<Vec<Ipv4Addr>> {
    let ours = getifaddrs().map_err(io::Error::from)?.filter(|one| {
        one.interface_name == interface && one.flags.contains(InterfaceFlags::IFF_UP)
    });
    let addresses = ours.filter_map(|one| one.address);
    let ipv4 = addresses.filter_map(|one| {
        // SAFETY: the pointer and the length are those of the address itself.
        unsafe { SockaddrIn::from_raw(one.as_ptr(), Some(one.len())) }.map(|one| one.ip())
    });
    Ok(ipv4.take(ADDRESSES_MAX).collect())
}

fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a plain call with numbers, which answers with a new descriptor.
    unsafe { sys::descriptor(libc::c_long::from(libc::socket(libc::AF_PACKET, kind, 0))) }
}

/// Who asks is who is asked for: all that hear it learn where that is.
fn frame(kind: u16, operation: u16, mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&[0xff; 6]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&kind.to_be_bytes());
    // Ethernet (1) and IPv4 (0x0800), whose addresses have 6 and 4 bytes.
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address.octets());
    let target = if kind == RARP { mac } else { [0; 6] };
    frame.extend_from_slice(&target);
    frame.extend_from_slice(&address.octets());
    frame
}

fn send(socket: &OwnedFd, index: u32, kind: u16, frame: &[u8]) -> io::Result<()> {
    // SAFETY: an address of zeros is one.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    to.sll_protocol = kind.to_be();
    to.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&to)).map_err(io::Error::other)?;
    // SAFETY: frame and address live across the call, and their sizes are told.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    match sys::answer(sent as libc::c_long) {
        // Down, by the guest's own wish: it announces itself when it is up.
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_long_as_ethernet_and_arp_together() {
        let mac = [2, 0, 0, 0, 0, 7];
        let arp = frame(ARP, ARP_REQUEST, mac, Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(arp.len(), 42);
        assert_eq!(arp[28..32], arp[38..42], "it asks for itself");
        let rarp = frame(RARP, RARP_REQUEST, mac, Ipv4Addr::UNSPECIFIED);
        assert_eq!((rarp.len(), &rarp[32..38]), (42, mac.as_slice()));
    }
}
