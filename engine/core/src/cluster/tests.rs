//! Members come, are lost, come back, and go.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Enable, evacuation, liveness};
use crate::{
    command::Command,
    ids::NodeId,
    node::{Configure, Evacuation, FencingProof, Join, Start},
    testing::{
        Asked, Done, Failed, Given, House, check, config, create, instance, node, running, target,
    },
};

fn id(name: &str) -> NodeId {
    NodeId::derive(&[name])
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("it is a time")
}

fn enable(name: &str) -> Command {
    Command::EnableCluster(Box::new(Enable {
        cluster: Uuid::from_u128(1),
        node: id("test"),
        name: name.to_owned(),
        address: "10.0.0.1:8443".to_owned(),
        fingerprint: "aa".to_owned(),
    }))
}

fn token(name: &str) -> Command {
    let (name, secret_hash) = (name.to_owned(), format!("hash of {name}"));
    Command::CreateJoinToken { name, secret_hash, expires_at: at(10_000) }
}

fn join(name: &str, secret_of: &str) -> Command {
    let start = Start { name: "ignored".to_owned(), cpus: 4, memory_bytes: 16 << 30, ..node(name) };
    Command::JoinNode(Box::new(Join {
        start,
        address: format!("{name}:8443"),
        fingerprint: format!("of {name}"),
        secret_hash: format!("hash of {secret_of}"),
    }))
}

fn prepare(name: &str) -> Command {
    Command::PrepareNode { node: id(name) }
}

pub(crate) fn lose(name: &str) -> Command {
    Command::LoseNode { node: id(name), by: id("test") }
}

fn remove(name: &str, force: bool) -> Command {
    Command::RemoveNode { name: name.to_owned(), force }
}

fn on(name: &str, node: &str) -> Command {
    let target = Some(node.to_owned());
    create(crate::instance::Create { target, start: true, ..instance(name) })
}

/// `one` (the node that stood alone), and these.
pub(crate) fn members(names: &[&str]) -> Vec<Given> {
    let mut given = vec![Asked(enable("one"))];
    for name in names {
        given.extend([Asked(token(name)), Asked(join(name, name)), Asked(prepare(name)), Done]);
    }
    given
}

fn with(mut given: Vec<Given>, more: &[Given]) -> Vec<Given> {
    given.extend_from_slice(more);
    given
}

#[test]
fn a_cluster_is_enabled_once_and_by_a_good_name() {
    check(&[], enable("one"), "server-cluster-enabled, node-renamed, node-joined");
    check(&members(&[]), enable("one"), "This server is already clustered");
    check(&[], token("two"), "This server is not clustered");
    let rule = "Invalid cluster member name \"a b\": 1 to 63 letters, digits, '-', '_' and '.'";
    check(&[], enable("a b"), rule);
    let house = House::after(&members(&[]));
    let node = house.world.node("one").unwrap();
    assert_eq!((node.address.as_str(), node.groups.len()), ("10.0.0.1:8443", 1));
    assert!(house.world.node("test").is_err());
}

#[test]
fn what_others_rely_on_meets_where_deciders_cannot_pass_each_other() {
    let move_it = Command::MoveInstance {
        target: target("web"),
        to: None,
        live: crate::instance::LivePolicy::Never,
    };
    let web = [Asked(on("web", "one")), Done, Asked(crate::testing::stop("web", true)), Done];
    let house = House::after(&with(members(&["two", "three"]), &web));
    let all = house.guards(&remove("two", false));
    for command in &[on("db", "two"), move_it] {
        let guards = house.guards(command);
        assert_eq!(guards.len(), 1, "{command:?}");
        assert!(guards.is_subset(&all), "{command:?}");
    }
    assert!(house.guards(&crate::testing::start("web")).is_empty());
    // Who decides alone needs none.
    assert!(House::after(&members(&[])).guards(&on("db", "one")).is_empty());
}

