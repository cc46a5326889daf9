//! Measuring a guest: its cgroups say what it uses, its network namespace what it sent.
//!
//! A thread of its own enters the namespace and ends there: one of the runtime's would stay lost
//! in it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    sync::Arc,
};

use nix::libc;
use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{Measured, MeasuredInterface},
    },
};
use stapes_shim::{cgroup::Usage, sys};
use tokio::sync::oneshot;

use super::{Inner, convert::failed};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER_BYTES: usize = 16;
/// Bytes of a dump at most: some hundred interfaces.
const DUMP_BYTES_MAX: usize = 4 << 20;

impl Inner {
    pub(super) async fn measure(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<Measured, DriverError> {
        let known = self.must_know(instance)?;
        let (pid, ticks) = (known.hello.pid, known.hello.start_ticks);
        let (answer, interfaces) = oneshot::channel();
        let thread = std::thread::Builder::new().name("measure".to_owned());
        thread
            // The asker may have gone away meanwhile.
            .spawn(move || drop(answer.send(interfaces_of(pid, ticks))))
            .map_err(failed("measure the guest"))?;
        let usage = move |inner: &Self| inner.layout.group(&instance.to_string()).usage();
        let (usage, interfaces) = tokio::join!(self.blocking(usage), interfaces);
        let Usage { processes, cpu_ns, memory_bytes, memory_peak_bytes, swap_bytes } = usage?;
        let interfaces = interfaces
            .unwrap_or_else(|_| Err(io::Error::other("the measuring thread is lost")))
            .map_err(failed("measure the guest's interfaces"))?;
        let host_name = |name: &str| {
            let nic = known.spec.nics.iter().find(|nic| nic.name == name);
            nic.map(|nic| nic.host_name.clone()).unwrap_or_default()
        };
        let named =
            |one: MeasuredInterface| MeasuredInterface { host_name: host_name(&one.name), ..one };
        Ok(Measured {
            pid,
            processes,
            cpu_ns,
            memory_bytes,
            memory_peak_bytes,
            swap_bytes,
            interfaces: interfaces.into_iter().map(named).collect(),
        })
    }
}

/// Runs in a thread that ends afterwards.
fn interfaces_of(pid: i32, ticks: u64) -> io::Result<Vec<MeasuredInterface>> {
    let number = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd = rustix::process::pidfd_open(number, flags)?;
    // Held by the pidfd, the pid cannot become another's while it is looked at.
    if sys::process::start_ticks(pid)? != ticks {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let namespace = sys::process::net_namespace(pidfd.as_fd(), pid)?;
    sys::process::enter(namespace.as_fd(), libc::CLONE_NEWNET)?;
    let mut socket = netlink()?;
    let mut interfaces = BTreeMap::new();
    dump(&mut socket, RTM_GETLINK, |kind, body| {
        if kind == RTM_NEWLINK {
            interfaces.extend(link(body));
        }
    })?;
    dump(&mut socket, RTM_GETADDR, |kind, body| {
        if kind == RTM_NEWADDR
            && let Some((index, address)) = address(body)
            && let Some(interface) = interfaces.get_mut(&index)
        {
            interface.addresses.push(address);
        }
    })?;
    Ok(interfaces.into_values().collect())
}

fn netlink() -> io::Result<std::fs::File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: a plain call with numbers; the descriptor is new.
    let socket = unsafe {
        let raw = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(raw)
    };
    Ok(socket.into())
}

/// Asks for all of something, and shows each message.
fn dump(
    socket: &mut std::fs::File,
    question: u16,
    mut show: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let mut request = Vec::with_capacity(HEADER_BYTES + 4);
    request.extend_from_slice(&20_u32.to_ne_bytes());
    request.extend_from_slice(&question.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend_from_slice(&[0; 12]);
    socket.write_all(&request)?;
    let mut bytes = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let length = socket.read(&mut bytes)?;
        total += length;
        if length == 0 || total > DUMP_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let mut rest = &bytes[..length];
        while let Some((kind, body, after)) = message(rest) {
            if kind == NLMSG_DONE {
                return Ok(());
            }
            show(kind, body);
            rest = after;
        }
    }
}

fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER_BYTES..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, body, after))
}

/// The attributes after a fixed part.
fn attributes(bytes: &[u8], fixed: usize) -> BTreeMap<u16, &[u8]> {
    let mut found = BTreeMap::new();
    let mut rest = bytes.get(fixed..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        found.insert(kind & 0x3fff, value);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn link(body: &[u8]) -> Option<(u32, MeasuredInterface)> {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const MTU: u16 = 4;
    const STATISTICS: u16 = 23;
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let attributes = attributes(body, 16);
    let name = attributes.get(&NAME)?.split(|byte| *byte == 0).next()?;
    let mac = attributes
        .get(&ADDRESS)
        .map(|mac| mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"));
    // struct rtnl_link_stats64: packets and bytes received and sent come first.
    let statistics = attributes.get(&STATISTICS).copied().unwrap_or_default();
    let count = |number: usize| u64_at(statistics, number * 8).unwrap_or(0);
    Some((
        index,
        MeasuredInterface {
            name: String::from_utf8_lossy(name).into_owned(),
            host_name: String::new(),
            mac: mac.unwrap_or_default(),
            mtu: attributes.get(&MTU).and_then(|mtu| u32_at(mtu, 0)).unwrap_or(0),
            up: flags & libc::IFF_UP.unsigned_abs() != 0,
            loopback: flags & libc::IFF_LOOPBACK.unsigned_abs() != 0,
            addresses: Vec::new(),
            packets_received: count(0),
            packets_sent: count(1),
            bytes_received: count(2),
            bytes_sent: count(3),
        },
    ))
}

fn address(body: &[u8]) -> Option<(u32, (IpAddr, u8, String))> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let (prefix, scope) = (*body.get(1)?, *body.get(3)?);
    let attributes = attributes(body, 8);
    let bytes = *attributes.get(&LOCAL).or_else(|| attributes.get(&ADDRESS))?;
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    let scope = match scope {
        253 => "link",
        254 => "local",
        _ => "global",
    };
    Some((u32_at(body, 4)?, (address, prefix, scope.to_owned())))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
