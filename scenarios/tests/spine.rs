//! The way of a request, from the command to the guest and back, over pretend hosts.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use stapes_control::{Accepted, SubmitError};
use stapes_core::{
    command::Command,
    instance::{Source, Status},
    port::{
        DriverError,
        guest::{ExitCause, Guests},
    },
    rejection::Kind,
};
use stapes_scenarios::pretend::{Daemon, Host, alice, instance_of_image, named};

const SOON: Duration = Duration::from_secs(5);

fn launch(name: &str) -> Command {
    let mut create = instance_of_image(name);
    create.start = true;
    Command::CreateInstance(Box::new(create))
}

fn stop(name: &str, force: bool) -> Command {
    Command::StopInstance { target: named(name), force, timeout: SOON }
}

async fn furnished(host: &mut Host) -> Daemon {
    let daemon = host.start().await;
    daemon.furnish().await;
    daemon
}

async fn end_of(daemon: &Daemon, accepted: &Accepted) {
    let under_way =
        |daemon: &Daemon| daemon.control.world().operations.contains_key(&accepted.operation);
    daemon.until("the operation ends", |daemon| !under_way(daemon)).await;
}

#[tokio::test]
async fn an_instance_lives_and_goes() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(launch("web")).await.unwrap();
    assert!(matches!(daemon.status("web"), Status::Running { .. }));
    let id = daemon.instance("web").unwrap().id;
    assert!(host.guests.running(id).await.is_some());
    daemon.run(stop("web", false)).await.unwrap();
    assert_eq!(daemon.status("web"), Status::Stopped);
    daemon.run(Command::StartInstance { target: named("web") }).await.unwrap();
    let restart = Command::RestartInstance { target: named("web"), force: true, timeout: SOON };
    daemon.run(restart).await.unwrap();
    daemon.run(Command::FreezeInstance { target: named("web") }).await.unwrap();
    assert!(matches!(daemon.status("web"), Status::Frozen { .. }));
    daemon.run(Command::UnfreezeInstance { target: named("web") }).await.unwrap();
    let delete = |force| Command::DeleteInstance { target: named("web"), force };
    let refused = daemon.run(delete(false)).await;
    assert!(matches!(refused, Err(SubmitError::Rejected(_))));
    daemon.run(delete(true)).await.unwrap();
    assert!(daemon.instance("web").is_none());
    assert!(host.guests.running(id).await.is_none());
    assert!(host.networks.planned().reservations().next().is_none());
}

#[tokio::test]
async fn a_copy_brings_its_snapshots() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(Command::CreateInstance(Box::new(instance_of_image("web")))).await.unwrap();
    for name in ["one", "two"] {
        let name = Some(name.to_owned());
        let snapshot = Command::CreateSnapshot { target: named("web"), name, expires_at: None };
        daemon.run(snapshot).await.unwrap();
    }
    let mut copy = instance_of_image("copy");
    let (project, name) = ("default".to_owned(), "web".to_owned());
    copy.source = Source::Copy { project, name, snapshot: None, instance_only: false };
    daemon.run(Command::CreateInstance(Box::new(copy))).await.unwrap();
    let (web, copy) = (daemon.instance("web").unwrap(), daemon.instance("copy").unwrap());
    assert_eq!(copy.snapshots.keys().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(copy.snapshots["one"].created_at, web.snapshots["one"].created_at);
    assert_ne!(copy.snapshots["one"].id, web.snapshots["one"].id);
    assert_ne!(copy.leases["eth0"], web.leases["eth0"]);
    let restore = Command::RestoreSnapshot { target: named("copy"), name: "one".to_owned() };
    daemon.run(restore).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    host.storage.fail_next(DriverError::Full("no room".to_owned()));
    daemon.run(launch("web")).await.unwrap();
    assert!(daemon.instance("web").is_none());
    daemon.run(launch("web")).await.unwrap();
    assert!(matches!(daemon.status("web"), Status::Running { .. }));
}

