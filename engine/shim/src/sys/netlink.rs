//! The few words of rtnetlink that a start needs, written by hand: a library would be larger than
//! the shim.

use std::{
    ffi::CString,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::libc;

use crate::spec::Nic;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const NLMSG_ERROR: u16 = 2;

const RTM_SETLINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFLA_BRPORT_STATE: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
const AF_BRIDGE: u8 = 7;

const IFF_UP: u32 = 1;
const HEADER_BYTES: usize = 16;

/// A message that grows.
struct Message(Vec<u8>);

impl Message {
    /// Begins with the headers: netlink's, and ifinfomsg.
    fn new(kind: u16, flags: u16, index: u32, up: bool) -> Self {
        let mut message = Self::begun(kind, flags);
        message.interface(index, up);
        message
    }

    /// Of the port that an interface is in its bridge.
    fn of_port(kind: u16, index: u32) -> Self {
        let mut message = Self::begun(kind, 0);
        message.interface_of(AF_BRIDGE, index, false);
        // Neither its flags nor which of them to change: it stays up.
        message
    }

    fn begun(kind: u16, flags: u16) -> Self {
        let mut message = Self(Vec::with_capacity(256));
        message.put(&0_u32.to_ne_bytes());
        message.put(&kind.to_ne_bytes());
        message.put(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.put(&1_u32.to_ne_bytes());
        message.put(&0_u32.to_ne_bytes());
        message
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn interface(&mut self, index: u32, up: bool) {
        self.interface_of(0, index, up);
    }

    fn interface_of(&mut self, family: u8, index: u32, up: bool) {
        let flags = if up { IFF_UP } else { 0 };
        self.put(&[family, 0, 0, 0]);
        self.put(&index.to_ne_bytes());
        self.put(&flags.to_ne_bytes());
        self.put(&flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let at = self.begin(kind);
        self.put(value);
        self.end(at);
    }

    fn begin(&mut self, kind: u16) -> usize {
        let at = self.0.len();
        self.put(&0_u16.to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        at
    }

    fn end(&mut self, at: usize) {
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// A conversation with the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink(std::fs::File);

impl Netlink {
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: a plain call with numbers; the descriptor is new.
        let socket = unsafe {
            let raw = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
            super::answer(libc::c_long::from(raw))?;
            OwnedFd::from_raw_fd(raw)
        };
        Ok(Self(socket.into()))
    }

    fn ask(&mut self, message: Message) -> io::Result<()> {
        self.0.write_all(&message.finish())?;
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer)?;
        let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok());
        let (Some(kind), Some(error)) = (kind, word(HEADER_BYTES)) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        if length < HEADER_BYTES + 4 || u16::from_ne_bytes(kind) != NLMSG_ERROR {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        match i32::from_ne_bytes(error) {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(-number)),
        }
    }

    /// Makes a pair of interfaces: one here, up and in the bridge, one in `namespace`. One
    /// message: there is never half a pair.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_pair(&mut self, nic: &Nic, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let bridge = index_of(&nic.bridge)?;
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, true);
        message.attribute(IFLA_IFNAME, &name(&nic.host_name)?);
        message.attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        let link = message.begin(IFLA_LINKINFO);
        message.attribute(IFLA_INFO_KIND, b"veth\0");
        let data = message.begin(IFLA_INFO_DATA);
        let peer = message.begin(VETH_INFO_PEER);
        // The peer cannot be up from the start: the kernel answers ENOTCONN.
        message.interface(0, false);
        message.attribute(IFLA_IFNAME, &name(&nic.name)?);
        message.attribute(IFLA_ADDRESS, &nic.mac);
        message.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        message.end(peer);
        message.end(data);
        message.end(link);
        self.ask(message)
    }

    /// Makes a pair of interfaces here, the first up, the second for somebody to take away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_loose_pair(&mut self, first: &str, second: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, true);
        message.attribute(IFLA_IFNAME, &name(first)?);
        let link = message.begin(IFLA_LINKINFO);
        message.attribute(IFLA_INFO_KIND, b"veth\0");
        let data = message.begin(IFLA_INFO_DATA);
        let peer = message.begin(VETH_INFO_PEER);
        message.interface(0, false);
        message.attribute(IFLA_IFNAME, &name(second)?);
        message.end(peer);
        message.end(data);
        message.end(link);
        self.ask(message)
    }

    /// Puts an interface into a bridge, or takes it out of the one that it is in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_master(&mut self, interface: &str, bridge: Option<&str>) -> io::Result<()> {
        let bridge = bridge.map_or(Ok(0), index_of)?;
        let mut message = Message::new(RTM_NEWLINK, 0, index_of(interface)?, true);
        message.attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        self.ask(message)
    }

    /// Sets what an interface lets through to and from its bridge, as spanning trees count.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_port_state(&mut self, interface: &str, state: u8) -> io::Result<()> {
        let mut message = Message::of_port(RTM_SETLINK, index_of(interface)?);
        let port = message.begin(IFLA_PROTINFO | NLA_F_NESTED);
        message.attribute(IFLA_BRPORT_STATE, &[state]);
        message.end(port);
        self.ask(message)
    }

    /// Removes an interface; fine when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, interface: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_DELLINK, 0, 0, false);
        message.attribute(IFLA_IFNAME, &name(interface)?);
        match self.ask(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            answer => answer,
        }
    }

    /// # Errors
    /// The kernel's.
    pub fn set_up(&mut self, interface: &str) -> io::Result<()> {
        self.ask(Message::new(RTM_NEWLINK, 0, index_of(interface)?, true))
    }
}

fn name(interface: &str) -> io::Result<Vec<u8>> {
    Ok(super::c_string(interface)?.into_bytes_with_nul())
}

fn index_of(interface: &str) -> io::Result<u32> {
    let name: CString = super::c_string(interface)?;
    // SAFETY: the name is a C string that lives across the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}
