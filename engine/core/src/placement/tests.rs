//! Where instances go.

use std::collections::BTreeSet;

use super::{SLOTS, slot};
use crate::{
    cluster::tests::{lose, members},
    command::{Command, decide},
    ids::{InstanceId, NodeId},
    instance::{self, Create, Source},
    node::Configure,
    task::Work,
    testing::{Asked, Done, Given, House, config, create, import, instance},
};

fn set(name: &str, wanted: Configure) -> Given {
    let name = name.to_owned();
    Asked(Command::ConfigureNode { name, wanted: Box::new(wanted), expected: None })
}

fn wanted(name: &str, pairs: &[(&str, &str)], target: Option<&str>) -> Command {
    let target = target.map(str::to_owned);
    create(Create { config: config(pairs), target, ..instance(name) })
}

/// The node's name, or why there is none.
fn placed(given: &[&[Given]], command: Command) -> String {
    let mut house = House::after(&given.concat());
    let told = house.decide(&command);
    if !told.starts_with("operation-accepted") {
        return told;
    }
    house.ask(&command);
    let node = house.world.instances.values().last().map(|_| house.instance("new").node);
    house.world.nodes[&node.unwrap()].name.clone()
}

#[test]
fn a_named_member_is_taken_or_says_why_not() {
    let three = members(&["two", "three"]);
    let at = |target| wanted("new", &[], Some(target));
    assert_eq!(placed(&[&three], at("two")), "two");
    assert_eq!(placed(&[&three], at("four")), "Cluster member not found");
    assert_eq!(placed(&[&three], at("@gpu")), "Cluster group not found");
    let group = Asked(Command::CreateClusterGroup {
        name: "gpu".to_owned(),
        description: String::new(),
        members: ["three".to_owned()].into(),
    });
    assert_eq!(placed(&[&three, &[group]], at("@gpu")), "three");
    let big = wanted("new", &[("limits.memory", "12GiB")], Some("one"));
    let refused = "Cluster member \"one\" cannot take the instance: it has 8192 MiB of memory";
    assert_eq!(placed(&[&three], big), refused);
}

#[test]
fn room_company_and_wishes_weigh() {
    let three = members(&["two", "three"]);
    let new = |pairs: &[(&str, &str)]| wanted("new", pairs, None);
    let manual = |name: &str| {
        set(
            name,
            Configure {
                config: Some(config(&[("scheduler.instance", "manual")])),
                ..Configure::default()
            },
        )
    };
    assert_eq!(placed(&[&three, &[manual("one"), manual("two")]], new(&[])), "three");
    let none = "No cluster member can take the instance: ";
    let told = placed(&[&three, &[manual("one"), manual("two"), Asked(lose("three"))]], new(&[]));
    assert!(told.starts_with(none) && told.contains("three: unreachable"), "{told}");
    // The smallest has no room, and the first of the two others is full of what is promised.
    let db = |on: &str| Asked(wanted("db", &[("limits.memory", "15GiB")], Some(on)));
    for (on, other) in [("two", "three"), ("three", "two")] {
        let big = new(&[("limits.memory", "9GiB")]);
        assert_eq!(placed(&[&three, &[db(on), Done]], big), other);
        let beside = new(&[("placement.affinity", "db")]);
        assert_eq!(placed(&[&three, &[db(on), Done]], beside), on);
    }
    let alike = [("placement.spread", "web")];
    let web = |on: &str| [Asked(wanted(&format!("web-{on}"), &alike, Some(on))), Done];
    assert_eq!(placed(&[&three, &web("two"), &web("one")], new(&alike)), "three");
    let rack = |name: &str| {
        let failure_domain = Some("rack".to_owned());
        set(name, Configure { failure_domain, ..Configure::default() })
    };
    let racked = [rack("two"), rack("three")];
    assert_eq!(placed(&[&three, &racked, &web("two")], new(&alike)), "one");
}