#[test]
fn a_token_lets_one_node_join_once() {
    let waiting = with(members(&[]), &[Asked(token("two"))]);
    let joined = "server-token-used, node-started, node-joined";
    check(&waiting, join("two", "two"), joined);
    let none = "No matching join token found: it was used or revoked, or is of another cluster";
    check(&waiting, join("two", "another"), none);
    let there = with(waiting.clone(), &[Asked(join("two", "two"))]);
    check(&there, join("two", "two"), "nothing");
    check(&there, join("three", "two"), none);
    check(&there, token("two"), "The cluster already has a member with name: two");
    let revoke = Command::RevokeJoinToken { name: "two".to_owned() };
    check(&waiting, revoke.clone(), "server-token-revoked");
    check(&there, revoke.clone(), "Join token not found");
    check(&with(waiting.clone(), &[Asked(revoke)]), join("two", "two"), none);
    let house = House::after(&there);
    assert_eq!(house.world.node("two").unwrap().id, id("two"), "the token names it");
}

#[test]
fn what_does_not_fit_cannot_join() {
    let waiting = with(members(&["two"]), &[Asked(token("three"))]);
    let with_join = |change: fn(&mut Join)| {
        let Command::JoinNode(mut wanted) = join("three", "three") else { unreachable!() };
        change(&mut wanted);
        Command::JoinNode(wanted)
    };
    let taken = with_join(|join| "two:8443".clone_into(&mut join.address));
    check(&waiting, taken, "The cluster already has a member with address: two:8443");
    let old = with_join(|join| "0.0.9".clone_into(&mut join.start.version));
    let told = House::after(&waiting).decide(&old);
    assert!(told.contains("version 0.0.9 cannot read this cluster's log"), "{told}");
    let twice = with_join(|join| join.start.node = id("two"));
    check(&waiting, twice, "This server is a member already, as \"two\"");
    let (name, secret_hash) = ("late".to_owned(), "h".to_owned());
    let late = Command::CreateJoinToken { name, secret_hash, expires_at: at(20) };
    let mut expired = with(members(&[]), &[Asked(late)]);
    expired.extend((0..20).map(|n| Asked(token(&format!("n{n}")))));
    let Command::JoinNode(mut wanted) = join("late", "late") else { unreachable!() };
    wanted.secret_hash = "h".to_owned();
    check(&expired, Command::JoinNode(wanted), "The join token for \"late\" has expired");
}

#[test]
fn only_members_start_and_names_are_held_by_one() {
    let start = |id: &str, name: &str| {
        Command::StartNode(Box::new(Start { name: name.to_owned(), ..node(id) }))
    };
    check(&[], start("other", "test"), "Cluster member \"test\" already exists");
    check(&[], start("test", "another name now"), "node-started");
    let stranger = "This server (x) is not a member of the cluster";
    check(&members(&["two"]), start("stranger", "x"), stranger);
    let gone = with(members(&["two"]), &[Asked(remove("two", false))]);
    check(&gone, start("two", "x"), stranger);
}

#[test]
fn a_node_is_lost_and_returns_once() {
    let two = members(&["two", "three"]);
    let lost = with(two.clone(), &[Asked(lose("two"))]);
    let fence = Command::FenceNode { node: id("two"), proof: FencingProof::LeaseExpired };
    let back = Command::ReturnNode { node: id("two") };
    check(&two, lose("two"), "node-lost");
    check(&lost, lose("two"), "nothing");
    check(&two, lose("test"), "\"one\" cannot say that \"one\" is lost");
    let by_lost = Command::LoseNode { node: id("three"), by: id("two") };
    check(&lost, by_lost, "\"two\" cannot say that \"three\" is lost");
    check(&two, fence.clone(), "Cluster member \"two\" is online");
    check(&lost, fence.clone(), "node-fenced");
    let fenced = with(lost.clone(), &[Asked(fence.clone())]);
    check(&fenced, fence, "nothing");
    check(&two, back.clone(), "nothing");
    check(&lost, back.clone(), "node-returned");
    check(&fenced, back, "node-returned");
}

