//! Words of the kernel that a guest has not read yet: CRIU cannot write down a netlink socket that has
//! something to read.

use std::{collections::BTreeSet, fs};

use super::processes::below;

/// What CRIU says of it, and its hook.
pub const COMPLAINT: &str = "socket has data to read";

/// The sockets that have something to read, by inode, in all networks of the guest with this init:
/// services that are kept away from the network have one each.
#[must_use]
pub fn sockets(init: i32) -> BTreeSet<String> {
    let mut networks = BTreeSet::new();
    let mut found = BTreeSet::new();
    for pid in below(init) {
        // What ended meanwhile has nothing to read.
        let Ok(network) = fs::read_link(format!("/proc/{pid}/ns/net")) else { continue };
        if networks.insert(network) {
            let sockets = fs::read_to_string(format!("/proc/{pid}/net/netlink"));
            found.extend(sockets.unwrap_or_default().lines().skip(1).filter_map(unread));
        }
    }
    found
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`
fn unread(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_unread = fields.get(4).is_some_and(|bytes| *bytes != "0");
    is_unread.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_with_something_to_read_are_found() {
        let head = "00000000e1c89616 0   35         00000000 ";
        let line = |bytes: &str| format!("{head}{bytes:8} 0        0     2        0        409   ");
        assert_eq!(unread(&line("832")).as_deref(), Some("409"));
        assert_eq!(unread(&line("0")), None);
        assert_eq!(unread(""), None);
    }
}
