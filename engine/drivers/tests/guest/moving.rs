//! Guests that move while they run, with a connection that must not notice: from one driver's
//! records, cgroups and disk to another's, over the same bridge.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use stapes_core::{
    ids::{InstanceId, NetworkId},
    port::{
        DriverError,
        guest::{ExitCause, Guests, Held, Mobility, Release, Stop, laws::run},
        storage::RootLayers,
    },
    spec::{GuestSpec, Limits, MacAddress, NicSpec},
};
use stapes_drivers::guest::Containers;

use crate::{
    client::Client,
    debian,
    host::{Bridge, Host, Kind, has_criu},
};

/// A client's connection stands still no longer when its guest moves, on a host as busy as one is that
/// runs all tests. What it was is printed: on an idle host less than a second.
const GAP_MAX: Duration = Duration::from_secs(5);
/// How long the kernel may take to let go of what was removed.
const LINKS_GONE_WITHIN: Duration = Duration::from_secs(10);

/// One node of an imagined cluster.
struct Node {
    host: Host,
    driver: Arc<Containers>,
    port: String,
    /// The image, once it is here.
    image: OnceLock<PathBuf>,
}

impl Node {
    fn new(bridge: &Bridge, number: u32) -> Self {
        let host = Host::new(Kind::Overlay);
        let driver = host.driver();
        let image = OnceLock::new();
        Self { host, driver, port: format!("{}{number}", bridge.port), image }
    }

    /// The spec as this node has it: its own names for its ends of the interfaces.
    fn own(&self, spec: &GuestSpec) -> GuestSpec {
        let mut spec = spec.clone();
        spec.incarnation.epoch = spec.incarnation.epoch.next();
        for nic in &mut spec.nics {
            nic.host_name.clone_from(&self.port);
        }
        spec
    }

    /// A copy of another node's disk: the image, as it is there before, and an empty volume.
    fn prepare(&self, root: &RootLayers, name: &str) -> RootLayers {
        let RootLayers::Overlay { lower, .. } = root else { panic!("not an overlay") };
        let place = |part: &str| self.host.directory.path().join(format!("{part}-{name}"));
        let image = self.image.get_or_init(|| {
            let image = place("image");
            copy(lower, &image);
            image
        });
        RootLayers::Overlay { lower: image.clone(), volume: place("volume") }
    }

    fn images(&self, name: &str) -> PathBuf {
        self.host.directory.path().join(format!("images-{name}"))
    }

