//! What is decided about copies that are made on another node than their source's, case by case.
//! Work on the source's node is told without a place.

use crate::{
    cluster::tests::lose,
    command::Command,
    instance::{Create, Source, Status},
    name::NameKind,
    node::{self, Evacuation},
    testing::{
        Answered, Asked, Done, Failed, Given, Happened, House, Members, check, create, instance,
        node as start_of, node_stream, running, snapshot, stopped,
    },
};

const ONE: Given = Answered(None);

fn given(parts: &[&[Given]]) -> Vec<Given> {
    parts.concat()
}

/// A copy of `web`.
fn copy(snapshot: Option<&str>, instance_only: bool, target: Option<&str>) -> Command {
    let (project, name) = ("default".to_owned(), "web".to_owned());
    let snapshot = snapshot.map(str::to_owned);
    let source = Source::Copy { project, name, snapshot, instance_only };
    create(Create { source, target: target.map(str::to_owned), ..instance("web2") })
}

fn to_two() -> Command {
    copy(None, false, Some("two"))
}

/// What the last thing that happened was decided to be, in short.
#[track_caller]
fn then(given: &[Given], expected: &str) {
    let (last, before) = given.split_last().expect("something is given");
    let mut house = House::after(before);
    assert_eq!(house.told_of(last), expected, "{last:?}");
}

/// Everything that `web2` could hold or have, in a house without it.
#[track_caller]
fn nothing_is_left(given: &[Given]) {
    let house = House::after(given);
    assert!(house.world.instance("default", "web2").is_err());
    assert_eq!(house.world.held(NameKind::IdMap, start_of("two").node).count(), 0);
    assert!(house.world.operations.is_empty(), "{:?}", house.world.operations);
}

#[test]
fn a_copy_on_another_node_fetches_its_source() {
    let web = given(&[&[Members], &running("web", &[])]);
    let requested = "operation-accepted, instance-created, instance-create-requested; Receive@two";
    check(&web, to_two(), requested);
    let asked = given(&[&web, &[Asked(to_two())]]);
    let fetched = "instance-fetched, instance-continued; DropRounds, CreateRoot@two";
    then(&given(&[&asked, &[ONE]]), fetched);
    // What was made at the source goes meanwhile, and is nobody's step.
    then(&given(&[&asked, &[ONE, ONE]]), "nothing");
    let made = "instance-root-created, instance-continued; DropRounds@two";
    then(&given(&[&asked, &[ONE, ONE, ONE]]), made);
    let over = "instance-rounds-dropped, operation-succeeded";
    then(&given(&[&asked, &[ONE, ONE, ONE, ONE]]), over);
    let house = House::after(&given(&[&asked, &[Done]]));
    let web2 = house.instance("web2");
    assert_eq!((web2.node, web2.status), (start_of("two").node, Status::Stopped));
    assert_eq!(house.instance("web").node, start_of("test").node);
    assert_ne!(web2.idmap, house.instance("web").idmap);
}

#[test]
fn an_image_goes_from_wherever_its_instances_came() {
    let gone = |name| [Asked(crate::testing::delete(name, true)), Done];
    let web = given(&[&[Members], &stopped("web", &[]), &[Asked(to_two()), Done]]);
    let (project, image) = ("default".to_owned(), "test".to_owned());
    let delete = Command::DeleteImage { project, image };
    let used = given(&[&web, &gone("web")]);
    check(&used, delete.clone(), "operation-accepted, operation-succeeded, image-deleted");
    let told = House::after(&given(&[&used, &gone("web2")])).decide(&delete);
    for place in ["RemoveImage,", "RemoveImage@two", "RemoveImage@three"] {
        assert!(format!("{told},").contains(place), "{told}");
    }
}

#[test]
fn its_snapshots_come_with_it_or_stay() {
    let web = given(&[&[Members], &stopped("web", &[])]);
    let web = given(&[&web, &[Asked(snapshot("web", "s0")), Done, Asked(snapshot("web", "s1"))]]);
    let web = given(&[&web, &[Done]]);
    let copied = |command| House::after(&given(&[&web, &[Asked(command), Done]]));
    let house = copied(to_two());
    let (web, web2) = (house.instance("web"), house.instance("web2"));
    assert_eq!(web2.snapshots, web.snapshots);
    assert!(copied(copy(None, true, Some("two"))).instance("web2").snapshots.is_empty());
    assert!(copied(copy(Some("s0"), false, Some("two"))).instance("web2").snapshots.is_empty());
}

#[test]
fn a_snapshot_is_fetched_as_it_is() {
    let web = given(&[&[Members], &stopped("web", &[]), &[Asked(snapshot("web", "s0")), Done]]);
    let asked = given(&[&web, &[Asked(copy(Some("s0"), false, Some("two")))]]);
    // Nothing is made at the source for it.
    let fetched = "instance-fetched, instance-continued; CreateRoot@two";
    then(&given(&[&asked, &[ONE]]), fetched);
    check(&web, copy(Some("s1"), false, Some("two")), "Instance snapshot not found");
}

#[test]
fn a_copy_that_is_not_fetched_is_undone() {
    let web = given(&[&[Members], &running("web", &[])]);
    let asked = given(&[&web, &[Asked(to_two())]]);
    let undone = "instance-create-failed, instance-deleted, operation-failed; \
                  DropRounds, DeleteInstance@two";
    then(&given(&[&asked, &[Failed("the network broke")]]), undone);
    nothing_is_left(&given(&[&asked, &[Failed("the network broke"), Done]]));
    let full = "instance-create-failed, instance-deleted, operation-failed; DeleteInstance@two";
    then(&given(&[&asked, &[ONE, ONE, Failed("no space")]]), full);
    nothing_is_left(&given(&[&asked, &[ONE, ONE, Failed("no space"), Done]]));
    // It is whole then: what was only made to be sent may stay.
    let left = "instance-rounds-dropped, operation-succeeded";
    then(&given(&[&asked, &[ONE, ONE, ONE, Failed("it is busy")]]), left);
}

#[test]
fn a_source_that_nobody_hears_is_not_copied() {
    let web = given(&[&[Members], &running("web", &[])]);
    let lost = Happened(node_stream("test"), node::Event::Lost.into());
    let gone = given(&[&web, &[lost]]);
    for command in [to_two(), copy(None, false, None)] {
        let told = House::after(&gone).decide(&command);
        assert!(told.starts_with("Cluster member \"test\" is offline (not heard since"), "{told}");
    }
    let away = given(&[&web, &[Asked(lose("two"))]]);
    let told = House::after(&away).decide(&to_two());
    assert!(told.starts_with("Cluster member \"two\" is offline (not heard since"), "{told}");
}

#[test]
fn a_copy_is_made_beside_its_source_where_it_can_be() {
    let here = "operation-accepted, instance-created, instance-create-requested; CreateRoot";
    let web = given(&[&[Members], &stopped("web", &[])]);
    check(&web, copy(None, false, None), here);
    check(&web, copy(None, false, Some("test")), here);
    check(&stopped("web", &[]), copy(None, false, None), here);
    let operation = crate::ids::OperationId(uuid::Uuid::nil());
    let empties = node::Event::EvacuationRequested { operation, mode: Evacuation::Stop };
    let emptied = given(&[&web, &[Happened(node_stream("test"), empties.into())]]);
    let told = House::after(&emptied).decide(&copy(None, false, None));
    assert!(told.contains("instance-create-requested; Receive@"), "{told}");
}
