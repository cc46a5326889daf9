//! Closing and opening the host's ends of a guest's interfaces.
//!
//! A closed port is one whose state in its bridge is "disabled": nothing passes in either
//! direction, the carrier stays, and one message does it. The kernel of a guest that stands still
//! would otherwise go on to acknowledge what arrives, and what it acknowledged after the checkpoint
//! would be lost.

use std::io;

use nix::libc;

use crate::{
    fault::{Doing as _, Result},
    spec::Nic,
    sys::netlink::Netlink,
};

const DISABLED: u8 = 0;
const FORWARDING: u8 = 3;

pub(super) fn close(nics: &[Nic]) -> Result<()> {
    let mut netlink = Netlink::open().doing("open rtnetlink")?;
    for nic in nics {
        let words = || format!("close {}", nic.host_name);
        match netlink.set_port_state(&nic.host_name, DISABLED) {
            // The bridge runs a spanning tree, which alone may change states.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                netlink.set_master(&nic.host_name, None).doing_with(words)?;
            }
            answer => answer.doing_with(words)?,
        }
    }
    Ok(())
}

/// Opens those that were closed, and puts those into their bridges that are in none.
pub(super) fn open(nics: &[Nic]) -> Result<()> {
    let mut netlink = Netlink::open().doing("open rtnetlink")?;
    nics.iter().try_for_each(|nic| {
        let opened = netlink
            .set_master(&nic.host_name, Some(&nic.bridge))
            .and_then(|()| forward(&mut netlink, &nic.host_name));
        opened.doing_with(|| format!("open {}", nic.host_name))
    })
}

fn forward(netlink: &mut Netlink, interface: &str) -> io::Result<()> {
    match netlink.set_port_state(interface, FORWARDING) {
        // A spanning tree opens it in its time.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        answer => answer,
    }
}

/// The name that the guest's end of a pair has on the host until CRIU moves it into the guest.
pub(super) fn peer_name(nic: &Nic) -> String {
    /// The kernel's limit without the final NUL.
    const NAME_BYTES_MAX: usize = 15;
    let tail = nic.host_name.len().saturating_sub(NAME_BYTES_MAX - 1);
    format!("~{}", nic.host_name.get(tail..).unwrap_or_default())
}

/// Pairs whose host's ends are up and in no bridge yet.
pub(super) fn make(nics: &[Nic]) -> Result<()> {
    let mut netlink = Netlink::open().doing("open rtnetlink")?;
    for nic in nics {
        let words = || format!("make {}", nic.host_name);
        let peer = peer_name(nic);
        match netlink.add_loose_pair(&nic.host_name, &peer) {
            // Of an incarnation that ended: see `start::connect`.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                netlink.remove(&nic.host_name).doing_with(words)?;
                netlink.add_loose_pair(&nic.host_name, &peer).doing_with(words)?;
            }
            answer => answer.doing_with(words)?,
        }
    }
    Ok(())
}

pub(super) fn remove(nics: &[Nic]) {
    let Ok(mut netlink) = Netlink::open() else { return };
    for nic in nics {
        // The next start under this name removes it otherwise.
        let _ = netlink.remove(&nic.host_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_name_that_the_kernel_takes() {
        let nic = |host_name: &str| Nic {
            name: "eth0".to_owned(),
            host_name: host_name.to_owned(),
            bridge: String::new(),
            mac: [0; 6],
        };
        assert_eq!(peer_name(&nic("veth1")), "~veth1");
        assert_eq!(peer_name(&nic("veth56789abcdef")), "~eth56789abcdef");
    }
}
