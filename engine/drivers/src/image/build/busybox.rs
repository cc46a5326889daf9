//! The smallest guest that behaves: busybox as init, shell and DHCP client.

use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use stapes_core::port::DriverError;

use super::{Tree, failed, write_files};

const PROGRAMS: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];
const DIRECTORIES: [&str; 18] = [
    "bin", "sbin", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "run", "root", "home",
    "mnt", "opt", "srv", "tmp", "var/tmp", "var/log", "var/lib",
];

/// busybox init halts on SIGPWR and SIGUSR1, powers off on SIGUSR2, reboots on SIGTERM.
const INITTAB: &str = "::sysinit:/etc/rc.start\n::respawn:/etc/rc.network\n\
     console::askfirst:-/bin/sh\n::shutdown:/etc/rc.stop\n::ctrlaltdel:/sbin/reboot\n";

const RC_START: &str = "#!/bin/sh
[ -s /etc/hostname ] && hostname -F /etc/hostname
ip link set lo up
for signal in /etc/rc.d/*; do [ -x \"$signal\" ] && \"$signal\"; done
exit 0
";

const RC_STOP: &str = "#!/bin/sh\nsync\n";

/// Waits for the interface, since it may be plugged in later, and then is the DHCP client.
const RC_NETWORK: &str = "#!/bin/sh
while [ ! -e /sys/class/net/eth0 ]; do sleep 1; done
ip link set eth0 up
exec udhcpc -f -i eth0 -s /etc/udhcpc.script -t 8 -T 1 -A 5 -S -x hostname:\"$(hostname)\"
";

const UDHCPC: &str = "#!/bin/sh
# Called by udhcpc with what the server answered in the environment.
case \"$1\" in
deconfig)
    ip -4 address flush dev \"$interface\"
    ip link set \"$interface\" up
    ;;
bound | renew)
    if [ \"$1\" = bound ]; then ip -4 address flush dev \"$interface\"; fi
    ip address replace \"$ip/${mask:-24}\" dev \"$interface\"
    for gateway in $router; do
        ip route replace default via \"$gateway\" dev \"$interface\"
        break
    done
    {
        [ -n \"$domain\" ] && echo \"search $domain\"
        for server in $dns; do echo \"nameserver $server\"; done
    } > /etc/resolv.conf.new
    mv /etc/resolv.conf.new /etc/resolv.conf
    ;;
esac
exit 0
";

pub(super) fn make(place: &Path) -> Result<Tree, DriverError> {
    let program = PROGRAMS.iter().map(Path::new).find(|path| path.exists()).ok_or_else(|| {
        let text =
            "there is no busybox on this host; install busybox-static (apt install busybox-static)";
        DriverError::Refused(text.into())
    })?;
    check_static(program)?;
    let root = place.join("rootfs");
    let make = || -> std::io::Result<()> {
        for directory in DIRECTORIES {
            std::fs::create_dir_all(root.join(directory))?;
        }
        for (directory, mode) in
            [("", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)]
        {
            std::fs::set_permissions(root.join(directory), std::fs::Permissions::from_mode(mode))?;
        }
        std::fs::copy(program, root.join("bin/busybox"))?;
        std::fs::set_permissions(root.join("bin/busybox"), std::fs::Permissions::from_mode(0o755))?;
        for applet in applets(program)? {
            symlink("/bin/busybox", root.join(applet))?;
        }
        Ok(())
    };
    make().map_err(|error| failed("make the busybox tree", &error))?;
    write_files(&root, FILES)?;
    let version = version(program);
    let properties = [
        ("os", "Busybox"),
        ("release", version.as_str()),
        ("architecture", super::debian::architecture()),
        ("variant", "default"),
        ("name", "busybox"),
    ];
    let properties: BTreeMap<_, _> =
        properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Ok(Tree { root, properties })
}

const FILES: &[(&str, u32, &str)] = &[
    ("etc/inittab", 0o644, INITTAB),
    ("etc/rc.start", 0o755, RC_START),
    ("etc/rc.stop", 0o755, RC_STOP),
    ("etc/rc.network", 0o755, RC_NETWORK),
    ("etc/udhcpc.script", 0o755, UDHCPC),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/shadow", 0o600, "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n"),
    ("etc/shells", 0o644, "/bin/sh\n"),
    ("etc/profile", 0o644, "export PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"),
    ("etc/os-release", 0o644, "ID=busybox\nNAME=Busybox\nPRETTY_NAME=Busybox\n"),
    ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n"),
    ("etc/resolv.conf", 0o644, ""),
];

/// One that needs libraries would not start alone.
fn check_static(program: &Path) -> Result<(), DriverError> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(program).and_then(|file| file.take(4096).read_to_end(&mut bytes));
    read.map_err(|error| failed(&format!("read {}", program.display()), &error))?;
    let interpreter = b"/ld-";
    if bytes.windows(interpreter.len()).any(|window| window == interpreter) {
        let text = format!(
            "{} is not static; install busybox-static (apt install busybox-static)",
            program.display()
        );
        return Err(DriverError::Refused(text));
    }
    Ok(())
}

/// Where each of its commands belongs, e.g. `sbin/init`.
fn applets(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = Command::new(program).arg("--list-full").output()?;
    let known = |path: &&str| {
        ["bin/", "sbin/", "usr/bin/", "usr/sbin/"].iter().any(|directory| {
            path.strip_prefix(directory)
                .is_some_and(|name| !name.contains('/') && name != "busybox")
        })
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found: Vec<PathBuf> = text.lines().filter(known).map(PathBuf::from).collect();
    // A build for the initial RAM disk is without init; then it is still the same program.
    found.extend(["sbin/init", "bin/sh"].map(PathBuf::from));
    found.sort();
    found.dedup();
    Ok(found)
}

fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--help").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let version = text.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('v');
    if version.starts_with(|c: char| c.is_ascii_digit()) {
        version.to_owned()
    } else {
        "current".to_owned()
    }
}
