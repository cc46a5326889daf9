//! A Debian guest by mmdebstrap: systemd, networkd with DHCP on eth0, names from the DHCP's server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use stapes_core::port::DriverError;

use super::{Tree, failed, process, write_files};

const SOURCES_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debian {
    pub release: Release,
    pub variant: Variant,
    /// Packages beyond those that make a guest.
    pub include: Vec<String>,
    /// Where all packages come from, without security updates; otherwise where this host gets its own.
    pub mirror: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    Bullseye,
    Bookworm,
    Trixie,
}

/// How much of Debian; mmdebstrap's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// What is essential, and apt. Without manuals and translations.
    #[default]
    Minbase,
    /// All of priority important, as an installed system has.
    Important,
}

impl Debian {
    #[must_use]
    pub const fn new(release: Release) -> Self {
        Self { release, variant: Variant::Minbase, include: Vec::new(), mirror: None }
    }

    fn check(&self) -> Result<(), DriverError> {
        let package = |name: &&String| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            !(name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain))
        };
        if let Some(bad) = self.include.iter().find(package) {
            return Err(DriverError::Refused(format!(
                "{bad:?} is not the name of a package; nothing was built"
            )));
        }
        let address = |text: &str| {
            let start =
                ["http://", "https://", "file:/"].iter().any(|scheme| text.starts_with(scheme));
            start && text.chars().all(|c| c.is_ascii_graphic())
        };
        match &self.mirror {
            Some(mirror) if !address(mirror) => {
                let text = format!("{mirror:?} is not a mirror: want http://, https:// or file:/");
                Err(DriverError::Refused(format!("{text}; nothing was built")))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Release {
    /// By number or by name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Bullseye, Self::Bookworm, Self::Trixie];
        all.into_iter().find(|release| text == release.number() || text == release.suite())
    }

    #[must_use]
    pub const fn suite(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::Bullseye => "11",
            Self::Bookworm => "12",
            Self::Trixie => "13",
        }
    }

    /// udev is for networkd, which waits for it to name an interface where /sys can be written.
    fn packages(self) -> Vec<&'static str> {
        let mut packages = vec!["systemd", "systemd-sysv", "dbus", "iproute2", "netbase", "udev"];
        match self {
            // The resolver is part of systemd there.
            Self::Bullseye => {}
            Self::Bookworm | Self::Trixie => packages.push("systemd-resolved"),
        }
        packages
    }
}

impl Variant {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Minbase => "minbase",
            Self::Important => "important",
        }
    }
}

/// Debian's name of this machine's architecture.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

