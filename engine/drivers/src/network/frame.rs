//! One UDP datagram as a whole Ethernet frame, with every checksum computed here.
//!
//! A DHCP client without an address cannot answer ARP, and reads its replies from a packet socket,
//! where it sees the checksums that the kernel would have left for hardware to fill in. So replies
//! are built whole and sent below the kernel's UDP.

use std::net::Ipv4Addr;

use stapes_core::spec::MacAddress;

const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) mac: MacAddress,
    pub(super) address: Ipv4Addr,
    pub(super) port: u16,
}

/// The frame that carries `payload`; `None` when it is too long for one.
pub(super) fn udp(from: Endpoint, to: Endpoint, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let ip_length = u16::try_from(IP_HEADER + UDP_HEADER + payload.len()).ok()?;
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + usize::from(ip_length));
    frame.extend(to.mac.0);
    frame.extend(from.mac.0);
    frame.extend([0x08, 0x00]);

    let mut ip = [0_u8; IP_HEADER];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
    ip[6] = 0x40; // do not fragment
    ip[8] = HOPS;
    ip[9] = PROTOCOL_UDP;
    ip[12..16].copy_from_slice(&from.address.octets());
    ip[16..20].copy_from_slice(&to.address.octets());
    let checksum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(ip);

    let mut udp = [0_u8; UDP_HEADER];
    udp[0..2].copy_from_slice(&from.port.to_be_bytes());
    udp[2..4].copy_from_slice(&to.port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_length.to_be_bytes());
    let [high, low] = udp_length.to_be_bytes();
    let pseudo_header = [0, PROTOCOL_UDP, high, low];
    // Zero would say that there is none.
    let checksum = match self::checksum(&[&ip[12..20], &pseudo_header, &udp, payload]) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(udp);
    frame.extend(payload);
    Some(frame)
}

/// The Internet checksum over `parts`, each of even length but the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_finds_the_checksums_right() {
        for length in [0, 1, 2, 299, 300] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let mac = MacAddress([0x10, 0x66, 0x6a, 1, 2, 3]);
            let end = |last, port| Endpoint { mac, address: [10, 1, 2, last].into(), port };
            let frame = udp(end(1, 67), end(9, 68), &payload).unwrap();
            let (ip, udp) = frame[ETHERNET_HEADER..].split_at(IP_HEADER);
            assert_eq!(checksum(&[ip]), 0, "{length}");
            let pseudo_header = [0, PROTOCOL_UDP, udp[4], udp[5]];
            assert_eq!(checksum(&[&ip[12..20], &pseudo_header, udp]), 0, "{length}");
            assert_eq!(&udp[UDP_HEADER..], payload);
        }
    }

    #[test]
    fn the_checksum_is_the_one_of_the_textbook() {
        // RFC 1071's example.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn too_much_for_a_frame_is_no_frame() {
        let mac = MacAddress([2; 6]);
        let end = Endpoint { mac, address: [10, 1, 2, 3].into(), port: 1 };
        assert_eq!(udp(end, end, &vec![0; 70_000]), None);
    }
}
