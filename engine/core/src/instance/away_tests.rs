//! What is decided about instances whose node nobody hears, case by case. Work on their node is told
//! without a place.

use crate::{
    cluster::tests::lose,
    command::Command,
    config::Config,
    ids::Epoch,
    instance::{LivePolicy, Reconfigure, Status},
    name::NameKind,
    node::FencingProof,
    testing::{
        Answered, Asked, Done, Failed, Given, House, Members, check, config, create, delete,
        instance, node as start_of, restart, snapshot, start, stop, stopped, target,
    },
};

const ONE: Given = Answered(None);

fn given(parts: &[&[Given]]) -> Vec<Given> {
    parts.concat()
}

/// `two` is lost, and heard of by `test`.
fn lost() -> Given {
    Asked(lose("two"))
}

fn fenced() -> Given {
    let (node, proof) = (start_of("two").node, FencingProof::LeaseExpired);
    Asked(Command::FenceNode { node, proof })
}

fn on_two(name: &str, pairs: &[(&str, &str)]) -> Vec<Given> {
    let (config, target) = (config(pairs), Some("two".to_owned()));
    let wanted = crate::instance::Create { config, target, start: true, ..instance(name) };
    given(&[&[Members], &[Asked(create(wanted)), Done]])
}

/// With a copy on `three`, and highly available.
fn available() -> Vec<Given> {
    let pairs = [("cluster.ha", "true"), ("replication.target", "three")];
    let web = on_two("web", &pairs);
    let instance = House::after(&web).instance("web").id;
    given(&[&web, &[Asked(Command::ReplicateInstance { instance }), Done]])
}

fn moves(to: Option<&str>) -> Command {
    let (target, to) = (target("web"), to.map(str::to_owned));
    Command::MoveInstance { target, to, live: LivePolicy::Preferred }
}

fn set(pairs: &[(&str, &str)]) -> Command {
    let wanted = Reconfigure { config: Some(config(pairs)), ..Reconfigure::default() };
    Command::ReconfigureInstance { target: target("web"), wanted: Box::new(wanted) }
}

fn is_refused(given: &[Given], command: &Command, hint: &str) {
    let refusal = House::after(given).refusal(command);
    let told = refusal.to_string();
    assert!(told.starts_with("Cluster member \"two\" is offline (not heard since "), "{told}");
    let told = refusal.hint().unwrap_or_default();
    assert!(told.contains(hint), "{told}");
}

#[test]
fn what_its_node_would_have_to_do_is_refused_at_once() {
    let web = given(&[&on_two("web", &[]), &[lost()]]);
    let rename = Command::RenameInstance { target: target("web"), to: "db".to_owned() };
    let exec = Command::BeginExec { target: target("web"), command: vec!["true".to_owned()] };
    let commands = [
        start("web"),
        stop("web", false),
        stop("web", true),
        restart("web", true),
        Command::FreezeInstance { target: target("web") },
        delete("web", false),
        rename,
        set(&[("limits.memory", "1GiB")]),
        snapshot("web", "s0"),
        exec,
        moves(Some("three")),
        moves(None),
    ];
    for command in &commands {
        is_refused(&web, command, "stapes cluster remove two --force");
        is_refused(&given(&[&web, &[fenced()]]), command, "stapes cluster remove two --force");
    }
    // Nothing else waits for it.
    let elsewhere = given(&[&web, &stopped("db", &[])]);
    assert_ne!(House::after(&elsewhere).instance("db").node, start_of("two").node);
    let back = Asked(Command::ReturnNode { node: start_of("two").node });
    let stops = "operation-accepted, instance-stop-requested; Stop@two";
    check(&given(&[&web, &[back]]), stop("web", false), stops);
}

#[test]
fn what_needs_no_node_is_done() {
    let web = given(&[&on_two("web", &[]), &[Asked(snapshot("web", "s0")), Done, lost()]]);
    let (from, to) = ("s0".to_owned(), "s1".to_owned());
    let rename = Command::RenameSnapshot { target: target("web"), from, to };
    let told = House::after(&web).decide(&rename);
    assert!(told.contains("instance-snapshot-renamed"), "{told}");
}

