//! What is decided about instances that move, case by case. Work on the node that an instance is on
//! is told without a place.

use crate::{
    command::Command,
    ids::Epoch,
    instance::{Create, LivePolicy, Status},
    name::NameKind,
    node,
    operation::{Gain, Verb},
    port::guest::{ExitCause, Mobility, Preflight},
    task::Outcome,
    testing::{
        Answered, Asked, Done, Ended, Failed, Given, Happened, House, Members, check, create,
        delete, instance, node as start_of, node_stream, running, snapshot, start, stop, stopped,
        target,
    },
};

const MIB: u64 = 1 << 20;

fn given(parts: &[&[Given]]) -> Vec<Given> {
    parts.concat()
}

fn moves(name: &str, to: &str, live: LivePolicy) -> Command {
    Command::MoveInstance { target: target(name), to: Some(to.to_owned()), live }
}

fn cold(name: &str) -> Command {
    moves(name, "two", LivePolicy::Never)
}

fn live(name: &str) -> Command {
    moves(name, "two", LivePolicy::Preferred)
}

fn lost(name: &str) -> Given {
    Happened(node_stream(name), node::Event::Lost.into())
}

const ONE: Given = Answered(None);

fn came(bytes: u64) -> Given {
    Answered(Some(Outcome::Received { bytes }))
}

fn can(verdict: Mobility, reason: &str) -> Given {
    let reasons = vec![reason.to_owned()];
    Answered(Some(Outcome::Assessed(Preflight { verdict, reasons })))
}

/// What the last thing that happened was decided to be, in short.
#[track_caller]
fn then(given: &[Given], expected: &str) {
    let (last, before) = given.split_last().expect("something is given");
    let mut house = House::after(before);
    assert_eq!(house.told_of(last), expected, "{last:?}");
}

#[test]
fn a_stopped_instance_moves_in_one_go() {
    let here = given(&[&[Members], &stopped("web", &[])]);
    check(&here, cold("web"), "operation-accepted, instance-move-requested; Receive@two");
    let asked = given(&[&here, &[Asked(cold("web"))]]);
    then(
        &given(&[&asked, &[ONE]]),
        "instance-moved, instance-continued, operation-succeeded; DeleteInstance, DropRounds@two",
    );
    let house = House::after(&given(&[&asked, &[Done]]));
    let web = house.instance("web");
    assert_eq!((web.node, web.epoch()), (start_of("two").node, Epoch(1)));
    assert_eq!((web.status, &web.job), (Status::Stopped, &None));
    let slots = |name: &str| house.world.held(NameKind::IdMap, start_of(name).node).count();
    assert_eq!((slots("test"), slots("two")), (0, 1));
    // And back, and on.
    let back = given(&[&asked, &[Done, Asked(moves("web", "test", LivePolicy::Never)), Done]]);
    assert_eq!(House::after(&back).instance("web").node, start_of("test").node);
    check(&back, start("web"), "operation-accepted, instance-start-requested; Start");
}

#[test]
fn who_asks_for_nonsense_is_told_why() {
    let here = given(&[&[Members], &stopped("web", &[])]);
    let to = |name: &str| moves("web", name, LivePolicy::Preferred);
    check(&here, to("test"), "Instance is already on cluster member \"test\"");
    check(&here, to("nowhere"), "Cluster member not found");
    check(&here, to("@fast"), "Cluster group not found");
    check(&here, moves("web", "two", LivePolicy::Required), "The instance is not running");
    let offline = given(&[&here, &[lost("two")]]);
    let told = House::after(&offline).decide(&to("two"));
    assert!(told.starts_with("Cluster member \"two\" is offline (not heard since "), "{told}");
    let anywhere =
        Command::MoveInstance { target: target("web"), to: None, live: LivePolicy::Preferred };
    let three = "operation-accepted, instance-move-requested; Receive@three";
    check(&offline, anywhere, three);
    let operation = crate::ids::OperationId(uuid::Uuid::nil());
    let evacuated =
        node::Event::EvacuationRequested { operation, mode: node::Evacuation::Auto }.into();
    let evacuated = given(&[&here, &[Happened(node_stream("two"), evacuated)]]);
    let emptied = "Cluster member \"two\" cannot take the instance: it is being evacuated";
    check(&evacuated, to("two"), emptied);
    let moving = given(&[&here, &[Asked(to("two"))]]);
    check(&moving, start("web"), "Instance is busy running a \"move\" operation");
    check(&moving, to("two"), "Instance is busy running a \"move\" operation");
    let frozen = Command::FreezeInstance { target: target("db") };
    let frozen = given(&[&[Members], &running("db", &[]), &[Asked(frozen), Done]]);
    check(&frozen, cold("db"), "The instance is frozen");
}

