//! Daemons and shims that are killed: nothing runs twice, nothing is lost, nothing is left.

use std::{fs, sync::Arc, time::Duration};

use futures::StreamExt as _;
use stapes_core::port::guest::{
    ExecSpec, ExitCause, Guests, Held, Release, Running, Stop, laws::run,
};
use stapes_drivers::guest::Containers;
use stapes_shim::{protocol::Hello, record};

use crate::host::{Host, Kind, has_criu};

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// Waits until the driver serves the guest again.
async fn served_again(driver: &Containers, before: Running) {
    let wanted = ExecSpec { command: vec!["true".to_owned()], ..ExecSpec::default() };
    for _ in 0..1000 {
        if let Ok(mut session) = driver.exec(before.instance, &wanted).await
            && session.control.wait().await == Ok(0)
        {
            assert_eq!(driver.running(before.instance).await, Some(before));
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the guest is not served again");
}

/// Waits until the driver knows what became of a guest whose shim was killed.
async fn called_again(driver: &Containers, host: &Host, killed: i32) {
    for _ in 0..1000 {
        if host.shims().iter().any(|pid| *pid > killed && is_shim(*pid)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no shim has taken the guest over: {driver:?}");
}

/// Not CRIU, nor its hook.
fn is_shim(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("--rescue"))
}

#[tokio::test]
async fn a_held_guest_is_held_without_its_shim() {
    if !has_criu() {
        return;
    }
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    let mut exits = driver.exits();
    let (mut spec, root) = host.busybox();
    let id = spec.instance;
    let images = host.directory.path().join("images");
    let running = driver.start(&spec, &root).await.unwrap();
    let shim = host.shims()[0];
    let checkpoint = driver.checkpoint(id, &images).await.unwrap();
    kill(shim);
    called_again(&driver, &host, shim).await;
    assert_eq!(driver.checkpoint(id, &images).await, Ok(checkpoint));
    assert_eq!(driver.running(id).await.unwrap().held, Some(Held::Checkpointed));
    driver.release(id, Release::Resume).await.unwrap();
    served_again(&driver, running).await;
    // The other half of a move: it is lost here, and nothing of it is left to run.
    driver.release(id, Release::Kill).await.unwrap();
    spec.incarnation.epoch = spec.incarnation.epoch.next();
    let restored = driver.restore(&spec, &root, &images).await.unwrap();
    // Its init is the child of its shim.
    let status = fs::read_to_string(format!("/proc/{}/status", restored.pid)).unwrap();
    let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    kill(shim.trim().parse().unwrap());
    let exited = exits.next().await.unwrap();
    assert_eq!((exited.instance, exited.incarnation), (id, spec.incarnation));
    assert_eq!(driver.running(id).await, None);
    driver.stop(id, Stop::Force).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_outlives_its_shim() {
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    let mut exits = driver.exits();
    let (spec, root) = host.busybox();
    let running = driver.start(&spec, &root).await.unwrap();
    for _ in 0..2 {
        kill(host.shims()[0]);
        served_again(&driver, running).await;
    }
    // Its console works again, both ways.
    let console = driver.console(spec.instance, (80, 25)).await.unwrap().stream;
    let wanted = ["sh", "-c", "echo to the console > /dev/console"].map(str::to_owned).to_vec();
    let wanted = ExecSpec { command: wanted, ..ExecSpec::default() };
    let mut session = driver.exec(spec.instance, &wanted).await.unwrap();
    assert_eq!(session.control.wait().await, Ok(0));
    let mut text = String::new();
    let mut console = fs::File::from(console);
    while !text.contains("to the console\r\n") {
        let mut bytes = [0; 256];
        let count = std::io::Read::read(&mut console, &mut bytes).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    // Only a parent sees a reboot: the end is told, as a shutdown.
    let wanted = ExecSpec { command: vec!["reboot".to_owned()], ..ExecSpec::default() };
    let session = driver.exec(spec.instance, &wanted).await.unwrap();
    assert_eq!(exits.next().await.unwrap().cause, ExitCause::GuestShutdown);
    drop(session);
    driver.start(&spec, &root).await.unwrap();
    assert_eq!(driver.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_shim_killed_while_nobody_looks_is_found_at_adoption() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    let running = driver.start(&spec, &root).await.unwrap();
    let (gone, its_root) = host.busybox();
    let its_pid = driver.start(&gone, &its_root).await.unwrap().pid;
    drop(driver);
    for shim in host.shims() {
        kill(shim);
    }
    // The second guest dies with nobody to see why.
    kill(its_pid);
    while alive(its_pid) {
        tokio::task::yield_now().await;
    }
    let driver = host.driver();
    let (adopted, exited) = driver.adopt().await.unwrap();
    assert_eq!(adopted, [running]);
    let exited: Vec<_> = exited.iter().map(|one| (one.instance, one.cause)).collect();
    assert_eq!(exited, [(gone.instance, ExitCause::Lost)]);
    assert_eq!(run(driver.as_ref(), spec.instance, &["echo", "here"], "").await.0, "here\n");
    let clean = Stop::Clean { timeout: Duration::from_secs(30) };
    driver.stop(spec.instance, clean).await.unwrap();
    assert_eq!(driver.stop(gone.instance, Stop::Force).await, Ok(ExitCause::Lost));
    assert_eq!(host.leftovers(), Vec::<String>::new());
    assert_eq!(fs::read_dir(host.run_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_records_of_another_boot_tell_that_the_host_was_restarted() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    let pid = driver.start(&spec, &root).await.unwrap().pid;
    drop(driver);
    let directory = fs::File::open(host.run_dir().join(spec.instance.to_string())).unwrap();
    let hello: Hello = record::read(&directory, record::STATE).unwrap().unwrap();
    for shim in host.shims() {
        kill(shim);
    }
    kill(pid);
    let hello = Hello { boot: "another".to_owned(), ..hello };
    record::write(&directory, record::STATE, &hello, false).unwrap();
    let driver = host.driver();
    let (running, exited) = driver.adopt().await.unwrap();
    assert_eq!((running.len(), exited[0].cause), (0, ExitCause::HostReboot));
    assert_eq!(exited[0].incarnation, spec.incarnation);
    driver.start(&spec, &root).await.unwrap();
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    assert_eq!(driver.adopt().await, Ok((vec![], vec![])));
}

#[tokio::test]
async fn a_start_that_is_killed_anywhere_leaves_nothing() {
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    let (mut killed, mut started) = (0, 0);
    for round in 0..40_u64 {
        let start = {
            let (driver, spec, root) = (Arc::clone(&driver), spec.clone(), root.clone());
            tokio::spawn(async move { driver.start(&spec, &root).await })
        };
        tokio::time::sleep(Duration::from_micros(round * 400)).await;
        let shims = host.shims();
        shims.iter().for_each(|pid| kill(*pid));
        match start.await.unwrap() {
            Ok(running) => {
                started += 1;
                // It may have been taken over after the kill, or not have been hit at all.
                served_again(&driver, running).await;
                driver.stop(spec.instance, Stop::Force).await.unwrap();
            }
            Err(error) => {
                killed += 1;
                assert!(error.retryable(), "{error}");
                assert_eq!(driver.running(spec.instance).await, None);
            }
        }
        assert_eq!(host.leftovers(), Vec::<String>::new(), "round {round}");
        assert_eq!(fs::read_dir(host.run_dir()).unwrap().count(), 0, "round {round}");
    }
    assert!(killed > 0 && started > 0, "{killed} killed, {started} started");
}

#[tokio::test]
async fn what_nobody_owns_is_removed() {
    let host = Host::new(Kind::Plain);
    let driver = host.driver();
    let layout = stapes_shim::cgroup::Layout::discover(&host.parent).unwrap();
    let owner = 1_700_000_000;
    layout.group("orphan").create(owner, &stapes_shim::spec::Limits::default()).unwrap();
    fs::create_dir(host.run_dir().join("b7f7b5f2-64f5-4e30-8a6a-0e9f8e5c0001")).unwrap();
    assert_eq!(driver.adopt().await, Ok((vec![], vec![])));
    assert_eq!(host.leftovers(), Vec::<String>::new());
    assert_eq!(fs::read_dir(host.run_dir()).unwrap().count(), 0);
}