#[test]
fn a_member_goes_when_nothing_lies_on_it() {
    let two = members(&["two"]);
    let used = with(two.clone(), &[Asked(on("web", "two")), Done]);
    check(&two, remove("two", false), "node-removed");
    check(&two, remove("three", false), "Cluster member not found");
    check(&members(&[]), remove("one", true), "Cannot remove the last member of the cluster");
    check(&used, remove("two", false), "Cluster member still has the following instances: web");
    let forced = "instance-deleted, node-removed";
    check(&used, remove("two", true), forced);
    let house = House::after(&with(used, &[Asked(remove("two", true))]));
    assert!(house.world.instances.is_empty() && house.world.node("two").is_err());
    let held: Vec<_> = house.world.names.keys().filter(|name| name.scope == id("two").0).collect();
    assert!(held.is_empty(), "{held:?}");
    assert!(house.world.pool("default").unwrap().parts.is_one());
}

#[test]
fn people_name_and_group_members() {
    let two = members(&["two"]);
    let rename = |from: &str, to: &str| Command::RenameNode { name: from.into(), to: to.into() };
    check(&two, rename("two", "one"), "The cluster already has a member with name: one");
    check(&two, rename("two", "other"), "node-renamed");
    let group = |members: &[&str]| Command::CreateClusterGroup {
        name: "gpu".to_owned(),
        description: String::new(),
        members: members.iter().map(|name| (*name).to_owned()).collect(),
    };
    let grouped = with(two.clone(), &[Asked(group(&["two"]))]);
    let made = "server-group-created, node-configured";
    check(&two, group(&["two"]), made);
    check(&two, group(&["four"]), "Cluster member not found");
    check(&grouped, group(&[]), "Cluster group \"gpu\" already exists");
    let delete = |name: &str| Command::DeleteClusterGroup { name: name.to_owned() };
    check(&grouped, delete("gpu"), "Only empty cluster groups can be removed");
    check(&grouped, delete("default"), "The \"default\" group cannot be deleted");
    let rename = Command::RenameClusterGroup { name: "gpu".into(), to: "fast".into() };
    let house = House::after(&with(grouped.clone(), &[Asked(rename)]));
    assert!(house.world.node("two").unwrap().groups.contains("fast"));
    let none = Command::ConfigureClusterGroup {
        name: "default".to_owned(),
        description: None,
        members: Some(BTreeSet::new()),
    };
    check(&grouped, none, "Cluster member \"one\" would be in no group");
    let set = |pairs: &[(&str, &str)]| Command::ConfigureNode {
        name: "two".to_owned(),
        wanted: Box::new(Configure { config: Some(config(pairs)), ..Configure::default() }),
        expected: None,
    };
    check(&two, set(&[("scheduler.instance", "manual")]), "node-configured");
    let told = House::after(&two).decide(&set(&[("scheduler.instance", "never")]));
    assert!(told.contains("one of all, manual, group"), "{told}");
}

#[test]
fn pools_are_made_on_every_member() {
    let two = members(&["two", "three"]);
    let pool = Command::CreatePool {
        name: "fast".to_owned(),
        driver: "dir".to_owned(),
        description: String::new(),
        config: config(&[]),
    };
    let asked =
        "operation-accepted, storage-pool-created; EnsurePool, EnsurePool@two, EnsurePool@three";
    check(&two, pool.clone(), asked);
    let made = House::after(&with(two.clone(), &[Asked(pool.clone()), Done]));
    assert!(made.world.pool("fast").unwrap().usable().is_ok());
    assert!(made.world.operations.is_empty());
    let failed = House::after(&with(two.clone(), &[Asked(pool.clone()), Failed("no disk")]));
    assert!(failed.world.pool("fast").is_err(), "it is undone on the others");
    assert!(failed.world.operations.is_empty());
    // Who is away makes it when it returns; nobody waits.
    let away = with(two.clone(), &[Asked(lose("three")), Asked(pool), Done]);
    let house = House::after(&away);
    assert!(house.world.pool("fast").unwrap().usable().is_ok());
    let delete = Command::DeletePool { name: "fast".to_owned() };
    let gone = House::after(&with(away, &[Asked(delete), Done]));
    assert!(gone.world.pool("fast").is_err());
    // Who joins gets what there is.
    let joined = [Asked(enable("one")), Asked(token("two")), Asked(join("two", "two"))];
    check(&joined, prepare("two"), PREPARED);
    check(&with(joined.to_vec(), &[Asked(prepare("two"))]), prepare("two"), "nothing");
    let unable = [&joined[..], &[Asked(prepare("two")), Failed("no disk")]].concat();
    let again = "storage-pool-node-asked; EnsurePool@two";
    check(&unable, prepare("two"), again);
}