#[test]
fn a_move_goes_where_it_fits_best_and_says_why() {
    let large = create(Create {
        config: crate::testing::config(&[("limits.memory", "7GiB")]),
        target: Some("two".to_owned()),
        ..instance("large")
    });
    let here = given(&[&[Members], &stopped("web", &[]), &[Asked(large), Done]]);
    let away =
        Command::MoveInstance { target: target("web"), to: None, live: LivePolicy::Preferred };
    check(&here, away.clone(), "operation-accepted, instance-move-requested; Receive@three");
    let weighed = House::after(&here).told_placement(&away);
    let [best, next, last] = weighed.as_slice() else { panic!("three nodes: {weighed:?}") };
    assert_eq!((best.node, next.node), (start_of("three").node, start_of("two").node));
    assert!(best.score > next.score);
    assert_eq!(
        (last.score, last.reasons.as_slice()),
        (None, &["it is there already".to_owned()][..])
    );
    // What is said with the request is there as long as the job is.
    let house = House::after(&given(&[&here, &[Asked(away)]]));
    let job = house.instance("web").job.as_ref().expect("it moves");
    assert_eq!(job.journey.as_ref().expect("it has one").placement, weighed);
    let named = House::after(&here).told_placement(&cold("web"));
    assert_eq!(named[0].reasons, ["asked for"]);
    check(&stopped("web", &[]), cold("web"), "This server is not clustered");
}

#[test]
fn what_only_its_host_has_keeps_it_there() {
    let disk = |pairs: &[(&str, &str)]| {
        let devices = crate::testing::devices(&[("data", pairs)]);
        given(&[&[Members, Asked(create(Create { devices, ..instance("web") })), Done]])
    };
    let host = disk(&[("type", "disk"), ("path", "/srv"), ("source", "/srv")]);
    check(
        &host,
        cold("web"),
        "Instance cannot move: its device \"data\" is a directory of its host",
    );
}

#[test]
fn a_running_instance_moves_near_live() {
    let here = given(&[&[Members], &running("web", &[])]);
    check(&here, cold("web"), "operation-accepted, instance-move-requested; Receive@two");
    let asked = given(&[&here, &[Asked(cold("web"))]]);
    let again = "instance-round-received, instance-continued; Receive@two";
    let stops = "instance-round-received, instance-continued; Stop";
    then(&given(&[&asked, &[came(MIB)]]), stops);
    then(&given(&[&asked, &[came(99 * MIB)]]), again);
    then(&given(&[&asked, &[came(99 * MIB), came(99 * MIB)]]), again);
    then(&given(&[&asked, &[came(99 * MIB), came(99 * MIB), came(99 * MIB)]]), stops);
    let stopped = given(&[&asked, &[came(MIB), ONE]]);
    then(
        &given(&[&stopped, &[ONE]]),
        "instance-moved, instance-continued; DeleteInstance, Start@two",
    );
    let house = House::after(&given(&[&asked, &[Done]]));
    assert!(house.instance("web").status.is_up());
    let Some(Gain::Moved { mode, downtime_ms, bytes }) = house.gained() else {
        panic!("it moved: {:?}", house.gained())
    };
    assert_eq!((mode, bytes), (Mobility::NearLive, 2 * 4096));
    assert!(downtime_ms > 0);
}

#[test]
fn a_guest_that_ends_on_the_way_is_not_started_there() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(cold("web"))]]);
    let ended = given(&[&asked, &[Ended("web", ExitCause::GuestShutdown, 60)]]);
    then(&given(&[&ended, &[ONE]]), "instance-round-received, instance-continued; Receive@two");
    let house = House::after(&given(&[&ended, &[Done]]));
    assert_eq!(house.instance("web").status, Status::Stopped);
    let rebooted = given(&[&asked, &[Ended("web", ExitCause::GuestReboot, 60), Done]]);
    assert!(House::after(&rebooted).instance("web").status.is_up());
    let ephemeral = Create { ephemeral: true, start: true, ..instance("tmp") };
    let ended = [Ended("tmp", ExitCause::GuestShutdown, 60), Done];
    let asked = given(&[&[Members, Asked(create(ephemeral)), Done, Asked(cold("tmp"))], &ended]);
    assert!(House::after(&asked).world.instances.is_empty());
}

