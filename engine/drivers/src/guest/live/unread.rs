//! Words of the kernel that a guest has not read yet.
//!
//! CRIU cannot write down a netlink socket that has something to read
//! ([`stapes_shim::live::unread`]). Most are read within the same millisecond; udev's workers leave the
//! last answer for the three seconds that they wait for more work. So it is waited for, while the guest
//! runs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use stapes_shim::live::unread::{self, COMPLAINT};

use super::tasks;

/// A little more than udev's workers idle.
const WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until the guest has read everything. Answers the processes that have not in time.
pub(super) async fn read_by(init: i32) -> Vec<String> {
    let since = Instant::now();
    loop {
        let unread = unread::sockets(init);
        if unread.is_empty() {
            return Vec::new();
        }
        if since.elapsed() > WITHIN {
            return owners(init, &unread);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether CRIU gave up for that reason, or its hook.
pub(super) fn is_why(complaint: &str) -> bool {
    complaint.contains(COMPLAINT)
}

fn owners(init: i32, sockets: &BTreeSet<String>) -> Vec<String> {
    let links: BTreeSet<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let tree = tasks::tree(init).unwrap_or_default();
    let has = |task: &&tasks::Task| task.files().iter().any(|(_, link)| links.contains(link));
    tree.iter().filter(has).map(tasks::Task::named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_is_told() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        let kind = (AddressFamily::Netlink, SockType::Raw);
        let flags = SockFlag::SOCK_CLOEXEC;
        let ours = socket(kind.0, kind.1, flags, SockProtocol::NetlinkRoute).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        // A dump of the links, which is not read.
        let mut request = [0_u8; 20];
        request[0] = 20;
        request[4..8].copy_from_slice(&[18, 0, 1, 3]);
        nix::unistd::write(&ours, &request).unwrap();
        let link =
            std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ours)));
        let link = link.unwrap().to_string_lossy().into_owned();
        let inode = link.trim_start_matches("socket:[").trim_end_matches(']').to_owned();
        let found = unread::sockets(me);
        assert!(found.contains(&inode), "{found:?}");
        assert_eq!(owners(me, &[inode].into()).len(), 1);
    }
}
