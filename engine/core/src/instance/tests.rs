//! What is decided about instances, case by case.

use crate::{
    command::Command,
    config::Config,
    ids::Revision,
    instance::{Create, Reconfigure, Source, Status},
    name::NameKind,
    port::{
        guest::ExitCause::{self, GuestReboot, GuestShutdown, HostReboot, OutOfMemory, Signal},
        image::ImageKind,
    },
    rejection::Kind,
    testing::{
        Asked, Done, ETH0, Ended, Failed, Given, House, ROOT, check, config, create,
        default_profile, delete, devices, instance, restart, running, snapshot, start, stop,
        stopped, target,
    },
};

fn given(parts: &[&[Given]]) -> Vec<Given> {
    parts.concat()
}

fn reconfigure(name: &str, wanted: Reconfigure) -> Command {
    Command::ReconfigureInstance { target: target(name), wanted: Box::new(wanted) }
}

fn set(name: &str, pairs: &[(&str, &str)]) -> Command {
    reconfigure(name, Reconfigure { config: Some(config(pairs)), ..Reconfigure::default() })
}

fn rename(name: &str, to: &str) -> Command {
    Command::RenameInstance { target: target(name), to: to.to_owned() }
}

fn restore(name: &str, snapshot: &str) -> Command {
    Command::RestoreSnapshot { target: target(name), name: snapshot.to_owned() }
}

fn freeze(name: &str) -> Command {
    Command::FreezeInstance { target: target(name) }
}

fn unfreeze(name: &str) -> Command {
    Command::UnfreezeInstance { target: target(name) }
}

fn copy(name: &str, of: &str, snapshot: Option<&str>, instance_only: bool) -> Command {
    let (project, snapshot) = ("default".to_owned(), snapshot.map(str::to_owned));
    let source = Source::Copy { project, name: of.to_owned(), snapshot, instance_only };
    create(Create { source, ..instance(name) })
}

#[test]
fn verbs_of_a_stopped_instance() {
    let web = stopped("web", &[]);
    check(&web, start("web"), "operation-accepted, instance-start-requested; Start");
    check(&web, stop("web", false), "The instance is already stopped");
    check(&web, stop("web", true), "The instance is already stopped");
    check(&web, restart("web", false), "The instance is not running");
    check(&web, freeze("web"), "The instance is not running");
    check(&web, unfreeze("web"), "The instance is not running");
    check(
        &web,
        delete("web", false),
        "operation-accepted, instance-delete-requested; DeleteInstance",
    );
    check(&web, start("nobody"), "Instance not found");
}

#[test]
fn verbs_of_a_running_instance() {
    let web = running("web", &[]);
    check(&web, start("web"), "The instance is already running");
    check(&web, stop("web", false), "operation-accepted, instance-stop-requested; Stop");
    check(&web, stop("web", true), "operation-accepted, instance-stop-requested; Stop!");
    check(&web, restart("web", true), "operation-accepted, instance-restart-requested; Stop!");
    check(&web, freeze("web"), "operation-accepted, instance-freeze-requested; Freeze");
    check(&web, unfreeze("web"), "The instance is already running");
    check(&web, delete("web", false), "Instance is running");
    check(
        &web,
        delete("web", true),
        "operation-accepted, instance-delete-requested; DeleteInstance",
    );
    check(&web, rename("web", "db"), "Renaming of running instance not allowed");
    let rebuild = Command::RebuildInstance { target: target("web"), image: None };
    check(&web, rebuild, "Instance must be stopped to be rebuilt");
}

#[test]
fn verbs_of_a_frozen_instance() {
    let web = given(&[&running("web", &[]), &[Asked(freeze("web")), Done]]);
    check(&web, start("web"), "The instance is frozen");
    check(&web, freeze("web"), "The instance is already frozen");
    check(&web, unfreeze("web"), "operation-accepted, instance-unfreeze-requested; Unfreeze");
    // A frozen guest cannot hear that it is to shut down.
    check(&web, stop("web", false), "operation-accepted, instance-stop-requested; Unfreeze");
    check(&web, stop("web", true), "operation-accepted, instance-stop-requested; Stop!");
    check(&web, restart("web", false), "operation-accepted, instance-restart-requested; Unfreeze");
}