#[tokio::test]
async fn one_name_has_one_holder() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    let launches = (0..8).map(|_| daemon.run(launch("web")));
    let taken = join_all(launches).await;
    assert_eq!(taken.iter().filter(|result| result.is_ok()).count(), 1);
    for refusal in taken.into_iter().filter_map(Result::err) {
        let SubmitError::Rejected(rejection) = refusal else { panic!("{refusal}") };
        assert_eq!(rejection.kind(), Kind::Conflict);
    }
}

#[tokio::test]
async fn an_address_has_one_holder() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    let names: Vec<_> = (0..16).map(|n| format!("c{n}")).collect();
    for result in join_all(names.iter().map(|name| daemon.run(launch(name)))).await {
        result.unwrap();
    }
    let address = |name: &String| daemon.instance(name).unwrap().leases["eth0"].ipv4.unwrap();
    assert_eq!(names.iter().map(address).collect::<BTreeSet<_>>().len(), names.len());
}

#[tokio::test]
async fn a_guest_that_ends_by_itself_is_told_of() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(launch("web")).await.unwrap();
    let id = daemon.instance("web").unwrap().id;
    host.guests.end(id, ExitCause::GuestShutdown);
    daemon.until("it is stopped", |daemon| daemon.status("web") == Status::Stopped).await;
    assert_eq!(daemon.instance("web").unwrap().last_exit.unwrap().0, ExitCause::GuestShutdown);
    daemon.run(Command::StartInstance { target: named("web") }).await.unwrap();
    let Status::Running { pid, .. } = daemon.status("web") else { panic!("it runs") };
    host.guests.end(id, ExitCause::GuestReboot);
    let another = |status: Status| matches!(status, Status::Running { pid: now, .. } if now != pid);
    daemon.until("it is started again", |daemon| another(daemon.status("web"))).await;
}

#[tokio::test]
async fn a_killed_daemon_loses_nothing() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(launch("stays")).await.unwrap();
    daemon.run(launch("dies")).await.unwrap();
    let dies = daemon.instance("dies").unwrap().id;
    let late = daemon.control.submit(launch("late"), alice()).await.unwrap();
    drop(daemon);
    host.guests.end(dies, ExitCause::Signal(9));
    let daemon = host.start().await;
    end_of(&daemon, &late).await;
    assert!(matches!(daemon.status("late"), Status::Running { .. }));
    assert!(matches!(daemon.status("stays"), Status::Running { .. }));
    daemon
        .until("the dead one is stopped", |daemon| daemon.status("dies") == Status::Stopped)
        .await;
}

#[tokio::test]
async fn what_ran_before_the_power_was_lost_starts_again() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(launch("web")).await.unwrap();
    let mut other = instance_of_image("other");
    other.start = true;
    other.config.insert("boot.autostart".to_owned(), "false".to_owned());
    daemon.run(Command::CreateInstance(Box::new(other))).await.unwrap();
    drop(daemon);
    host.lose_power();
    let daemon = host.start().await;
    let is_up = |daemon: &Daemon| matches!(daemon.status("web"), Status::Running { .. });
    daemon.until("it runs again", is_up).await;
    // The start that the disk may have forgotten comes again, before this; nobody wants it any more.
    let (target, name) = (named("other"), Some("later".to_owned()));
    let later = Command::CreateSnapshot { target, name, expires_at: None };
    daemon.run(later).await.unwrap();
    assert_eq!(daemon.status("other"), Status::Stopped);
    assert_eq!(host.guests.running(daemon.instance("other").unwrap().id).await, None);
    for name in ["web", "other"] {
        let (cause, _) = daemon.instance(name).unwrap().last_exit.unwrap();
        assert_eq!(cause, ExitCause::HostReboot, "{name}");
    }
}

#[tokio::test]
async fn a_forced_stop_overtakes_a_clean_one() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(launch("web")).await.unwrap();
    host.guests.deafen(daemon.instance("web").unwrap().id);
    let timeout = Duration::from_secs(600);
    let clean = Command::StopInstance { target: named("web"), force: false, timeout };
    let clean = daemon.control.submit(clean, alice()).await.unwrap();
    daemon.run(stop("web", true)).await.unwrap();
    assert_eq!(daemon.status("web"), Status::Stopped);
    end_of(&daemon, &clean).await;
}