    fn finish(self) {
        drop(self.driver);
        assert_eq!(self.host.leftovers(), Vec::<String>::new());
        // The kernel takes a dead guest's interfaces away a moment after the guest.
        let since = Instant::now();
        while links(&self.port) > 0 {
            assert!(since.elapsed() < LINKS_GONE_WITHIN, "an interface is left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How many interfaces of the host have `port` in their names.
fn links(port: &str) -> usize {
    let links = fs::read_dir("/sys/class/net").unwrap().flatten();
    links.filter(|link| link.file_name().to_string_lossy().contains(port)).count()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// What is left to copy when the guest stands still.
fn copy_volume(from: &RootLayers, to: &RootLayers) {
    let volume = |root: &RootLayers| match root {
        RootLayers::Overlay { volume, .. } => volume.clone(),
        RootLayers::Plain { .. } => panic!("not an overlay"),
    };
    copy(&volume(from), &volume(to));
}

async fn sh(driver: &dyn Guests, id: InstanceId, text: &str) -> String {
    let (out, err, status) = run(driver, id, &["sh", "-c", text], "").await;
    assert_eq!((err.as_str(), status), ("", 0), "{text}: {out}");
    out.trim_end().to_owned()
}

/// Gives the guest its address and a server that says back what it hears.
async fn serve(driver: &dyn Guests, id: InstanceId, bridge: &Bridge, server: &str) -> Client {
    let ip = "ip";
    let address = bridge.address(2);
    sh(driver, id, &format!("{ip} addr add {address}/24 dev eth0; {ip} link set eth0 up")).await;
    sh(driver, id, server).await;
    Client::connect(address)
}

fn with_nic(mut spec: GuestSpec, bridge: &Bridge, port: &str) -> GuestSpec {
    spec.nics = vec![NicSpec {
        name: "eth0".to_owned(),
        host_name: port.to_owned(),
        bridge: bridge.name.clone(),
        mac: MacAddress([2, 0, 0, 9, 8, 7]),
        ipv4: None,
        ipv6: None,
        network: NetworkId::derive(&["test"]),
    }];
    spec
}

/// Moves a guest as two nodes do it, and prints what it took.
async fn move_over(
    what: &str,
    (from, to): (&Node, &Node),
    (spec, root): (&GuestSpec, &RootLayers),
    client: &Client,
) -> (GuestSpec, RootLayers) {
    let id = spec.instance;
    let begun = Instant::now();
    let preflight = from.driver.preflight(id).await.unwrap();
    let looked = begun.elapsed();
    assert_eq!(preflight.verdict, Mobility::Live, "{:?}", preflight.reasons);
    let copied = to.prepare(root, what);
    let images = from.images(what);
    client.begin();
    let checkpoint = from.driver.checkpoint(id, &images).await.unwrap();
    let held = Instant::now();
    let moved = to.own(spec);
    copy_volume(root, &copied);
    let arrived = to.images(what);
    copy(&images, &arrived);
    let copying = held.elapsed();
    let restoring = Instant::now();
    let running = to.driver.restore(&moved, &copied, &arrived).await.unwrap();
    let restored = restoring.elapsed();
    assert_eq!((running.held, running.incarnation), (Some(Held::Restored), moved.incarnation));
    to.driver.activate(id).await.unwrap();
    let stood = held.elapsed() + Duration::from_millis(checkpoint.took_ms);
    from.driver.release(id, Release::Kill).await.unwrap();
    let gap = client.gap();
    println!(
        "{what}: preflight {} ms, checkpoint {} ms, copy {} ms, restore {} ms, frozen {} ms, \
         gap {} ms, images {} KiB",
        looked.as_millis(),
        checkpoint.took_ms,
        copying.as_millis(),
        restored.as_millis(),
        stood.as_millis(),
        gap.as_millis(),
        checkpoint.bytes / 1024,
    );
    assert!(gap < GAP_MAX, "{gap:?}");
    assert_eq!(from.driver.running(id).await, None);
    assert_eq!(from.host.leftovers(), Vec::<String>::new());
    (moved, copied)
}

/// A restore that must fail leaves nothing, and the guest goes on where it was.
async fn fails_and_goes_on(
    what: &str,
    (from, to): (&Node, &Node),
    (spec, root): (&GuestSpec, &RootLayers),
    client: &Client,
) {
    let id = spec.instance;
    client.begin();
    let images = from.images(what);
    from.driver.checkpoint(id, &images).await.unwrap();
    for entry in fs::read_dir(&images).unwrap().flatten() {
        // The memory of its processes is lost on the way.
        if entry.file_name().to_string_lossy().starts_with("pages-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let refused = to.driver.restore(&to.own(spec), root, &images).await;
    let Err(DriverError::Refused(text)) = refused else { panic!("{refused:?}") };
    assert!(text.contains("pr bytes"), "CRIU says what it could not read: {text}");
    assert_eq!(to.driver.running(id).await, None);
    assert_eq!(to.host.leftovers(), Vec::<String>::new());
    from.driver.release(id, Release::Resume).await.unwrap();
    let gap = client.gap();
    println!("{what}: gap {} ms; it was refused: {text}", gap.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busybox_moves_with_its_connections_and_back() {
    if !has_criu() {
        return println!("there is no CRIU");
    }
    let bridge = Bridge::with_address();
    let (mut here, there) = (Node::new(&bridge, 1), Node::new(&bridge, 2));
    let (spec, root) = here.host.busybox();
    let mut spec = with_nic(spec, &bridge, &here.port);
    spec.limits.memory_bytes = Some(256 << 20);
    let id = spec.instance;
    here.driver.start(&spec, &root).await.unwrap();
    let server = "setsid nc -ll -p 7 -e cat </dev/null >/dev/null 2>&1 &";
    let client = serve(here.driver.as_ref(), id, &bridge, server).await;
    sh(here.driver.as_ref(), id, "echo kept > /root/file; echo said > /dev/console").await;

    fails_and_goes_on("busybox-fails", (&here, &there), (&spec, &root), &client).await;
    let (spec, root) = move_over("busybox-there", (&here, &there), (&spec, &root), &client).await;
    assert_eq!(sh(there.driver.as_ref(), id, "cat /root/file; hostname").await, "kept\nguest1");
    let uptimes = sh(there.driver.as_ref(), id, "cat /proc/uptime; cat /proc/1/stat").await;
    assert!(!uptimes.is_empty());
    let shown = there.driver.console_log(id).await.unwrap();
    assert!(String::from_utf8_lossy(&shown).contains("said"), "the console comes along");
    sh(there.driver.as_ref(), id, "echo again > /dev/console").await;
    let measured = there.driver.measure(id).await.unwrap();
    assert!(measured.processes >= 3 && measured.memory_bytes > 0, "{measured:?}");
    let limits = Limits { memory_bytes: Some(300 << 20), ..Limits::default() };
    there.driver.set_limits(id, &limits).await.unwrap();

    let (spec, _root) = move_over("busybox-back", (&there, &here), (&spec, &root), &client).await;
    let shown = here.driver.console_log(id).await.unwrap();
    assert!(String::from_utf8_lossy(&shown).contains("again"));
    let count = client.finish();
    println!("{count} numbers came back, none lost, none twice");
    let clean = Stop::Clean { timeout: Duration::from_secs(20) };
    assert_eq!(here.driver.stop(id, clean).await, Ok(ExitCause::GuestShutdown));
    drop(spec);
    here.finish();
    there.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debian_with_systemd_moves_with_its_connections_and_back() {
    if !has_criu() {
        return println!("there is no CRIU");
    }
    let bridge = Bridge::with_address();
    let (mut here, there) = (Node::new(&bridge, 1), Node::new(&bridge, 2));
    let tree = debian::unpack(&here.host);
    fs::copy("/bin/busybox", tree.join("usr/local/bin/busybox")).unwrap();
    here.image.set(tree.clone()).unwrap();
    let (spec, root) = here.host.guest_on(&tree);
    let spec = with_nic(spec, &bridge, &here.port);
    let id = spec.instance;
    here.driver.start(&spec, &root).await.unwrap();
    debian::is_running(here.driver.as_ref(), id).await;
    let server = "systemd-run -q --unit=echo busybox nc -ll -p 7 -e cat";
    let client = serve(here.driver.as_ref(), id, &bridge, server).await;

    fails_and_goes_on("debian-fails", (&here, &there), (&spec, &root), &client).await;
    debian::is_running(here.driver.as_ref(), id).await;
    let (spec, root) = move_over("debian-there", (&here, &there), (&spec, &root), &client).await;
    debian::is_running(there.driver.as_ref(), id).await;
    works(there.driver.as_ref(), id).await;
    let (_spec, _root) = move_over("debian-back", (&there, &here), (&spec, &root), &client).await;
    debian::is_running(here.driver.as_ref(), id).await;
    works(here.driver.as_ref(), id).await;
    let count = client.finish();
    println!("{count} numbers came back, none lost, none twice");
    let clean = Stop::Clean { timeout: Duration::from_secs(60) };
    assert_eq!(here.driver.stop(id, clean).await, Ok(ExitCause::GuestShutdown));
    here.finish();
    there.finish();
}

/// What systemd needs to do its work: cgroups that it hears of, its bus, its journal.
async fn works(driver: &dyn Guests, id: InstanceId) {
    let ran = sh(driver, id, "systemd-run -q --wait --pipe echo served").await;
    assert_eq!(ran, "served");
    sh(driver, id, "systemctl restart systemd-logind systemd-journald").await;
    sh(driver, id, "logger -t moved hello && journalctl -q --sync && journalctl -q -t moved").await;
}
