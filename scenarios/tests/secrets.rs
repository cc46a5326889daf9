//! Secrets: what a guest is given, what the log holds of it, and what remains when a key is deleted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use futures::StreamExt;
use stapes_control::SubmitError;
use stapes_core::{
    command::Command,
    config::{Config, Devices},
    ids::{ProjectId, Sequence},
    instance::{Reconfigure, Source, Status, Target},
    port::{
        guest::{ExecSpec, Guests},
        log::Followed,
        secret::{ERASED, Sealer, looks_sealed, show},
    },
    profile,
    project::Project,
};
use stapes_scenarios::pretend::{Daemon, Host, alice, instance_of_image, named};

const SOON: Duration = Duration::from_secs(5);
const SECRET: &str = "correct horse battery staple";

fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn create(name: &str, pairs: &[(&str, &str)], start: bool) -> Command {
    let mut create = instance_of_image(name);
    create.config = config(pairs);
    create.start = start;
    Command::CreateInstance(Box::new(create))
}

fn reconfigure(name: &str, config: Config) -> Command {
    let wanted = Reconfigure { config: Some(config), ..Reconfigure::default() };
    Command::ReconfigureInstance { target: named(name), wanted: Box::new(wanted) }
}

fn profile_with(daemon: &Daemon, pairs: &[(&str, &str)]) -> Command {
    let devices: Devices =
        daemon.control.world().profile("default", "default").unwrap().devices.clone();
    let wanted = profile::Wanted { description: None, config: config(pairs), devices };
    let (project, name) = ("default".to_owned(), "default".to_owned());
    Command::ConfigureProfile { project, name, wanted: Box::new(wanted), expected: None }
}

async fn furnished(host: &mut Host) -> Daemon {
    let daemon = host.start().await;
    daemon.furnish().await;
    daemon
}

/// What a program in the guest finds in a variable.
async fn variable(host: &Host, daemon: &Daemon, name: &str, variable: &str) -> String {
    let id = daemon.instance(name).unwrap().id;
    let command = vec!["env".to_owned()];
    let mut session =
        host.guests.exec(id, &ExecSpec { command, ..ExecSpec::default() }).await.unwrap();
    let (output, _) = session.output.take().unwrap();
    session.control.wait().await.unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(output), &mut text).unwrap();
    let begin = format!("{variable}=");
    text.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_default().to_owned()
}