#[test]
fn one_thing_at_a_time() {
    let starting = given(&[&stopped("web", &[]), &[Asked(start("web"))]]);
    check(&starting, start("web"), "joins");
    let busy = "Instance is busy running a \"start\" operation";
    for command in [stop("web", true), delete("web", true), freeze("web"), rename("web", "db")] {
        check(&starting, command, busy);
    }
    check(&starting, snapshot("web", "one"), busy);
    check(&starting, set("web", &[]), busy);
    let stopping = given(&[&running("web", &[]), &[Asked(stop("web", false))]]);
    check(&stopping, stop("web", false), "joins");
    check(&stopping, start("web"), "Instance is busy running a \"stop\" operation");
    let deleting = given(&[&stopped("web", &[]), &[Asked(delete("web", false))]]);
    check(&deleting, delete("web", false), "joins");
}

#[test]
fn a_forced_stop_overtakes_a_clean_one_and_nothing_else() {
    let clean = given(&[&running("web", &[]), &[Asked(stop("web", false))]]);
    check(&clean, stop("web", true), "operation-accepted, instance-stop-requested; Stop!");
    let forced = given(&[&clean, &[Asked(stop("web", true))]]);
    check(&forced, stop("web", true), "joins");
    let house = House::after(&given(&[&forced, &[Done]]));
    assert_eq!(house.instance("web").status, Status::Stopped);
    assert!(house.world.operations.is_empty(), "both operations are over");
    let restarting = given(&[&running("web", &[]), &[Asked(restart("web", false))]]);
    check(&restarting, stop("web", true), "Instance is busy running a \"restart\" operation");
}

#[test]
fn an_ephemeral_instance_goes_when_it_stops() {
    let given_ephemeral =
        [Asked(create(Create { ephemeral: true, start: true, ..instance("web") })), Done];
    let gone = |more: &[Given]| {
        let house = House::after(&given(&[&given_ephemeral, more]));
        assert!(house.world.instances.is_empty(), "{more:?}");
    };
    gone(&[Asked(stop("web", false)), Done]);
    gone(&[Ended("web", GuestShutdown, 9), Done]);
    gone(&[Ended("web", Signal(9), 9), Done]);
    let house = House::after(&given(&[&given_ephemeral, &[Ended("web", GuestReboot, 9), Done]]));
    assert!(house.instance("web").status.is_up(), "a reboot is not an end");
}

#[test]
fn a_protected_instance_stays() {
    let web = stopped("web", &[("security.protection.delete", "true")]);
    check(&web, delete("web", false), "Instance is protected");
    check(&web, delete("web", true), "Instance is protected");
}

#[test]
fn what_could_not_be_made_holds_nothing() {
    let house = House::after(&[Asked(create(instance("web"))), Failed("no room")]);
    assert!(house.world.instances.is_empty());
    assert!(house.world.operations.is_empty());
    let held = |kind| house.world.names.iter().any(|(name, _)| name.kind == kind);
    assert!(![NameKind::Instance, NameKind::IdMap, NameKind::Address].into_iter().any(held));
    // A start that fails after that leaves a stopped instance.
    let house =
        House::after(&given(&[&stopped("web", &[]), &[Asked(start("web")), Failed("no cgroup")]]));
    assert_eq!(house.instance("web").status, Status::Stopped);
    assert!(house.instance("web").job.is_none());
}

#[test]
fn names_have_one_holder() {
    let two = given(&[&stopped("web", &[]), &stopped("db", &[])]);
    check(&two, create(instance("web")), "Instance \"web\" already exists");
    check(&two, rename("web", "db"), "Instance \"db\" already exists");
    assert_eq!(House::after(&two).refusal(&rename("web", "db")).kind(), Kind::Conflict);
    let renamed = given(&[&two, &[Asked(rename("web", "www")), Done]]);
    check(&renamed, start("web"), "Instance not found");
    let again = given(&[&renamed, &stopped("web", &[])]);
    assert_ne!(House::after(&again).instance("web").id, House::after(&again).instance("www").id);
}

#[test]
fn bad_names_are_refused() {
    let house = House::after(&stopped("web", &[]));
    let long = "a".repeat(64);
    for name in ["", "-a", "a-", "1a", "a.b", "a_b", "a b", "a\n", "ä", "..", "a/b", &long] {
        for command in [create(instance(name)), rename("web", name)] {
            let text = house.decide(&command);
            assert!(text.starts_with("Invalid instance name"), "{name:?}: {text}");
        }
    }
}