#[test]
fn an_image_comes_from_a_member_that_has_it() {
    let three = members(&["two", "three"]);
    let id = |name: &str| NodeId::derive(&[name]);
    let images = [
        Asked(import("cd", "far", Some(id("two")))),
        Asked(import("ef", "near", Some(id("three")))),
    ];
    let of = |image: &str, target: &str| {
        let source = Source::Image(image.to_owned());
        create(Create { source, target: Some(target.to_owned()), ..instance("new") })
    };
    let here = [three.as_slice(), images.as_slice()];
    assert_eq!(placed(&here, of("far", "three")), "three");
    let mut house = House::after(&here.concat());
    house.ask(&of("far", "three"));
    let holder = |house: &House| {
        let (work, _) = house.ordered();
        let Work::CreateRoot { image_at, .. } = work else { panic!("{work:?}") };
        image_at.iter().map(|peer| peer.node).collect::<Vec<_>>()
    };
    assert_eq!(holder(&house), [id("two")]);
    // Once made, it is there as well: whoever asks next is told of both, who is heard first.
    house.perform_all();
    let both = [three.as_slice(), &images, &[Asked(of("far", "three")), Done, Asked(lose("two"))]];
    let mut house = House::after(&both.concat());
    house.ask(&create(Create {
        source: Source::Image("far".to_owned()),
        target: Some("one".to_owned()),
        ..instance("next")
    }));
    assert_eq!(holder(&house), [id("three"), id("two")]);
    // Nobody who has it is heard.
    let away = [three.as_slice(), &images, &[Asked(lose("two"))]];
    let why = "the image is on two only, which nobody hears";
    let refused = format!("Cluster member \"three\" cannot take the instance: {why}");
    assert_eq!(placed(&away, of("far", "three")), refused);
    let anywhere = create(Create { source: Source::Image("far".to_owned()), ..instance("new") });
    let told = placed(&away, anywhere);
    assert!(told.contains(&format!("three: {why}")) && told.contains("two: unreachable"), "{told}");
    assert_eq!(placed(&away, of("near", "three")), "three");
}

#[test]
fn it_is_written_down_why() {
    let house = House::after(&members(&["two"]));
    let command = wanted("new", &[], None);
    let decision = house.told_placement(&command);
    assert_eq!(decision.len(), 2);
    assert!(decision[0].score >= decision[1].score);
    assert!(decision.iter().any(|it| it.reasons.contains(&"has the image".to_owned())));
}

#[test]
fn instances_made_at_the_same_time_do_not_want_the_same_ids() {
    let house = House::after(&members(&["two"]));
    let node = house.world.node("two").unwrap().id;
    let of = |number: u32| InstanceId::derive(&[&number.to_string()]);
    let slots: BTreeSet<u32> =
        (0..100).map(|number| slot(&house.world, node, of(number)).unwrap()).collect();
    assert!(slots.len() >= 98, "{slots:?}");
    assert!(slots.iter().all(|slot| *slot < SLOTS));
}

#[test]
fn many_nodes_and_instances_are_weighed_at_once() {
    let count = 1000_u32;
    let mut house = House::after(&members(&["two"]));
    let (one, two) = (house.world.node("one").unwrap().clone(), house.world.node("two").unwrap());
    let mut nodes = vec![one.id, two.id];
    let pool = house.world.pool("default").unwrap().id;
    let network = house.world.network("default", "stapesbr0").unwrap().id;
    for n in 2..1000 {
        let id = NodeId::derive(&[&n.to_string()]);
        house
            .world
            .nodes
            .insert(id, crate::node::Node { id, name: format!("n{n}"), ..one.clone() });
        let parts = &mut house.world.pools.get_mut(&pool).unwrap().parts;
        parts.ask(id, crate::ids::Generation(1));
        parts.set(id, crate::resource::PartState::Ready);
        let parts = &mut house.world.networks.get_mut(&network).unwrap().parts;
        parts.ask(id, crate::ids::Generation(1));
        parts.set(id, crate::resource::PartState::Ready);
        nodes.push(id);
    }
    house.ask(&wanted("first", &[("limits.memory", "1MiB")], None));
    let created = house.world.instances.values().next().unwrap().clone();
    for n in 0..count {
        let id = InstanceId::derive(&[&n.to_string()]);
        let node = nodes[n as usize % nodes.len()];
        let mut it = instance::Instance { id, node, name: format!("i{n}"), ..created.clone() };
        let claim = super::Claim::of(&house.world, &it);
        house.world.ledger.settle(id, None, Some(&claim));
        it.claim = Some(claim);
        house.world.instances.insert(id, it);
    }
    let context = house.any_context();
    let command = wanted("new", &[("limits.memory", "1MiB")], None);
    let decision = decide(&house.world, &context, &command).unwrap();
    assert!(decision.events.iter().any(|(_, events)| !events.is_empty()));
}
