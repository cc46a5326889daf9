//! What becomes of a guest: how it ends, and that nothing is left of it.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use stapes_core::{
    port::{
        DriverError,
        guest::{ExecSpec, ExitCause, Guests, Stop, laws::run},
    },
    spec::{CpuLimit, DiskSource, DiskSpec, Limits, MacAddress, NicSpec},
};

use crate::host::{Bridge, Host, Kind};

const CLEAN: Stop = Stop::Clean { timeout: Duration::from_secs(30) };

#[tokio::test]
async fn a_guest_begins_with_what_its_spec_says() {
    let mut host = Host::new(Kind::Plain);
    let bridge = Bridge::new();
    let driver = host.driver();
    let (mut spec, root) = host.busybox();
    let shared = host.directory.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host\n").unwrap();
    let disk = |name: &str, path: &str, read_only| DiskSpec {
        name: name.to_owned(),
        source: DiskSource::Host(shared.clone()),
        path: path.into(),
        read_only,
    };
    spec.disks = vec![disk("data", "/srv/data", false), disk("fixed", "/mnt", true)];
    spec.environment = BTreeMap::from([("COLOUR".to_owned(), "green".to_owned())]);
    spec.nics = vec![NicSpec {
        name: "eth0".to_owned(),
        host_name: bridge.port.clone(),
        network: stapes_core::ids::NetworkId::derive(&["test"]),
        bridge: bridge.name.clone(),
        mac: MacAddress([0x10, 0x66, 0x6a, 1, 2, 3]),
        ipv4: None,
        ipv6: None,
    }];
    driver.start(&spec, &root).await.unwrap();
    let say = async |script: &str| {
        let (out, err, status) =
            run(driver.as_ref(), spec.instance, &["sh", "-c", script], "").await;
        assert_eq!(err, "", "{script}");
        (out.trim_end().to_owned(), status)
    };
    assert_eq!(say("hostname; echo $COLOUR; id -u").await.0, "guest1\ngreen\n0");
    assert_eq!(say("cat /srv/data/file; echo new > /srv/data/new").await.0, "from the host");
    assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "new\n");
    assert_eq!(say("touch /mnt/x 2>/dev/null || echo no").await.0, "no");
    assert_eq!(say("cat /sys/class/net/eth0/address").await.0, "10:66:6a:01:02:03");
    assert_eq!(say("cat /proc/1/comm; ls /dev/null /dev/console | wc -l").await.0, "init\n2");
    assert_eq!(say("tr '\\0' '\\n' < /proc/1/environ | grep -c container").await.0, "2");
    // Nothing of the host is in sight: neither descriptors nor mounts nor cgroups.
    assert_eq!(say("ls /proc/1/fd | wc -l").await.0, "3");
    assert_eq!(say("cat /proc/1/cgroup | cut -d: -f3 | sort -u").await.0, "/");
    assert_eq!(
        say(&format!("grep -c {} /proc/mounts", host.directory.path().display())).await.0,
        "0"
    );
    let measured = driver.measure(spec.instance).await.unwrap();
    assert!(measured.processes >= 2 && measured.memory_bytes > 0, "{measured:?}");
    let eth0 = measured.interfaces.iter().find(|one| one.name == "eth0").unwrap();
    assert_eq!((eth0.mac.as_str(), &eth0.host_name), ("10:66:6a:01:02:03", &bridge.port));
    assert!(eth0.up && measured.interfaces.iter().any(|one| one.loopback && one.up));
    // Started again at once: the old interface may still be there.
    for _ in 0..3 {
        driver.stop(spec.instance, Stop::Force).await.unwrap();
        driver.start(&spec, &root).await.unwrap();
    }
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn bad_specs_are_refused_and_leave_nothing() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (good, root) = host.busybox();
    let missing = |name: &str| DiskSpec {
        name: name.to_owned(),
        source: DiskSource::Host("/no/such/directory".into()),
        path: "/mnt".into(),
        read_only: false,
    };
    let mut bad = vec![good.clone(); 5];
    bad[0].hostname = String::new();
    bad[1].environment.insert("A=B".to_owned(), String::new());
    bad[2].disks = vec![DiskSpec { path: "/a/../../b".into(), ..missing("climbs") }];
    bad[3].disks = vec![missing("gone")];
    bad[4].idmap.base = 0;
    for spec in bad {
        let refusal = driver.start(&spec, &root).await;
        assert!(matches!(refusal, Err(DriverError::Refused(_))), "{refusal:?}");
    }
    std::fs::remove_file(host.directory.path().join("busybox/sbin/init")).unwrap();
    let refusal = driver.start(&good, &root).await;
    assert!(
        matches!(&refusal, Err(DriverError::Refused(text)) if text.contains("/sbin/init")),
        "{refusal:?}"
    );
    assert_eq!(host.leftovers(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(host.run_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_init_that_crashes_is_told_with_its_status() {
    let mut host = Host::new(Kind::Plain);
    let (spec, root) = host.busybox();
    let init = host.directory.path().join("busybox/sbin/init");
    std::fs::remove_file(&init).unwrap();
    std::fs::write(&init, "#!/bin/sh\nread line\nexit $line\n").unwrap();
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let driver = host.driver();
    let mut exits = driver.exits();
    for (typed, cause) in [("7\n", ExitCause::Status(7)), ("0\n", ExitCause::GuestShutdown)] {
        driver.start(&spec, &root).await.unwrap();
        let console = driver.console(spec.instance, (80, 25)).await.unwrap();
        std::io::Write::write_all(&mut std::fs::File::from(console.stream), typed.as_bytes())
            .unwrap();
        assert_eq!(exits.next().await.unwrap().cause, cause);
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn limits_hold_and_change_while_it_runs() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (mut spec, root) = host.busybox();
    spec.limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu: Some(CpuLimit { quota_us: 20_000, period_us: 100_000 }),
        processes: Some(20),
        disk_bytes: None,
    };
    driver.start(&spec, &root).await.unwrap();
    let say =
        async |script: &str| run(driver.as_ref(), spec.instance, &["sh", "-c", script], "").await;
    let hungry = "head -c 200m /dev/zero | tail -n 1 | wc -c";
    assert_ne!(say(&format!("{hungry} > /tmp/n; test $(cat /tmp/n) = 209715200")).await.2, 0);
    // The guest survives the death of one of its programs.
    assert!(driver.running(spec.instance).await.is_some());
    assert_ne!(say("for i in $(seq 40); do sleep 5 & done; wait").await.2, 0);
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let took = async || {
        let before = driver.measure(spec.instance).await.unwrap().cpu_ns;
        let began = std::time::Instant::now();
        assert_eq!(say(busy).await.2, 0);
        let used = driver.measure(spec.instance).await.unwrap().cpu_ns - before;
        (used as f64) / (began.elapsed().as_nanos() as f64)
    };
    let limited = took().await;
    assert!(limited < 0.3, "{limited} of a CPU was used under a limit of 0.2");
    driver.set_limits(spec.instance, &Limits::default()).await.unwrap();
    assert_eq!(say("for i in $(seq 40); do sleep 0 & done; wait").await.2, 0);
    let unlimited = took().await;
    assert!(unlimited > limited, "{unlimited} of a CPU without a limit, {limited} with one");
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_fork_bomb_is_stopped() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (mut spec, root) = host.busybox();
    spec.limits.processes = Some(200);
    driver.start(&spec, &root).await.unwrap();
    let bomb = ["sh", "-c", "b() { b | b & }; b; sleep 1000"].map(str::to_owned).to_vec();
    let wanted = ExecSpec { command: bomb, ..ExecSpec::default() };
    let mut session = driver.exec(spec.instance, &wanted).await.unwrap();
    while driver.measure(spec.instance).await.unwrap().processes < 150 {
        tokio::task::yield_now().await;
    }
    assert_eq!(driver.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
    assert_eq!(session.control.wait().await, Ok(137));
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_clean_stop_of_a_deaf_guest_fails_and_it_runs_on() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    let init = host.directory.path().join("busybox/sbin/init");
    std::fs::remove_file(&init).unwrap();
    // As init it hears no signal that it does not handle.
    std::os::unix::fs::symlink("../bin/sleep", &init).unwrap();
    std::fs::remove_file(&init).unwrap();
    std::fs::write(&init, "#!/bin/sh\nexec sleep 100000\n").unwrap();
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    driver.start(&spec, &root).await.unwrap();
    let short = Stop::Clean { timeout: Duration::from_millis(300) };
    let answer = driver.stop(spec.instance, short).await;
    assert!(matches!(answer, Err(DriverError::Failed(_))), "{answer:?}");
    assert!(driver.running(spec.instance).await.is_some());
    assert_eq!(driver.stop(spec.instance, Stop::Force).await, Ok(ExitCause::Forced));
}

#[tokio::test]
async fn a_frozen_guest_stops_cleanly() {
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    let (spec, root) = host.busybox();
    driver.start(&spec, &root).await.unwrap();
    driver.freeze(spec.instance).await.unwrap();
    assert_eq!(driver.stop(spec.instance, CLEAN).await, Ok(ExitCause::GuestShutdown));
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_privileged_guest_sees_less_of_the_kernel() {
    let mut host = Host::new(Kind::Plain);
    let driver = host.driver();
    let (mut spec, root) = host.busybox();
    spec.security.privileged = true;
    driver.start(&spec, &root).await.unwrap();
    let say =
        async |script: &str| run(driver.as_ref(), spec.instance, &["sh", "-c", script], "").await.0;
    assert_eq!(say("cat /proc/self/uid_map | tr -s ' '").await, " 0 0 4294967295\n");
    assert_eq!(say("echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo no").await, "no\n");
    assert_eq!(say("cat /proc/kcore | head -c 1 | wc -c").await, "0\n");
    assert_eq!(say("echo 0 > /proc/sys/net/ipv4/ip_forward && echo yes").await, "yes\n");
    let script =
        "mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>/dev/null || echo no; rm -f /tmp/mem";
    assert_eq!(say(script).await, "no\n");
    driver.stop(spec.instance, Stop::Force).await.unwrap();
    assert_eq!(host.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_that_has_just_begun_stops_cleanly() {
    let mut host = Host::new(Kind::Overlay);
    let driver = host.driver();
    for _ in 0..4 {
        let (spec, root) = host.busybox();
        driver.start(&spec, &root).await.unwrap();
        assert_eq!(driver.stop(spec.instance, CLEAN).await, Ok(ExitCause::GuestShutdown));
    }
    assert_eq!(host.leftovers(), Vec::<String>::new());
}