const PREPARED: &str =
    "storage-pool-node-asked, network-node-asked; EnsurePool@two, EnsureNetwork@two";

#[test]
fn a_request_does_not_wait_for_who_is_lost_meanwhile() {
    let mut house = House::after(&members(&["two"]));
    let pool = Command::CreatePool {
        name: "fast".to_owned(),
        driver: "dir".to_owned(),
        description: String::new(),
        config: config(&[]),
    };
    house.ask(&pool);
    let lost_first = if house.next_task_is_of(id("two")) { id("test") } else { id("two") };
    house.perform_one();
    let by = if lost_first == id("two") { id("test") } else { id("two") };
    let told = house.decide(&Command::LoseNode { node: lost_first, by });
    assert_eq!(told, "node-lost, storage-pool-ready, operation-succeeded");
}

#[test]
fn volumes_lie_on_one_member_and_keep_instances_there() {
    let two = members(&["two"]);
    let volume = Command::CreateVolume {
        project: "default".to_owned(),
        pool: "default".to_owned(),
        name: "data".to_owned(),
        description: String::new(),
        config: config(&[]),
        target: Some("two".to_owned()),
    };
    let there = with(two, &[Asked(volume), Done]);
    let house = House::after(&there);
    assert_eq!(house.world.volume("default", "data").unwrap().node, id("two"));
    check(
        &there,
        remove("two", false),
        "Cluster member still has the following custom volumes: data",
    );
    let data = [("type", "disk"), ("path", "/srv"), ("pool", "default"), ("source", "data")];
    let with_data = |target: Option<&str>| {
        create(crate::instance::Create {
            devices: crate::testing::devices(&[("data", &data)]),
            target: target.map(str::to_owned),
            ..instance("web")
        })
    };
    let placed = House::after(&with(there.clone(), &[Asked(with_data(None)), Done]));
    assert_eq!(placed.instance("web").node, id("two"));
    let refused =
        "Cluster member \"one\" cannot take the instance: volume data lies on two".to_owned();
    check(&there, with_data(Some("one")), &refused);
}

#[test]
fn an_image_is_fetched_from_who_has_it() {
    let house = House::after(&with(members(&["two"]), &[Asked(on("web", "two")), Done]));
    let image = house.world.image("default", "test").unwrap();
    assert_eq!(image.holders, [id("test"), id("two")].into(), "two has fetched it");
}

#[test]
fn an_evacuated_member_takes_nothing_and_gets_back_what_it_had() {
    let two = members(&["two", "three"]);
    let evacuate = Command::EvacuateNode { name: "two".to_owned(), mode: Evacuation::Stop };
    let restore = Command::RestoreNode { name: "two".to_owned() };
    let told = "operation-accepted, node-evacuation-requested";
    check(&two, evacuate.clone(), told);
    check(&two, restore.clone(), "Cluster member \"two\" is not evacuated");
    let started = with(two, &[Asked(on("web", "two")), Done, Asked(evacuate)]);
    let mut house = House::after(&started);
    let web = house.instance("web").id;
    let none = BTreeSet::new();
    let plan = evacuation::next(&house.world, id("two"), &none).unwrap();
    assert_eq!(plan.acts, [(web, evacuation::Act::Stop { force: false })]);
    let refused = "Cluster member \"two\" cannot take the instance: it is being evacuated";
    assert_eq!(house.decide(&on("db", "two")), refused);
    house.ask(&crate::testing::stop("web", false));
    house.perform_all();
    assert!(evacuation::next(&house.world, id("two"), &none).unwrap().is_over());
    let finish = |failed: &[&str]| Command::FinishEvacuation {
        name: "two".to_owned(),
        failed: failed.iter().map(|text| (*text).to_owned()).collect(),
    };
    let failed = house.decide(&finish(&["web: no"]));
    assert_eq!(failed, "node-evacuation-failed, operation-failed");
    house.ask(&finish(&[]));
    assert_eq!(house.decide(&finish(&[])), "nothing");
    house.ask(&restore);
    let plan = evacuation::next(&house.world, id("two"), &none).unwrap();
    assert_eq!(plan.acts, [(web, evacuation::Act::Start)]);
    house.ask(&crate::testing::start("web"));
    house.perform_all();
    assert!(evacuation::next(&house.world, id("two"), &none).unwrap().is_over());
    let over = Command::FinishRestore { name: "two".to_owned(), failed: Vec::new() };
    assert_eq!(house.decide(&over), "node-restored, operation-succeeded");
}

