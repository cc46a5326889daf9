//! Tries DHCP: messages in, messages out.

use stapes_core::port::network::laws::Example;

use super::*;

const XID: u32 = 0x1234_5678;

fn example() -> Example {
    Example::new("lab0", 7)
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.ensure(&example().network()).unwrap();
    let guest = example().reservation("web", 9);
    plan.reserve(guest.instance, &[guest]).unwrap();
    plan
}

fn mac() -> MacAddress {
    example().reservation("web", 9).nic.mac
}

fn reserved() -> Ipv4Addr {
    Ipv4Addr::new(10, 213, 7, 9)
}

fn gateway() -> Ipv4Addr {
    Ipv4Addr::new(10, 213, 7, 1)
}

fn request(kind: MessageType, options: Vec<DhcpOption>) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(XID, none, none, none, none, &mac().0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    message
}

fn ask(message: &Message) -> Option<(Reply, Message)> {
    let reply = answer(&plan(), example().network().network, &message.to_vec().unwrap())?;
    let decoded = Message::decode(&mut dhcproto::Decoder::new(&reply.payload)).unwrap();
    Some((reply, decoded))
}

#[test]
fn a_discover_is_offered_the_reservation() {
    let (reply, offer) = ask(&request(MessageType::Discover, vec![])).unwrap();
    assert_eq!((reply.mac, reply.address), (mac(), reserved()));
    assert!(reply.payload.len() >= LENGTH_MIN);
    assert_eq!((offer.opcode(), offer.xid()), (Opcode::BootReply, XID));
    assert_eq!((offer.yiaddr(), offer.chaddr()), (reserved(), &mac().0[..]));
    let option = |code| offer.opts().get(code).unwrap().clone();
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    assert_eq!(option(OptionCode::ServerIdentifier), DhcpOption::ServerIdentifier(gateway()));
    assert_eq!(
        option(OptionCode::SubnetMask),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))
    );
    assert_eq!(option(OptionCode::Router), DhcpOption::Router(vec![gateway()]));
    let dns = DhcpOption::DomainNameServer(vec![gateway()]);
    assert_eq!(option(OptionCode::DomainNameServer), dns);
    assert_eq!(option(OptionCode::DomainName), DhcpOption::DomainName("law.test".into()));
    assert_eq!(option(OptionCode::Hostname), DhcpOption::Hostname("web".into()));
    assert_eq!(option(OptionCode::AddressLeaseTime), DhcpOption::AddressLeaseTime(3600));
}

#[test]
fn who_can_only_hear_broadcasts_gets_one() {
    let mut message = request(MessageType::Discover, vec![]);
    message.set_flags(message.flags().set_broadcast());
    let (reply, offer) = ask(&message).unwrap();
    assert_eq!((reply.mac, reply.address), (BROADCAST_MAC, Ipv4Addr::BROADCAST));
    assert!(offer.flags().broadcast());
}

#[test]
fn the_reserved_address_is_acknowledged_and_any_other_is_not() {
    let asking = |address| {
        let options = vec![
            DhcpOption::RequestedIpAddress(address),
            DhcpOption::ServerIdentifier(gateway()),
            DhcpOption::ClientIdentifier(vec![1, 2, 3]),
        ];
        ask(&request(MessageType::Request, options)).unwrap()
    };
    let (_, ack) = asking(reserved());
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!(ack.yiaddr(), reserved());
    let identifier = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
    assert_eq!(ack.opts().get(OptionCode::ClientIdentifier), Some(&identifier));

    let (reply, nak) = asking(Ipv4Addr::new(10, 213, 7, 10));
    assert_eq!(nak.opts().msg_type(), Some(MessageType::Nak));
    assert_eq!((nak.yiaddr(), reply.mac), (Ipv4Addr::UNSPECIFIED, BROADCAST_MAC));
    assert_eq!(nak.opts().get(OptionCode::AddressLeaseTime), None);
}

#[test]
fn renewing_is_answered_where_it_came_from() {
    let mut message = request(MessageType::Request, vec![]);
    message.set_ciaddr(reserved());
    message.set_flags(message.flags().set_broadcast());
    let (reply, ack) = ask(&message).unwrap();
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!((reply.mac, reply.address, ack.ciaddr()), (mac(), reserved(), reserved()));
}

#[test]
fn who_has_an_address_already_gets_the_rest() {
    let mut message = request(MessageType::Inform, vec![]);
    message.set_ciaddr(reserved());
    let (_, ack) = ask(&message).unwrap();
    assert_eq!(ack.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(ack.opts().get(OptionCode::AddressLeaseTime), None);
    assert!(ack.opts().contains(OptionCode::Router));
}

#[test]
fn silence_is_the_answer_to_everything_else() {
    let silent = |message: &Message, why: &str| assert!(ask(message).is_none(), "{why}");
    let discover = || request(MessageType::Discover, vec![]);
    let mut unknown = discover();
    unknown.set_chaddr(&[0x10, 0x66, 0x6a, 9, 9, 9]);
    silent(&unknown, "an unknown MAC address");
    let mut relayed = discover();
    relayed.set_giaddr(Ipv4Addr::new(10, 213, 7, 2));
    silent(&relayed, "a relay");
    let mut reply = discover();
    reply.set_opcode(Opcode::BootReply);
    silent(&reply, "a reply");
    for kind in [MessageType::Offer, MessageType::Release, MessageType::Decline] {
        silent(&request(kind, vec![]), "not a question");
    }
    let elsewhere = DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 213, 7, 3));
    silent(&request(MessageType::Request, vec![elsewhere]), "another server was chosen");
    let network = example().network().network;
    for bytes in [&b""[..], b"x", &[0xff; 300], &[1; 240]] {
        assert_eq!(answer(&plan(), network, bytes), None);
    }
    let whole = discover().to_vec().unwrap();
    for length in 0..whole.len() {
        // Cut anywhere, it must not be taken for something else, let alone panic.
        let _ = answer(&plan(), network, &whole[..length]);
    }
}

#[test]
fn a_network_without_dhcp_says_nothing() {
    let mut plan = plan();
    let mut spec = example().network();
    spec.ipv4 = spec.ipv4.map(|ipv4| Ipv4Plan { dhcp: false, ..ipv4 });
    plan.ensure(&spec).unwrap();
    let discover = request(MessageType::Discover, vec![]).to_vec().unwrap();
    assert_eq!(answer(&plan, spec.network, &discover), None);
}