#[test]
fn a_guest_moves_alive_when_it_can() {
    let here = given(&[&[Members], &running("web", &[])]);
    check(&here, live("web"), "operation-accepted, instance-move-requested; Assess");
    let asked = given(&[&here, &[Asked(live("web"))]]);
    then(&given(&[&asked, &[ONE]]), "instance-move-assessed, instance-continued; Receive@two");
    let near = can(Mobility::NearLive, "it has a terminal open");
    let assessed = "instance-move-assessed, instance-continued; Receive@two";
    then(&given(&[&asked, std::slice::from_ref(&near)]), assessed);
    let stops = "instance-round-received, instance-continued; Stop";
    then(&given(&[&asked, &[near.clone(), ONE]]), stops);
    let copied = can(Mobility::StopCopy, "its pool cannot");
    then(&given(&[&asked, &[copied]]), "instance-move-assessed, instance-continued; Stop");

    let checkpoints = "instance-round-received, instance-continued; Checkpoint";
    then(&given(&[&asked, &[ONE, ONE]]), checkpoints);
    let restores = "instance-checkpointed, instance-continued; Restore@two";
    then(&given(&[&asked, &[ONE, ONE, ONE]]), restores);
    let there = "instance-moved, instance-continued; DeleteInstance, Activate@two";
    then(&given(&[&asked, &[ONE, ONE, ONE, ONE]]), there);
    let house = House::after(&given(&[&asked, &[Done]]));
    let web = house.instance("web");
    assert!(web.status.is_up() && web.job.is_none());
    assert_eq!((web.guest.epoch, web.epoch()), (Epoch(0), Epoch(1)));
    assert!(matches!(house.gained(), Some(Gain::Moved { mode: Mobility::Live, .. })));
}

#[test]
fn alive_or_not_at_all() {
    let here = given(&[&[Members], &running("web", &[])]);
    let wanted = moves("web", "two", LivePolicy::Required);
    let asked = given(&[&here, &[Asked(wanted)]]);
    let near = can(Mobility::NearLive, "it has a terminal open");
    let stays = "instance-move-aborted, instance-continued, operation-failed";
    then(&given(&[&asked, &[near]]), stays);
    then(&given(&[&asked, &[Failed("criu is missing")]]), stays);
    // Nothing more than a look was taken: the replica, if any, and the guest are as they were.
    let resumes = "instance-move-aborted, instance-continued; DeleteInstance@two, Resume";
    then(&given(&[&asked, &[ONE, ONE, ONE, Failed("no room")]]), resumes);
    then(&given(&[&asked, &[ONE, ONE, Failed("a socket")]]), resumes);
    let back = given(&[&asked, &[ONE, ONE, ONE, Failed("no room"), ONE]]);
    then(
        &given(&[&back, &[ONE]]),
        "instance-resumed, instance-continued, operation-failed; DropRounds",
    );
}

#[test]
fn what_fails_alive_is_done_with_a_stop() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(live("web"))]]);
    let degraded = "instance-move-degraded, instance-continued; ";
    then(&given(&[&asked, &[Failed("criu is missing")]]), &format!("{degraded}Receive@two"));
    then(&given(&[&asked, &[ONE, ONE, Failed("a socket")]]), &format!("{degraded}Stop"));
    let unrestored = given(&[&asked, &[ONE, ONE, ONE, Failed("no room")]]);
    then(&unrestored, &format!("{degraded}Resume"));
    then(&given(&[&unrestored, &[ONE]]), "instance-resumed, instance-continued; Stop");
    let house = House::after(&given(&[&unrestored, &[Done]]));
    assert_eq!(house.instance("web").node, start_of("two").node);
    assert!(house.instance("web").status.is_up());
    assert!(matches!(house.gained(), Some(Gain::Moved { mode: Mobility::NearLive, .. })));
}