#[test]
fn a_forced_deletion_forgets_it_and_its_node_removes_it_later() {
    let web = given(&[&on_two("web", &[]), &[lost()]]);
    let gone = "operation-accepted, operation-succeeded, instance-deleted; DeleteInstance@two";
    check(&web, delete("web", true), gone);
    // Also what was under way.
    let busy = given(&[&on_two("web", &[]), &[Asked(stop("web", false)), lost()]]);
    let ended = "operation-accepted, operation-succeeded, instance-deleted, operation-failed; DeleteInstance@two";
    check(&busy, delete("web", true), ended);
    let house = House::after(&given(&[&busy, &[Asked(delete("web", true)), Done]]));
    assert!(house.world.instances.is_empty() && house.world.operations.is_empty());
    assert_eq!(house.world.held(NameKind::IdMap, start_of("two").node).count(), 0);
    check(
        &given(&[&busy, &[Asked(delete("web", true))]]),
        create(instance("web")),
        "operation-accepted, instance-created, instance-create-requested; CreateRoot",
    );
    let copied = given(&[&available(), &[lost()]]);
    let both = "operation-accepted, operation-succeeded, instance-deleted; \
                DeleteInstance@two, DeleteInstance@three";
    check(&copied, delete("web", true), both);
    let kept = given(&[&on_two("web", &[("security.protection.delete", "true")]), &[lost()]]);
    check(&kept, delete("web", true), "Instance is protected");
}

#[test]
fn a_move_that_is_cut_short_leaves_nothing_when_its_instance_is_forgotten() {
    let web = on_two("web", &[]);
    let to_three = Command::MoveInstance {
        target: target("web"),
        to: Some("three".to_owned()),
        live: LivePolicy::Never,
    };
    // It is being stopped, which ends somehow, when its node is lost.
    let stopping = given(&[&web, &[Asked(to_three), ONE, lost()]]);
    let gone = "operation-accepted, operation-succeeded, instance-deleted, operation-failed; \
                DeleteInstance@two, DeleteInstance@three";
    check(&stopping, delete("web", true), gone);
    let house = House::after(&given(&[&stopping, &[Asked(delete("web", true)), Done]]));
    for name in ["two", "three"] {
        assert_eq!(house.world.held(NameKind::IdMap, start_of(name).node).count(), 0, "{name}");
    }
}

#[test]
fn a_move_of_what_is_available_takes_it_over() {
    let web = given(&[&available(), &[lost()]]);
    let soon = "three has its copy and takes it over when two is known to be gone";
    is_refused(&web, &moves(None), soon);
    is_refused(&web, &start("web"), soon);
    let web = given(&[&web, &[fenced()]]);
    is_refused(&web, &moves(Some("test")), "stapes move web --target three");
    let taken = "operation-accepted, instance-stopped, instance-moved, \
                 instance-take-over-requested; DeleteInstance@two, CreateRoot@three";
    check(&web, moves(None), taken);
    check(&web, moves(Some("three")), taken);
    let house = House::after(&given(&[&web, &[Asked(moves(None)), Done]]));
    let it = house.instance("web");
    assert_eq!((it.node, it.epoch()), (start_of("three").node, Epoch(1)));
    assert!(matches!(it.status, Status::Running { .. }));
}

#[test]
fn a_take_over_that_fails_is_made_up_for_by_a_start() {
    let over = given(&[&available(), &[lost(), fenced(), Asked(moves(None)), ONE]]);
    // The lost node's removal comes first.
    let failed = given(&[&over, &[Failed("no space"), Done]]);
    let house = House::after(&failed);
    assert_eq!(house.instance("web").node, start_of("three").node);
    assert!(house.world.operations.is_empty());
    check(&failed, start("web"), "operation-accepted, instance-start-requested; CreateRoot@three");
    let house = House::after(&given(&[&failed, &[Asked(start("web")), Done]]));
    let web = house.instance("web");
    assert!(matches!(web.status, Status::Running { .. }) && web.replica.is_none());
    check(&failed, moves(Some("test")), "The instance was taken over and is not whole yet");
    let gone = "operation-accepted, instance-delete-requested; DeleteInstance@three";
    check(&failed, delete("web", false), gone);
}

#[test]
fn a_volume_on_a_lost_node_is_not_deleted() {
    let (pool, name) = ("default".to_owned(), "data".to_owned());
    let create = Command::CreateVolume {
        project: "default".to_owned(),
        pool: pool.clone(),
        name: name.clone(),
        description: String::new(),
        config: Config::new(),
        target: Some("two".to_owned()),
    };
    let there = given(&[&[Members], &[Asked(create), Done, lost()]]);
    is_refused(&there, &Command::DeleteVolume { pool, name }, "stapes cluster list");
}