/// Every byte that the log holds.
async fn bytes_of_the_log(host: &Host) -> Vec<u8> {
    let mut follower = host.log.follow(Sequence(0)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(Followed::Records(records)) = follower.next().await.transpose().unwrap() {
        records.iter().for_each(|record| bytes.extend_from_slice(&record.payload));
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_log_holds_no_secret_in_clear_and_the_guest_does() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(profile_with(&daemon, &[("environment.SHARED", "from the profile")])).await.unwrap();
    let secrets = [
        ("environment.TOKEN", SECRET),
        ("cloud-init.user-data", "#cloud-config\npassword: tomato"),
        ("user.note", "in clear"),
    ];
    daemon.run(create("web", &secrets, true)).await.unwrap();
    assert_eq!(variable(&host, &daemon, "web", "TOKEN").await, SECRET);
    assert_eq!(variable(&host, &daemon, "web", "SHARED").await, "from the profile");
    let mut wanted = config(&secrets);
    wanted.insert("environment.LATER".to_owned(), "another secret".to_owned());
    daemon.run(reconfigure("web", wanted)).await.unwrap();
    let (name, expires_at) = (Some("one".to_owned()), None);
    daemon.run(Command::CreateSnapshot { target: named("web"), name, expires_at }).await.unwrap();
    let restart = Command::RestartInstance { target: named("web"), force: true, timeout: SOON };
    daemon.run(restart).await.unwrap();
    assert_eq!(variable(&host, &daemon, "web", "LATER").await, "another secret");
    let bytes = bytes_of_the_log(&host).await;
    for text in [SECRET, "tomato", "from the profile", "another secret"] {
        assert!(!holds(&bytes, text), "the log holds {text:?}");
    }
    assert!(holds(&bytes, "in clear"), "the search finds what is there");
}

#[tokio::test]
async fn what_a_client_sends_back_changes_nothing() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(create("web", &[("environment.TOKEN", SECRET)], false)).await.unwrap();
    let before = daemon.instance("web").unwrap();
    let revision = |daemon: &Daemon| daemon.control.world().tail(before.id.stream()).revision;
    let known = revision(&daemon);
    let mut shown = before.config.clone();
    show(&*host.secrets, &mut shown);
    assert_eq!(shown["environment.TOKEN"], SECRET);
    for sent_back in [shown, before.config.clone()] {
        daemon.run(reconfigure("web", sent_back)).await.unwrap();
        assert_eq!(revision(&daemon), known, "nothing happened to it");
    }
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    let other = host.secrets.seal(ProjectId::derive(&["other"]), SECRET).unwrap();
    for (value, word) in [
        ("sealed:v1:AAAA", "write the value in clear"),
        (other.as_str(), "write the value in clear"),
        ("a\0b", "NUL"),
        (&"x".repeat(64 * 1024 + 1), "longer than"),
    ] {
        let refused = daemon.run(create("web", &[("environment.TOKEN", value)], false)).await;
        let Err(SubmitError::Rejected(why)) = refused else { panic!("{refused:?}") };
        assert!(why.to_string().contains(word), "{why}");
        assert!(!why.to_string().contains("a\\0b"), "{why}");
    }
    let longest = "x".repeat(64 * 1024);
    daemon.run(create("web", &[("environment.TOKEN", &longest)], true)).await.unwrap();
    assert!(matches!(daemon.status("web"), Status::Running { .. }));
}

#[tokio::test]
async fn an_erased_secret_is_gone_and_says_so() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    daemon.run(create("web", &[("environment.TOKEN", SECRET)], false)).await.unwrap();
    let sealed = daemon.instance("web").unwrap().config["environment.TOKEN"].clone();
    host.secrets.erase(Project::default_id());
    let mut shown = daemon.instance("web").unwrap().config;
    show(&*host.secrets, &mut shown);
    assert_eq!(shown["environment.TOKEN"], ERASED);
    // Sending it back with another change keeps it as it is.
    shown.insert("environment.OTHER".to_owned(), "new".to_owned());
    daemon.run(reconfigure("web", shown)).await.unwrap();
    assert_eq!(daemon.instance("web").unwrap().config["environment.TOKEN"], sealed);
    daemon.run(Command::StartInstance { target: named("web") }).await.unwrap();
    assert_eq!(daemon.status("web"), Status::Stopped);
    let bytes = bytes_of_the_log(&host).await;
    assert!(holds(&bytes, "environment.TOKEN: the secret was erased"));
    daemon.run(reconfigure("web", config(&[("environment.TOKEN", "anew")]))).await.unwrap();
    daemon.run(Command::StartInstance { target: named("web") }).await.unwrap();
    assert_eq!(variable(&host, &daemon, "web", "TOKEN").await, "anew");
}

#[tokio::test]
async fn a_copy_in_another_project_has_its_own_key() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    let project = Command::CreateProject {
        name: "blue".to_owned(),
        description: String::new(),
        config: config(&[("features.profiles", "false"), ("features.images", "false")]),
    };
    daemon.run(project).await.unwrap();
    daemon.run(create("web", &[("environment.TOKEN", SECRET)], false)).await.unwrap();
    let (name, expires_at) = (Some("one".to_owned()), None);
    daemon.run(Command::CreateSnapshot { target: named("web"), name, expires_at }).await.unwrap();
    let mut copy = instance_of_image("web");
    copy.project = "blue".to_owned();
    let (project, name) = ("default".to_owned(), "web".to_owned());
    copy.source = Source::Copy { project, name, snapshot: None, instance_only: false };
    daemon.run(Command::CreateInstance(Box::new(copy))).await.unwrap();
    host.secrets.erase(Project::default_id());
    let world = daemon.control.world();
    let copy = world.instance("blue", "web").unwrap();
    for config in [&copy.config, &copy.snapshots["one"].config] {
        assert!(looks_sealed(&config["environment.TOKEN"]));
        assert_eq!(host.secrets.open(&config["environment.TOKEN"]).unwrap(), SECRET);
    }
}

#[tokio::test]
async fn a_secret_that_is_refused_leaves_nothing() {
    let mut host = Host::default();
    let daemon = furnished(&mut host).await;
    let target = Target { project: "default".to_owned(), name: "nobody".to_owned() };
    let wanted = Reconfigure {
        config: Some(config(&[("environment.TOKEN", SECRET)])),
        ..Reconfigure::default()
    };
    let command = Command::ReconfigureInstance { target, wanted: Box::new(wanted) };
    assert!(matches!(daemon.control.submit(command, alice()).await, Err(SubmitError::Rejected(_))));
    assert!(!holds(&bytes_of_the_log(&host).await, SECRET));
}
