//! Programs executed inside: many at once, as users, in directories, on terminals.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    sync::Arc,
};

use stapes_core::port::guest::{
    ExecSpec, Guests, Stop,
    laws::{drain, run},
};

use crate::host::{Host, Kind};

fn script(text: &str) -> ExecSpec {
    let command = ["sh", "-c", text].map(str::to_owned).to_vec();
    ExecSpec { command, ..ExecSpec::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_programs_at_once_lose_nothing() {
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    driver.start(&spec, &root).await.unwrap();
    let programs: Vec<_> = (0..20)
        .map(|number| {
            let driver = Arc::clone(&driver);
            let id = spec.instance;
            tokio::spawn(async move {
                let text = format!("yes {number} | head -n 20000; echo end >&2; exit {number}");
                let (out, err, status) = run(driver.as_ref(), id, &["sh", "-c", &text], "").await;
                assert_eq!((out.lines().count(), err.as_str(), status), (20_000, "end\n", number));
                assert!(out.lines().all(|line| line == number.to_string()));
            })
        })
        .collect();
    for program in programs {
        program.await.unwrap();
    }
    driver.stop(spec.instance, Stop::Force).await.unwrap();
}

#[tokio::test]
async fn a_program_runs_as_whom_and_where_it_was_asked_for() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    driver.start(&spec, &root).await.unwrap();
    let say = async |wanted: ExecSpec| {
        let mut session = driver.exec(spec.instance, &wanted).await.unwrap();
        let (stdout, stderr) = session.output.take().unwrap();
        let (out, err) = tokio::join!(drain(stdout), drain(stderr));
        (out, err, session.control.wait().await.unwrap())
    };
    let wanted = ExecSpec {
        user: 1000,
        group: 100,
        working_directory: Some("/tmp".to_owned()),
        environment: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
        ..script("id -u; id -g; pwd; echo \"$A\"; grep CapEff /proc/self/status | cut -f2")
    };
    assert_eq!(say(wanted).await.0, "1000\n100\n/tmp\nb c\n0000000000000000\n");
    // It is in the guest in every way: counted, limited and confined like init.
    let place = script("cut -d: -f2- /proc/self/cgroup | sort -u; cat /proc/self/status");
    let (status, ..) = say(place).await;
    assert!(status.contains("Seccomp:\t2") && status.contains(":/.exec"), "{status}");
    assert!(!status.contains(":/process"), "{status}");
    let (_, err, status) =
        say(ExecSpec { working_directory: Some("/nowhere".to_owned()), ..script("true") }).await;
    assert_eq!(status, 126);
    assert!(err.contains("/nowhere"), "{err}");
    let not_executable =
        ExecSpec { command: vec!["/etc/inittab".to_owned()], ..ExecSpec::default() };
    assert_eq!(say(not_executable).await.2, 126);
    // Its PATH is the guest's and absolute.
    let odd = ExecSpec {
        command: vec!["odd".to_owned()],
        environment: BTreeMap::from([("PATH".to_owned(), "/odd:/bin".to_owned())]),
        ..ExecSpec::default()
    };
    assert_eq!(say(odd.clone()).await.2, 127);
    let make =
        "mkdir -p /odd; echo '#!/bin/sh' > /odd/odd; echo exit 5 >> /odd/odd; chmod +x /odd/odd";
    say(script(make)).await;
    assert_eq!(say(odd).await.2, 5);
    driver.stop(spec.instance, Stop::Force).await.unwrap();
}

#[tokio::test]
async fn a_terminal_is_the_guests_own() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    driver.start(&spec, &root).await.unwrap();
    let text = "tty; stty size; stat -c %u:%g $(tty); read line; stty size; echo got $line";
    let wanted = ExecSpec { terminal: Some((100, 30)), user: 1000, ..script(text) };
    let mut session = driver.exec(spec.instance, &wanted).await.unwrap();
    let mut terminal = File::from(session.input);
    let mut begun = String::new();
    let mut bytes = [0; 256];
    while !begun.contains("1000:5\r\n") {
        let count = terminal.read(&mut bytes).unwrap();
        begun.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(begun.contains("/dev/pts/") && begun.contains("30 100\r\n"), "{begun}");
    session.control.resize(132, 50).await.unwrap();
    // Another question to the same shim is answered after the resize.
    run(driver.as_ref(), spec.instance, &["true"], "").await;
    terminal.write_all(b"hello\n").unwrap();
    let mut rest = String::new();
    // The end of a terminal is an error, not an end of file.
    while let Ok(count) = terminal.read(&mut bytes) {
        rest.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(rest.contains("50 132\r\n") && rest.contains("got hello"), "{rest}");
    assert_eq!(session.control.wait().await, Ok(0));
    driver.stop(spec.instance, Stop::Force).await.unwrap();
}
