//! Tries DNS: questions in, answers out.

use stapes_core::{port::network::laws::Example, spec::Ipv6Plan};

use super::*;

fn example() -> Example {
    Example::new("lab0", 7)
}

/// Guests `web` (both families) and `db` in law.test.
fn plan() -> Plan {
    let mut plan = Plan::default();
    let gateway = "fd42:1:2:3::1".parse().unwrap();
    let ipv6 = Some(Ipv6Plan { gateway, prefix: 64, nat: true });
    plan.ensure(&NetworkSpec { ipv6, ..example().network() }).unwrap();
    let mut web = example().reservation("web", 9);
    web.nic.ipv6 = Some("fd42:1:2:3::9".parse().unwrap());
    let db = example().reservation("db", 10);
    for guest in [web, db] {
        plan.reserve(guest.instance, &[guest]).unwrap();
    }
    plan
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 77;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(name: &str, kind: RecordType) -> Answer {
    let bytes = query(name, kind).to_vec().unwrap();
    answer(&plan(), example().network().network, &bytes, Transport::Udp)
}

fn reply(name: &str, kind: RecordType) -> Message {
    let Answer::Reply(bytes) = ask(name, kind) else { panic!("no reply to {name} {kind}") };
    Message::from_vec(&bytes).unwrap()
}

fn data(name: &str, kind: RecordType) -> Vec<String> {
    let reply = reply(name, kind);
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{name} {kind}");
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn guests_are_found_by_name() {
    for name in ["web.law.test.", "WEB.Law.test.", "web.", "Web."] {
        assert_eq!(data(name, RecordType::A), ["10.213.7.9"], "{name}");
        assert_eq!(data(name, RecordType::AAAA), ["fd42:1:2:3::9"], "{name}");
    }
    let reply = reply("web.law.test.", RecordType::A);
    assert_eq!((reply.metadata.id, reply.queries.len()), (77, 1));
    let flags = (reply.metadata.authoritative, reply.metadata.recursion_available);
    assert_eq!((flags, reply.metadata.recursion_desired), ((true, true), true));
}

#[test]
fn guests_are_found_by_address() {
    assert_eq!(data("9.7.213.10.in-addr.arpa.", RecordType::PTR), ["web.law.test."]);
    let name = Name::from(IpAddr::from([0xfd42, 1, 2, 3, 0, 0, 0, 9])).to_ascii();
    assert_eq!(data(&name, RecordType::PTR), ["web.law.test."]);
    assert_eq!(data("1.7.213.10.in-addr.arpa.", RecordType::PTR), ["_gateway.law.test."]);
}

#[test]
fn a_guest_without_such_an_address_has_no_data() {
    for (name, kind) in [("db.law.test.", RecordType::AAAA), ("db.law.test.", RecordType::MX)] {
        assert!(data(name, kind).is_empty(), "{name} {kind}");
        assert_eq!(reply(name, kind).authorities.len(), 1);
    }
}

#[test]
fn what_is_ours_and_unknown_does_not_exist() {
    let unknown = ["no.law.test.", "a.web.law.test.", "no.", "8.7.213.10.in-addr.arpa."];
    for name in unknown {
        let reply = reply(name, RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(reply.authorities[0].record_type(), RecordType::SOA, "{name}");
    }
}

#[test]
fn everything_else_is_for_the_servers_above() {
    for name in ["example.org.", "law.test.example.org.", "notlaw.test.", "1.1.1.1.in-addr.arpa."] {
        assert_eq!(ask(name, RecordType::A), Answer::Forward, "{name}");
    }
    assert_eq!(ask("com.", RecordType::DS), Answer::Forward);
    assert_eq!(ask(".", RecordType::NS), Answer::Forward);
}

#[test]
fn the_zone_itself_is_there() {
    assert_eq!(data("law.test.", RecordType::NS), ["law.test."]);
    assert_eq!(data("law.test.", RecordType::SOA).len(), 1);
    assert!(data("law.test.", RecordType::A).is_empty());
}

#[test]
fn what_is_no_query_gets_no_answer_or_a_refusal() {
    let network = example().network().network;
    let say = |bytes: &[u8]| answer(&plan(), network, bytes, Transport::Udp);
    for silent in [&b""[..], b"x", &[0xff; 40]] {
        assert_eq!(say(silent), Answer::Silence);
    }
    let mut response = query("web.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(say(&response.to_vec().unwrap()), Answer::Silence);

    let code = |bytes: &[u8]| {
        let Answer::Reply(bytes) = say(bytes) else { panic!("no reply") };
        Message::from_vec(&bytes).unwrap().metadata.response_code
    };
    let whole = query("web.law.test.", RecordType::A).to_vec().unwrap();
    assert_eq!(code(&whole[..20]), ResponseCode::FormErr);
    let mut update = query("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update.to_vec().unwrap()), ResponseCode::NotImp);
    let mut two = query("web.", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two.to_vec().unwrap()), ResponseCode::FormErr);
}

#[test]
fn many_answers_are_cut_for_datagrams_only() {
    let mut plan = plan();
    for last in 20..120 {
        let mut guest = example().reservation(&format!("g{last}"), last);
        guest.hostname = "many".into();
        plan.reserve(guest.instance, &[guest]).unwrap();
    }
    let bytes = query("many.", RecordType::A).to_vec().unwrap();
    let ask = |via| match answer(&plan, example().network().network, &bytes, via) {
        Answer::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        Answer::Forward | Answer::Silence => panic!("no reply"),
    };
    let cut = ask(Transport::Udp);
    assert_eq!((cut.metadata.truncation, cut.answers.len()), (true, 0));
    let whole = ask(Transport::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 100));
}

#[test]
fn a_failure_above_is_told_under_the_same_id() {
    let bytes = query("example.org.", RecordType::A).to_vec().unwrap();
    let Answer::Reply(reply) = failure(&bytes) else { panic!("no reply") };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!((reply.metadata.id, reply.queries.len()), (77, 1));
}