#[test]
fn a_lost_members_instances_are_left_alone() {
    let mut given = members(&["two"]);
    given.extend([Asked(on("web", "two")), Done, Asked(lose("two"))]);
    let told = House::after(&given).decide(&crate::testing::stop("web", true));
    assert!(told.starts_with("Cluster member \"two\" is offline (not heard since "), "{told}");
    let told = House::after(&given).decide(&on("db", "two"));
    assert!(told.starts_with("Cluster member \"two\" is offline (not heard since "), "{told}");
    // Alone, as ever.
    check(&running("web", &[]), on("db", "two"), "Target only allowed when clustered");
    let _ = target("web");
}

mod judging {
    use std::{collections::BTreeMap, time::Duration};

    use super::{House, id, liveness::*, lose, members, with};
    use crate::{
        ids::NodeId,
        node::FencingProof,
        testing::{Asked, Given},
        world::World,
    };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn heard(all: &[(&str, u64, Option<u64>)]) -> BTreeMap<NodeId, Heard> {
        let of = |(name, silent, lost): &(&str, u64, Option<u64>)| {
            let heard = Heard { silent_for: seconds(*silent), lost_for: lost.map(seconds) };
            (id(name), heard)
        };
        all.iter().map(of).collect()
    }

    fn world(given: &[Given]) -> World {
        House::after(given).world
    }

    #[test]
    fn silence_is_loss_and_lasting_loss_is_fencing() {
        let four = members(&["two", "three", "four"]);
        let judged = |world: &World, all: &[_]| judge(world, id("test"), &heard(all)).conclusions;
        let all = world(&four);
        assert_eq!(judged(&all, &[("two", 11, None), ("three", 1, None)]), []);
        let lost = [Conclusion::Lost(id("two"))];
        assert_eq!(judged(&all, &[("two", 12, None), ("three", 1, None)]), lost);
        let one_lost = world(&with(four, &[Asked(lose("two"))]));
        assert_eq!(judged(&one_lost, &[("two", 40, Some(29))]), []);
        let fenced = [Conclusion::Fenced(id("two"), FencingProof::LeaseExpired)];
        assert_eq!(judged(&one_lost, &[("two", 42, Some(30))]), fenced);
        assert_eq!(judged(&one_lost, &[("two", 1, Some(40))]), [Conclusion::Returned(id("two"))]);
        // Who reads that it is lost itself says first that it lives.
        let own = judge(&one_lost, id("two"), &heard(&[("three", 100, None)]));
        assert_eq!(own.conclusions, [Conclusion::Returned(id("two"))]);
    }

    #[test]
    fn many_at_once_are_not_taken_over() {
        let lost = [Asked(lose("two")), Asked(lose("three"))];
        let four = world(&with(members(&["two", "three", "four"]), &lost));
        let both = heard(&[("two", 99, Some(90)), ("three", 99, Some(90)), ("four", 1, None)]);
        let judgement = judge(&four, id("test"), &both);
        assert_eq!(judgement.conclusions, []);
        assert!(judgement.frozen.unwrap().contains("2 of 4 members are silent together"));
    }
}