#[test]
fn host_ids_that_are_in_use_there_allow_no_live_move() {
    // Instances get ranges that no other node uses, so one is taken by hand.
    let web = given(&[&[Members], &running("web", &[])]);
    let idmap = House::after(&web).instance("web").idmap;
    let name = super::work::slot(start_of("two").node, idmap);
    let stream = name.stream();
    let holder = uuid::Uuid::nil();
    let taken = crate::name::Event::Reserved { name, holder, description: String::new() };
    let taken = given(&[&web, &[Happened(stream, taken.into())]]);
    let near = "operation-accepted, instance-move-requested; Receive@two";
    check(&taken, live("web"), near);
    let base = idmap.base;
    let why =
        format!("It cannot move while it runs: its host ids from {base} on are in use on two");
    check(&taken, moves("web", "two", LivePolicy::Required), &why);
    let house = House::after(&given(&[&taken, &[Asked(live("web")), Done]]));
    assert_ne!(house.instance("web").idmap, idmap);
}

#[test]
fn instances_of_all_nodes_have_ranges_of_their_own() {
    let moved = given(&[&[Members], &stopped("web", &[]), &[Asked(cold("web")), Done]]);
    let both = House::after(&given(&[&moved, &stopped("db", &[])]));
    assert_ne!(both.instance("web").idmap, both.instance("db").idmap);
}

#[test]
fn a_failure_before_the_point_of_no_return_brings_it_back() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(cold("web"))]]);
    let dropped = "instance-move-aborted, instance-continued, operation-failed; DeleteInstance@two, DropRounds";
    then(&given(&[&asked, &[Failed("the network broke")]]), dropped);
    // It does not shut down: it runs on.
    then(&given(&[&asked, &[came(MIB), Failed("it did not shut down")]]), dropped);
    let starts = "instance-move-aborted, instance-continued; DeleteInstance@two, Start";
    then(&given(&[&asked, &[came(MIB), ONE, Failed("the disk is full")]]), starts);
    let aborted = given(&[&asked, &[came(MIB), ONE, Failed("the disk is full"), Done]]);
    let house = House::after(&aborted);
    let web = house.instance("web");
    assert_eq!((web.node, web.epoch()), (start_of("test").node, Epoch(0)));
    assert!(web.status.is_up() && web.job.is_none());
    assert_eq!(house.world.held(NameKind::IdMap, start_of("two").node).count(), 0);
    // And it can be tried again.
    check(&aborted, cold("web"), "operation-accepted, instance-move-requested; Receive@two");
    let again = House::after(&given(&[&aborted, &[Asked(cold("web")), Done]]));
    assert_eq!(again.instance("web").node, start_of("two").node);
}

#[test]
fn a_failure_after_the_point_of_no_return_leaves_it_there() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(cold("web"))]]);
    // The source's removal comes first and is nobody's step.
    let moved = given(&[&asked, &[came(MIB), ONE, ONE, ONE]]);
    then(
        &given(&[&moved, &[Failed("no address")]]),
        "instance-move-failed, instance-continued, operation-failed; DropRounds@two",
    );
    let house = House::after(&given(&[&moved, &[Failed("no address")]]));
    assert_eq!(house.instance("web").node, start_of("two").node);
    // What lives there and cannot be connected is not left standing still.
    let alive = given(&[&[Members], &running("web", &[]), &[Asked(live("web"))]]);
    let alive = given(&[&alive, &[ONE, ONE, ONE, ONE, ONE]]);
    let unconnected = given(&[&alive, &[Failed("no bridge")]]);
    then(&unconnected, "instance-move-degraded, instance-continued; Stop!@two");
    let house = House::after(&given(&[&unconnected, &[Done]]));
    let web = house.instance("web");
    assert!(web.status.is_up() && web.job.is_none() && web.guest.epoch == Epoch(1));
}

#[test]
fn a_removal_that_fails_or_is_late_changes_nothing() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(cold("web"))]]);
    let moved = given(&[&asked, &[came(MIB), ONE, ONE]]);
    then(&given(&[&moved, &[Failed("the volume is busy")]]), "nothing");
    then(&given(&[&moved, &[ONE]]), "nothing");
}