#[test]
fn bad_requests_are_refused() {
    let with = |pairs: &[(&str, &str)]| create(Create { config: config(pairs), ..instance("a") });
    let long = "x".repeat(64 * 1024 + 1);
    for (pairs, text) in [
        (
            &[("limits.memroy", "1GiB")][..],
            "Invalid config: Unknown configuration key: \"limits.memroy\"",
        ),
        (&[("user.a\u{1}", "x")], "Invalid config: Invalid configuration key: \"user.a\\u{1}\""),
        (&[("user.a", &long)], "Invalid config: Value of \"user.a\" is longer than 65536 bytes"),
        (
            &[("environment.A", "b\0")],
            "Invalid config: Invalid value \"(secret)\" for key \"environment.A\": it contains a NUL",
        ),
    ] {
        check(&[], with(pairs), text);
    }
    let many: Config = (0..1001).map(|n| (format!("user.{n}"), "x".to_owned())).collect();
    check(
        &[],
        create(Create { config: many, ..instance("a") }),
        "Invalid config: more than 1000 keys",
    );
    let profiles = |names: &[&str]| {
        let profiles = Some(names.iter().map(|name| (*name).to_owned()).collect());
        create(Create { profiles, ..instance("a") })
    };
    check(&[], profiles(&["default", "default"]), "Duplicate profile found in request");
    check(&[], profiles(&["nobody"]), "Profile not found");
    check(&[], profiles(&[]), "Failed creating instance record: No root device could be found");
    let source =
        |image: &str| create(Create { source: Source::Image(image.to_owned()), ..instance("a") });
    check(&[], source("nothing"), "Image not found");
    check(&[], source(""), "Image not found");
    let kind = ImageKind::VirtualMachine;
    check(
        &[],
        create(Create { kind, ..instance("a") }),
        "Image type doesn't match the instance's: one is a container's, the other a virtual machine's",
    );
    let project = "nobody".to_owned();
    check(&[], create(Create { project, ..instance("a") }), "Project not found");
}