pub(super) async fn make(
    debian: &Debian,
    place: &Path,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Tree, DriverError> {
    debian.check()?;
    if !rustix::process::geteuid().is_root() {
        return Err(DriverError::Refused("building a Debian needs root; run it with sudo".into()));
    }
    let root = place.join("rootfs");
    let sources = sources(debian, &host_sources())?;
    process::run(command(debian, place, &root, &sources), "mmdebstrap", tell).await?;
    tell("making it a guest");
    furnish(&root)?;
    let release = debian.release;
    let properties = [
        ("os", "Debian"),
        ("release", release.suite()),
        ("version", release.number()),
        ("architecture", architecture()),
        ("variant", debian.variant.as_str()),
    ];
    let properties: BTreeMap<_, _> =
        properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Ok(Tree { root, properties })
}

fn command(
    debian: &Debian,
    place: &Path,
    root: &Path,
    sources: &[String],
) -> tokio::process::Command {
    let suite = debian.release.suite();
    let mut packages = debian.release.packages();
    packages.extend(debian.include.iter().map(String::as_str));
    let mut command = process::command("mmdebstrap");
    command.env("TMPDIR", place);
    command.args(["--mode=root", "--format=directory"]);
    command.arg(format!("--variant={}", debian.variant.as_str()));
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("--aptopt=Acquire::Languages \"none\"");
    if debian.variant == Variant::Minbase {
        for what in ["man/*", "info/*", "locale/*", "doc/*"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{what}"));
        }
        command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    }
    command
        .arg("--customize-hook=chroot \"$1\" systemctl enable systemd-networkd systemd-resolved");
    command.arg(suite).arg(root).args(sources);
    command
}

/// As lines of an apt sources.list. We name no mirror ourselves: it is the user's or the host's.
fn sources(debian: &Debian, host: &str) -> Result<Vec<String>, DriverError> {
    let suite = debian.release.suite();
    if let Some(mirror) = &debian.mirror {
        return Ok(vec![format!("deb {mirror} {suite} main")]);
    }
    let Some(main) = mirror_of(host, "/debian") else {
        return Err(DriverError::Refused(
            "this host's apt sources name no Debian mirror; nothing was built: name one with \
             --mirror URL"
                .into(),
        ));
    };
    let mut lines =
        vec![format!("deb {main} {suite} main"), format!("deb {main} {suite}-updates main")];
    let security = mirror_of(host, "/debian-security");
    lines.extend(security.map(|security| format!("deb {security} {suite}-security main")));
    Ok(lines)
}

fn host_sources() -> String {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    files.sort();
    let mut text = String::new();
    for file in files {
        if text.len() < SOURCES_BYTES_MAX {
            text.push_str(&std::fs::read_to_string(file).unwrap_or_default());
            text.push('\n');
        }
    }
    text
}

/// The first address in the host's sources whose path ends so, in either of apt's formats.
fn mirror_of(sources: &str, ending: &str) -> Option<String> {
    let lines = sources
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "));
    let words = lines.flat_map(str::split_whitespace);
    let address = |word: &&str| word.contains(":/") && word.trim_end_matches('/').ends_with(ending);
    words.filter(address).map(|word| word.trim_end_matches('/').to_owned()).next()
}

const FILES: &[(&str, u32, &str)] = &[
    (
        "etc/systemd/network/eth0.network",
        0o644,
        "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nUseDomains=yes\nUseMTU=yes\n\
         ClientIdentifier=mac\n\n[IPv6AcceptRA]\nUseDomains=yes\n",
    ),
    // Names of neighbours come from the network's own server, and from nowhere else.
    (
        "etc/systemd/resolved.conf.d/guest.conf",
        0o644,
        "[Resolve]\nLLMNR=no\nMulticastDNS=no\nResolveUnicastSingleLabel=yes\n",
    ),
    // Most devices that a container sees are not its own to trigger; interfaces are.
    (
        "etc/systemd/system/systemd-udev-trigger.service.d/guest.conf",
        0o644,
        "[Service]\nExecStart=\nExecStart=-udevadm trigger --subsystem-match=net --action=add\n",
    ),
    ("etc/default/locale", 0o644, "LANG=C.UTF-8\n"),
    ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    // Empty: every guest gets its own on its first start.
    ("etc/machine-id", 0o444, ""),
];

/// What one guest must not share with the next, and what would tell builds apart.
const LEFTOVERS: &[&str] = &[
    "var/lib/dbus/machine-id",
    "var/cache/ldconfig/aux-cache",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    // Without it a guest keeps the name that it is started with: the instance's.
    "etc/hostname",
    "etc/hostname.dpkg-new",
];

fn furnish(root: &Path) -> Result<(), DriverError> {
    write_files(root, FILES)?;
    let tidy = || -> std::io::Result<()> {
        let ssh = std::fs::read_dir(root.join("etc/ssh")).into_iter().flatten().flatten();
        let keys = ssh.filter(|entry| entry.file_name().to_string_lossy().starts_with("ssh_host_"));
        let leftovers = LEFTOVERS.iter().map(|path| root.join(path));
        for path in
            leftovers.chain(keys.map(|entry| entry.path())).chain([root.join("etc/resolv.conf")])
        {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        // The servers that DHCP named, with its domain to search, and no stub in between.
        std::os::unix::fs::symlink(
            "../run/systemd/resolve/resolv.conf",
            root.join("etc/resolv.conf"),
        )
    };
    tidy().map_err(|error| failed("tidy the tree", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mirrors_are_found_in_both_formats() {
        let sources = |host: &str| sources(&Debian::new(Release::Bookworm), host).unwrap();
        let new = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n\n\
                   URIs: http://mirror.example/debian-security/\n";
        assert_eq!(
            sources(new),
            [
                "deb http://mirror.example/debian bookworm main",
                "deb http://mirror.example/debian bookworm-updates main",
                "deb http://mirror.example/debian-security bookworm-security main",
            ]
        );
        let old = "# deb http://no.example/debian x main\n\
                   deb [arch=amd64] https://mirror.example/pub/debian/ bookworm main\n";
        assert_eq!(
            sources(old),
            [
                "deb https://mirror.example/pub/debian bookworm main",
                "deb https://mirror.example/pub/debian bookworm-updates main",
            ]
        );
    }

    #[test]
    fn without_a_mirror_of_the_hosts_one_must_be_named() {
        let mut debian = Debian::new(Release::Bookworm);
        let host = "deb https://mirror.example/node_20.x nodistro main";
        let refusal = sources(&debian, host).unwrap_err().to_string();
        assert!(refusal.contains("--mirror URL"), "{refusal}");
        debian.mirror = Some("http://mirror.example/debian".into());
        let named = ["deb http://mirror.example/debian bookworm main"];
        assert_eq!(sources(&debian, host).unwrap(), named);
    }

    #[test]
    fn what_reaches_a_command_line_is_checked() {
        let mut debian = Debian::new(Release::Bookworm);
        assert!(debian.check().is_ok());
        debian.include = vec!["openssh-server".into(), "g++".into()];
        assert!(debian.check().is_ok());
        for bad in ["", "--hook", "a b", "a,b", "$(x)"] {
            debian.include = vec![bad.into()];
            assert!(debian.check().is_err(), "{bad}");
        }
        debian.include.clear();
        debian.mirror = Some("copy:/etc".into());
        assert!(debian.check().is_err());
    }
}