#[test]
fn a_node_that_is_lost_in_the_middle_calls_it_off() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(live("web"))]]);
    let resumes = "instance-move-aborted, instance-continued; DeleteInstance@two, Resume";
    let restoring = given(&[&asked, &[ONE, ONE, ONE]]);
    let house = House::after(&restoring);
    assert_eq!(house.told_of_loss("two"), resumes);
    assert_eq!(house.told_of_loss("test"), resumes);
    assert_eq!(house.told_of_loss("three"), "nothing");
    let there = given(&[&restoring, &[ONE]]);
    assert_eq!(House::after(&there).told_of_loss("test"), "nothing");
    assert_eq!(House::after(&there).told_of_loss("two"), "nothing");
    // Nothing goes on to a node that is not there.
    let gone = given(&[&asked, &[ONE, lost("two")]]);
    let aborted = "instance-round-received, instance-move-aborted, instance-continued; \
                   DeleteInstance@two, Resume";
    then(&given(&[&gone, &[ONE]]), aborted);
}

#[test]
fn a_guest_that_is_held_for_too_long_runs_on_by_a_decision() {
    let asked = given(&[&[Members], &running("web", &[]), &[Asked(live("web"))]]);
    let restoring = given(&[&asked, &[ONE, ONE, ONE]]);
    let overheld = |given: &[Given], name: &str| {
        let house = House::after(given);
        let held = house.guest("web");
        house.decide(&Command::ObserveOverheld { node: start_of(name).node, held })
    };
    let resumes = "instance-move-aborted, instance-continued; DeleteInstance@two, Resume";
    assert_eq!(overheld(&restoring, "test"), resumes);
    assert_eq!(overheld(&restoring, "two"), "nothing");
    assert_eq!(overheld(&given(&[&restoring, &[ONE]]), "test"), "nothing");
    assert_eq!(overheld(&given(&[&running("web", &[])]), "test"), "nothing");
}

#[test]
fn an_evacuated_instance_remembers_its_home() {
    let operation = crate::ids::OperationId(uuid::Uuid::nil());
    let evacuated = Happened(
        node_stream("test"),
        node::Event::EvacuationRequested { operation, mode: node::Evacuation::Auto }.into(),
    );
    let web = given(&[&[Members], &stopped("web", &[]), &[evacuated, Asked(cold("web")), Done]]);
    assert_eq!(House::after(&web).instance("web").home, Some(start_of("test").node));
    let back = Happened(node_stream("test"), node::Event::Restored.into());
    let home = [back, Asked(moves("web", "test", LivePolicy::Preferred)), Done];
    assert_eq!(House::after(&given(&[&web, &home])).instance("web").home, None);
}

fn replicated(name: &str) -> Vec<Given> {
    let pairs = [("replication.target", "two")];
    given(&[&[Members], &running(name, &pairs), &[Asked(replicate(name)), Done]])
}

fn replicate(name: &str) -> Command {
    Command::ReplicateInstance { instance: House::named(name) }
}

fn take_over(name: &str) -> Command {
    Command::TakeOverInstance { instance: House::named(name) }
}

fn fenced(name: &str) -> Given {
    let proof = node::FencingProof::LeaseExpired;
    Happened(node_stream(name), node::Event::Fenced { proof }.into())
}

#[test]
fn a_replica_is_kept_up_to_date() {
    let plain = given(&[&[Members], &running("web", &[])]);
    check(&plain, replicate("web"), "nothing");
    let web = given(&[&[Members], &running("web", &[("replication.target", "two")])]);
    let asked = "operation-accepted, instance-replicate-requested; Receive@two";
    check(&web, replicate("web"), asked);
    let asked = given(&[&web, &[Asked(replicate("web"))]]);
    then(&given(&[&asked, &[ONE]]), "instance-replicated, instance-continued, operation-succeeded");
    let first = House::after(&replicated("web")).instance("web").replica.expect("it has one");
    let second = given(&[&replicated("web"), &[Asked(replicate("web"))]]);
    then(
        &given(&[&second, &[ONE]]),
        "instance-replicated, instance-continued, operation-succeeded; DropRounds, DropRounds@two",
    );
    let house = House::after(&given(&[&second, &[Done]]));
    let newer = house.instance("web").replica.expect("it has one");
    assert!(newer.at > first.at && newer.snapshot != first.snapshot);
    assert!(house.instance("web").status.is_up());
    let offline = given(&[&replicated("web"), &[lost("two")]]);
    check(&offline, replicate("web"), "nothing");
}