#[test]
fn bad_devices_are_refused() {
    let long = "x".repeat(4097);
    for pairs in [
        &[("type", "disk"), ("path", "/srv"), ("source", "/a\0b")][..],
        &[("type", "disk"), ("path", "/a\nb"), ("source", "/srv")],
        &[("type", "disk"), ("path", "/srv"), ("source", &long)],
        &[("type", "nic"), ("network", "stapesbr0"), ("user.\u{7}", "x")],
        &[("type", "nic"), ("network", "stapesbr0"), ("ipv4.address", "10.0.3.999")],
    ] {
        let wanted = Create { devices: devices(&[("d", pairs)]), ..instance("a") };
        let text = House::furnished().decide(&create(wanted));
        assert!(text.starts_with("Invalid devices: Device validation failed for \"d\""), "{text}");
    }
    let many: Vec<String> = (0..101).map(|n| format!("d{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &[("type", "none")][..])).collect();
    check(
        &[],
        create(Create { devices: devices(&many), ..instance("a") }),
        "Invalid devices: more than 100",
    );
    let elsewhere = devices(&[("eth0", &[("type", "nic"), ("network", "nobody")])]);
    check(&[], create(Create { devices: elsewhere, ..instance("a") }), "Network not found");
}

#[test]
fn a_copy_has_its_own_identity() {
    let web = given(&[&stopped("web", &[]), &[Asked(snapshot("web", "one")), Done]]);
    check(
        &web,
        copy("b", "web", None, false),
        "operation-accepted, instance-created, instance-create-requested; CreateRoot",
    );
    let house = House::after(&given(&[&web, &[Asked(copy("b", "web", None, false)), Done]]));
    let (web_now, b) = (house.instance("web"), house.instance("b"));
    assert_eq!(b.snapshots.len(), 1);
    assert_ne!(b.leases["eth0"].mac, web_now.leases["eth0"].mac);
    assert_ne!(b.leases["eth0"].ipv4, web_now.leases["eth0"].ipv4);
    assert_ne!(b.idmap.base, web_now.idmap.base);
    let only = House::after(&given(&[&web, &[Asked(copy("b", "web", None, true)), Done]]));
    assert!(only.instance("b").snapshots.is_empty());
    check(&web, copy("b", "web", Some("two"), false), "Instance snapshot not found");
    check(&web, copy("b", "nobody", None, false), "Instance not found");
    let half =
        House::after(&given(&[&web, &[Asked(copy("b", "web", None, false)), Failed("no room")]]));
    assert!(half.world.instance("default", "b").is_err());
}

#[test]
fn a_project_has_limits() {
    let limit = |pairs: &[(&str, &str)]| {
        let mut all = House::furnished().world.project("default").unwrap().config.clone();
        all.extend(config(pairs));
        let (name, description, expected) = ("default".to_owned(), None, None);
        [Asked(Command::ConfigureProject { name, description, config: all, expected })]
    };
    let full = given(&[&stopped("web", &[]), &limit(&[("limits.instances", "1")])]);
    check(
        &full,
        create(instance("b")),
        "Reached maximum number of instances in project \"default\" (limits.instances is 1)",
    );
    assert_eq!(House::after(&full).refusal(&create(instance("b"))).kind(), Kind::Forbidden);
    let of_kind = given(&[&limit(&[("limits.containers", "0")])]);
    check(
        &of_kind,
        create(instance("b")),
        "Reached maximum number of instances in project \"default\" (limits.containers is 0)",
    );
    let others = given(&[&limit(&[("limits.virtual-machines", "0")])]);
    check(
        &others,
        create(instance("b")),
        "operation-accepted, instance-created, instance-create-requested; CreateRoot",
    );
}

#[test]
fn only_what_changes_is_recorded() {
    let web = stopped("web", &[("user.a", "1")]);
    check(&web, set("web", &[("user.a", "1")]), "operation-accepted, operation-succeeded");
    check(
        &web,
        set("web", &[("user.a", "2")]),
        "operation-accepted, operation-succeeded, instance-reconfigured",
    );
    check(
        &web,
        set("web", &[("user.a", "1"), ("limits.memory", "1GiB")]),
        "operation-accepted, instance-reconfigured, instance-update-requested; SetLimits",
    );
    check(
        &web,
        set("web", &[("user.a", "1"), ("volatile.eth0.hwaddr", "10:66:6a:00:00:01")]),
        "operation-accepted, operation-succeeded",
    );
    let stale = Reconfigure { expected: Some(Revision(1)), ..Reconfigure::default() };
    let refusal = House::after(&web).refusal(&reconfigure("web", stale));
    assert_eq!(refusal.kind(), Kind::PreconditionFailed);
}

#[test]
fn a_running_guest_keeps_what_it_cannot_be_given() {
    let web = running("web", &[]);
    check(
        &web,
        set("web", &[("security.nesting", "true")]),
        "This key cannot be changed while the instance is running",
    );
    check(
        &web,
        set("web", &[("limits.cpu", "2")]),
        "operation-accepted, instance-reconfigured, instance-update-requested; SetLimits",
    );
    let plug = devices(&[("srv", &[("type", "disk"), ("path", "/srv"), ("source", "/srv")])]);
    let plug = Reconfigure { devices: Some(plug), ..Reconfigure::default() };
    check(
        &web,
        reconfigure("web", plug.clone()),
        "Devices cannot be changed while the instance is running",
    );
    check(
        &stopped("web", &[]),
        reconfigure("web", plug),
        "operation-accepted, operation-succeeded, instance-reconfigured",
    );
    let bare = Reconfigure { profiles: Some(Vec::new()), ..Reconfigure::default() };
    check(
        &web,
        reconfigure("web", bare),
        "Failed creating instance record: No root device could be found",
    );
}

#[test]
fn addresses_follow_the_profile_at_the_next_start() {
    let gone = Asked(default_profile(devices(&[ROOT])));
    let web = given(&[&stopped("web", &[]), &[gone]]);
    assert_eq!(House::after(&web).instance("web").leases.len(), 1);
    let house = House::after(&given(&[&web, &[Asked(start("web")), Done]]));
    assert!(house.instance("web").leases.is_empty());
    assert!(!house.world.names.iter().any(|(name, _)| name.kind == NameKind::Address));
    let back = Asked(default_profile(devices(&[ROOT, ETH0])));
    let house = House::after(&given(&[&web, &[back, Asked(start("web")), Done]]));
    assert_eq!(house.instance("web").leases.len(), 1);
}

#[test]
fn a_profile_in_use_keeps_the_root_disk() {
    let text = "At least one instance relies on this profile's root disk device";
    check(&stopped("web", &[]), default_profile(devices(&[ETH0])), text);
    check(&[], default_profile(devices(&[ETH0])), "profile-configured");
    let own = Create { devices: devices(&[ROOT]), ..instance("web") };
    check(&[Asked(create(own)), Done], default_profile(devices(&[ETH0])), "profile-configured");
}

#[test]
fn snapshots() {
    let web = given(&[&stopped("web", &[]), &[Asked(snapshot("web", "one")), Done]]);
    check(&web, snapshot("web", "one"), "Instance snapshot \"one\" already exists");
    check(
        &web,
        snapshot("web", "a b"),
        "Invalid snapshot name \"a b\": a name is 1 to 128 characters without spaces and '/'",
    );
    check(&web, restore("web", "two"), "Instance snapshot not found");
    check(
        &web,
        restore("web", "one"),
        "operation-accepted, instance-restore-requested; RestoreSnapshot",
    );
    let up = given(&[&web, &[Asked(start("web")), Done]]);
    check(&up, restore("web", "one"), "operation-accepted, instance-restore-requested; Stop!");
    let unnamed = Command::CreateSnapshot { target: target("web"), name: None, expires_at: None };
    let house = House::after(&given(&[&web, &[Asked(unnamed), Done]]));
    assert!(house.instance("web").snapshots.contains_key("snap0"));
}

#[test]
fn a_snapshot_whose_profile_is_gone_is_not_restored() {
    let (project, name) = ("default".to_owned(), "extra".to_owned());
    let made = Command::CreateProfile {
        project: project.clone(),
        name: name.clone(),
        wanted: Box::default(),
    };
    let with = |names: &[&str]| {
        let profiles = Some(names.iter().map(|name| (*name).to_owned()).collect());
        Asked(reconfigure("web", Reconfigure { profiles, ..Reconfigure::default() }))
    };
    let removed = Command::DeleteProfile { project, name };
    let web = given(&[
        &[Asked(made)],
        &stopped("web", &[]),
        &[with(&["default", "extra"]), Asked(snapshot("web", "one")), Done],
        &[with(&["default"]), Asked(removed)],
    ]);
    check(&web, restore("web", "one"), "Profile not found");
}

#[test]
fn what_a_guest_does_when_it_ends() {
    let restarted = "operation-accepted, instance-stopped, instance-start-requested; Start";
    let ended = |pairs: &[(&str, &str)], cause: ExitCause, seconds: i64, then: &str| {
        let house = House::after(&running("web", pairs));
        let exited = house.exited("web", cause, seconds);
        assert_eq!(house.decide(&Command::ObserveExit(exited)), then, "{pairs:?} {cause:?}");
    };
    ended(&[], GuestShutdown, 60, "instance-stopped");
    ended(&[], GuestReboot, 60, restarted);
    ended(&[], Signal(9), 60, "instance-stopped");
    let again = [("boot.autorestart", "true")];
    ended(&again, Signal(9), 60, restarted);
    ended(&again, OutOfMemory, 5, restarted);
    ended(&again, GuestShutdown, 60, "instance-stopped");
    // It would die again, and again.
    ended(&again, Signal(9), 4, "instance-stopped");
    ended(&again, ExitCause::Status(1), 0, "instance-stopped");
    ended(&[], HostReboot, 60, restarted);
    ended(&[("boot.autostart", "false")], HostReboot, 60, "instance-stopped");
    ended(&[("boot.autostart", "true")], HostReboot, 60, restarted);
}

#[test]
fn an_end_of_another_incarnation_is_old_news() {
    let house = House::after(&running("web", &[]));
    let old = house.exited("web", Signal(9), 60);
    let later = House::after(&given(&[&running("web", &[]), &[Asked(restart("web", true)), Done]]));
    assert_eq!(later.decide(&Command::ObserveExit(old)), "nothing");
}

#[test]
fn autostart_is_by_policy() {
    let auto = |pairs: &[(&str, &str)], then: &str| {
        let house = House::after(&stopped("web", pairs));
        let instance = house.instance("web").id;
        assert_eq!(house.decide(&Command::AutostartInstance { instance }), then);
    };
    auto(&[("boot.autostart", "true")], "operation-accepted, instance-start-requested; Start");
    auto(&[("boot.autostart", "false")], "nothing");
    auto(&[], "nothing");
}