#[test]
fn nobody_waits_for_a_replica() {
    let web = given(&[&[Members], &running("web", &[("replication.target", "two")])]);
    let asked = given(&[&web, &[Asked(replicate("web"))]]);
    let stops = "operation-accepted, operation-failed, instance-replicate-failed, \
                 instance-continued, instance-stop-requested; \
                 DropRounds, DeleteInstance@two, Stop!";
    check(&asked, stop("web", true), stops);
    let stopped = given(&[&asked, &[Asked(stop("web", true)), Done]]);
    assert_eq!(House::after(&stopped).instance("web").status, Status::Stopped);
    let died = given(&[&asked, &[Ended("web", ExitCause::GuestReboot, 60), Done]]);
    assert!(House::after(&died).instance("web").status.is_up());
    let broken = "instance-replicate-failed, instance-continued, operation-failed; \
                  DropRounds, DeleteInstance@two";
    then(&given(&[&asked, &[Failed("the network broke")]]), broken);
}

#[test]
fn a_replica_goes_with_its_instance() {
    let gone = given(&[&replicated("web"), &[Asked(delete("web", true))]]);
    then(&given(&[&gone, &[ONE]]), "instance-deleted, operation-succeeded; DeleteInstance@two");
    let moved = given(&[&replicated("web"), &[Asked(cold("web")), Done]]);
    assert_eq!(House::after(&moved).instance("web").replica, None);
    let elsewhere = moves("web", "three", LivePolicy::Never);
    let elsewhere = given(&[&replicated("web"), &[Asked(elsewhere), Done]]);
    assert!(House::after(&elsewhere).instance("web").replica.is_some());
}

#[test]
fn what_ran_on_a_lost_node_runs_as_its_replica() {
    let web = replicated("web");
    let safe = "Cluster member \"test\" is not fenced: it may run there";
    check(&web, take_over("web"), safe);
    check(&given(&[&web, &[lost("test")]]), take_over("web"), safe);
    let web = given(&[&web, &[Asked(snapshot("web", "young")), Done]]);
    let fenced = given(&[&web, &[lost("test"), fenced("test")]]);
    let taken = "operation-accepted, instance-stopped, instance-snapshot-deleted, instance-moved, \
                 instance-take-over-requested; DeleteInstance, CreateRoot@two";
    check(&fenced, take_over("web"), taken);
    let house = House::after(&given(&[&fenced, &[Asked(take_over("web")), Done]]));
    let web = house.instance("web");
    assert_eq!((web.node, web.epoch()), (start_of("two").node, Epoch(1)));
    assert!(web.status.is_up() && web.job.is_none() && web.replica.is_none());
    assert!(web.snapshots.is_empty());
    assert_eq!(web.guest.epoch, Epoch(1));
}

#[test]
fn a_take_over_ends_what_was_under_way() {
    let moving = given(&[&replicated("web"), &[Asked(moves("web", "three", LivePolicy::Never))]]);
    let moving = given(&[&moving, &[ONE, ONE, lost("test"), fenced("test")]]);
    let house = House::after(&given(&[&moving, &[Asked(take_over("web")), Done]]));
    let web = house.instance("web");
    assert_eq!(web.node, start_of("two").node);
    assert!(web.status.is_up());
    for name in ["test", "three"] {
        assert_eq!(house.world.held(NameKind::IdMap, start_of(name).node).count(), 0, "{name}");
    }
    assert!(house.world.operations.values().all(|other| other.verb != Verb::MoveInstance));
}

#[test]
fn what_comes_back_from_the_past_is_ordered_away() {
    let web = replicated("web");
    let (before, test) = (House::after(&web), start_of("test").node);
    let running = Some(before.guest("web"));
    let adopted = |node| {
        let instance = House::named("web");
        Command::ObserveAdopted { node, instance, running, exited: None }
    };
    check(&web, adopted(test), "nothing");
    let over = given(&[&web, &[lost("test"), fenced("test"), Asked(take_over("web")), Done]]);
    check(&over, adopted(test), "; DeleteInstance");
    // What moves just now is found at both ends.
    let moving = given(&[&web, &[Asked(moves("web", "three", LivePolicy::Preferred))]]);
    check(&given(&[&moving, &[ONE, ONE]]), adopted(start_of("three").node), "nothing");
}
