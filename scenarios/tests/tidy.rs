//! The rules of the house, as tests: which crate may know which, who owns a foreign library, how a
//! file looks. Each failure says what to do about it.
//!
//! They read `cargo metadata` and the sources, so that nobody has to remember them in a review.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Which crates of ours a crate may name. Arrows point at what is depended on; what is not here is
/// forbidden. `control`, `log`, `node`, `drivers`, `nats` and `projections` never see each other:
/// they meet in `stapes`, the composition root.
const ARROWS: &[(&str, &[&str])] = &[
    ("stapes-core", &[]),
    ("stapes-shim", &[]),
    ("stapes-control", &["stapes-core"]),
    ("stapes-log", &["stapes-core"]),
    ("stapes-node", &["stapes-core"]),
    ("stapes-nats", &["stapes-core"]),
    ("stapes-projections", &["stapes-core"]),
    // It starts shims and speaks their protocol.
    ("stapes-drivers", &["stapes-core", "stapes-shim"]),
    ("stapes-api", &["stapes-core", "stapes-control", "stapes-projections"]),
    (
        "stapes",
        &[
            "stapes-core",
            "stapes-control",
            "stapes-log",
            "stapes-node",
            "stapes-nats",
            "stapes-drivers",
            "stapes-shim",
            "stapes-projections",
            "stapes-api",
        ],
    ),
    (
        "stapes-scenarios",
        &[
            "stapes-core",
            "stapes-control",
            "stapes-log",
            "stapes-node",
            "stapes-nats",
            "stapes-drivers",
            "stapes-shim",
            "stapes-projections",
            "stapes-api",
            "stapes",
        ],
    ),
];

/// Words of the language rather than libraries: any crate may use them.
const COMMON: &[&str] = &[
    "async-trait",
    "blake3",
    "bytes",
    "chrono",
    "futures",
    "ipnet",
    "rmp-serde",
    "serde",
    "serde_json",
    "sha2",
    "tempfile",
    "thiserror",
    "tokio",
    "tokio-util",
    "tracing",
    "uuid",
];

/// The crates that may name a foreign library: one, or the few that touch the kernel.
const OWNERS: &[(&str, &[&str])] = &[
    ("anstream", &["stapes"]),
    ("anstyle", &["stapes"]),
    ("async-nats", &["stapes-nats"]),
    ("axum", &["stapes-api"]),
    // Sealed secrets and join tokens are text.
    ("base64", &["stapes-core", "stapes-node"]),
    ("bzip2", &["stapes-drivers"]),
    ("chacha20poly1305", &["stapes-drivers"]),
    ("clap", &["stapes"]),
    ("clap_complete", &["stapes"]),
    ("comfy-table", &["stapes"]),
    // Files that a disk may spoil, and btrfs's send streams.
    ("crc32c", &["stapes-drivers", "stapes-log", "stapes-projections"]),
    ("crossterm", &["stapes"]),
    ("csv", &["stapes"]),
    ("dhcproto", &["stapes-drivers"]),
    ("flate2", &["stapes-drivers"]),
    ("form_urlencoded", &["stapes-api"]),
    ("getrandom", &["stapes-drivers"]),
    ("hickory-proto", &["stapes-drivers"]),
    ("http-body-util", &["stapes-api"]),
    ("hyper", &["stapes-api"]),
    ("hyper-util", &["stapes-api"]),
    ("imbl", &["stapes-core"]),
    ("indicatif", &["stapes"]),
    ("landlock", &["stapes-drivers"]),
    ("liblzma", &["stapes-drivers"]),
    ("lz4_flex", &["stapes-projections"]),
    ("minijinja", &["stapes-drivers"]),
    ("multer", &["stapes-api"]),
    ("nix", &["stapes-drivers", "stapes-shim"]),
    ("nkeys", &["stapes-nats"]),
    ("percent-encoding", &["stapes-api"]),
    ("rcgen", &["stapes-node"]),
    ("regex-lite", &["stapes-api"]),
    ("rtnetlink", &["stapes-drivers"]),
    // The log locks, preallocates and syncs its own files; a managed server is a process; a lease runs
    // by the clock that counts while the machine sleeps.
    ("rustix", &["stapes-drivers", "stapes-log", "stapes-nats", "stapes-node", "stapes-shim"]),
    ("rustls", &["stapes-api"]),
    ("rustls-webpki", &["stapes-api"]),
    ("seccompiler", &["stapes-drivers"]),
    ("serde-saphyr", &["stapes-drivers"]),
    ("similar", &["stapes"]),
    ("sled", &["stapes-projections"]),
    ("socket2", &["stapes-drivers"]),
    ("strsim", &["stapes"]),
    ("tar", &["stapes-drivers"]),
    ("tokio-rustls", &["stapes-api"]),
    ("tokio-tungstenite", &["stapes-api"]),
    ("tower", &["stapes-api"]),
    ("tower-http", &["stapes-api"]),
    ("tracing-subscriber", &["stapes"]),
    ("x509-parser", &["stapes-node"]),
    ("yaml_serde", &["stapes"]),
    ("zstd", &["stapes-drivers"]),
];

/// What core may be built from: nothing of this reads, writes, waits or rolls dice by itself. tokio
/// is there for its channels and for the fakes and laws of `port`.
const CORE_MAY_NAME: &[&str] = &[
    "async-trait",
    "base64",
    "blake3",
    "bytes",
    "chrono",
    "futures",
    "imbl",
    "ipnet",
    "rmp-serde",
    "serde",
    "sha2",
    "thiserror",
    "tokio",
    "uuid",
];

/// The world, as a source file would name it.
const WORLD: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "std::net::Tcp",
    "std::net::Udp",
    "tokio::",
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "async fn",
];

const LINES_MAX: usize = 500;

/// What is left undone has no place on main. Written apart, so that this file does not hold it.
fn unfinished() -> [String; 4] {
    [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["#[ig", "nore"].concat(),
        ["FIX", "ME"].concat(),
    ]
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("scenarios is in a workspace").to_owned()
}

struct Crate {
    name: String,
    dir: PathBuf,
    /// Name and kind; the kind of what ships is `normal`.
    dependencies: Vec<(String, String)>,
}

impl Crate {
    fn ours(&self) -> impl Iterator<Item = &str> {
        self.names(|_| true).filter(|name| is_ours(name))
    }

    fn shipped(&self) -> impl Iterator<Item = &str> {
        self.names(|kind| kind != "dev").filter(|name| !is_ours(name))
    }

    fn names(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .filter(move |(_, kind)| wanted(kind))
            .map(|(name, _)| name.as_str())
    }
}

fn is_ours(name: &str) -> bool {
    ARROWS.iter().any(|(ours, _)| *ours == name)
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().unwrap_or("normal").to_owned();
    let packages = metadata["packages"].as_array().expect("there are packages");
    let read = |package: &Value| Crate {
        name: text(&package["name"]),
        dir: Path::new(&text(&package["manifest_path"])).parent().expect("a file").to_owned(),
        dependencies: package["dependencies"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|dependency| (text(&dependency["name"]), text(&dependency["kind"])))
            .collect(),
    };
    packages.iter().map(read).collect()
}

/// Every Rust source of the workspace, with its text.
fn sources() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for package in crates() {
        for part in ["src", "tests", "benches", "examples", "build.rs"] {
            collect(&package.dir.join(part), &mut found);
        }
    }
    assert!(found.len() > 100, "only {} sources are found in {:?}", found.len(), workspace());
    found
}

fn collect(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the directory can be read") {
            collect(&entry.expect("the entry can be read").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && path.is_file() {
        let text = fs::read_to_string(path).expect("sources are UTF-8");
        let name = path.strip_prefix(workspace()).unwrap_or(path).to_owned();
        found.insert(name, text);
    }
}

/// All that breaks a rule is shown at once, with the way out.
fn none_of(broken: &[String], what_to_do: &str) {
    assert!(broken.is_empty(), "\n  {}\n\n{what_to_do}\n", broken.join("\n  "));
}

#[test]
fn crates_know_only_whom_they_may() {
    let mut broken = Vec::new();
    for package in crates() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            broken.push(format!("{} has no row in ARROWS", package.name));
            continue;
        };
        let forbidden = package.ours().filter(|name| !allowed.contains(name));
        broken.extend(forbidden.map(|name| format!("{} -> {name}", package.name)));
    }
    none_of(
        &broken,
        "These arrows are not in the picture. Put what both need behind a port in stapes-core, and let \
         the program `stapes` wire it.",
    );
}

#[test]
fn a_foreign_library_has_an_owner() {
    let mut broken = Vec::new();
    for package in crates().iter().filter(|package| package.name != "stapes-scenarios") {
        for library in package.shipped().filter(|library| !COMMON.contains(library)) {
            match OWNERS.iter().find(|(name, _)| *name == library) {
                Some((_, owners)) if owners.contains(&package.name.as_str()) => {}
                Some((_, owners)) => {
                    let owners = owners.join(", ");
                    broken.push(format!("{} names {library}, which {owners} owns", package.name));
                }
                None => broken.push(format!("{} names {library}, which is new", package.name)),
            }
        }
    }
    none_of(
        &broken,
        "Ask the owner's crate for what you need, or, for a new library, add it to OWNERS and say in the \
         manifest why it was chosen.",
    );
}

#[test]
fn core_is_built_from_pure_parts() {
    let crates = crates();
    let core = crates.iter().find(|package| package.name == "stapes-core").expect("core is there");
    let broken: Vec<String> =
        core.shipped().filter(|name| !CORE_MAY_NAME.contains(name)).map(str::to_owned).collect();
    none_of(
        &broken,
        "Core decides and does nothing else: what touches the world belongs to a driver.",
    );
}

#[test]
fn core_does_not_touch_the_world() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        // Ports are async, and their fakes and laws pretend the world.
        let core = path.starts_with("engine/core/src") && !path.starts_with("engine/core/src/port");
        if core && !path.ends_with("port.rs") {
            for (number, line) in (1..).zip(text.lines()) {
                let code = line.split("//").next().unwrap_or_default();
                let named = WORLD.iter().filter(|word| code.contains(**word));
                broken.extend(named.map(|word| format!("{}:{number}: {word}", path.display())));
            }
        }
    }
    none_of(
        &broken,
        "A decision is a pure function: let the caller hand in times, ids and what was observed.",
    );
}

#[test]
fn every_crate_obeys_the_workspace() {
    let mut broken = Vec::new();
    for package in crates() {
        let manifest = fs::read_to_string(package.dir.join("Cargo.toml")).expect("a manifest");
        for rule in ["[lints]\nworkspace = true", "version.workspace", "license.workspace"] {
            if !manifest.contains(rule) {
                broken.push(format!("{}: {rule:?} is missing", package.name));
            }
        }
        if !manifest.contains("description = ") {
            broken.push(format!("{}: no description", package.name));
        }
    }
    none_of(&broken, "Add these lines to the crate's Cargo.toml.");
}

#[test]
fn files_fit_the_head() {
    let long = |(path, text): (PathBuf, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines", path.display()))
    };
    let broken: Vec<String> = sources().into_iter().filter_map(long).collect();
    none_of(&broken, "Split them by noun or verb: a file has one subject and at most 500 lines.");
}

#[test]
fn every_file_says_what_it_is() {
    let mute = |(path, text): (PathBuf, String)| {
        (!text.starts_with("//! ")).then(|| path.display().to_string())
    };
    let broken: Vec<String> = sources().into_iter().filter_map(mute).collect();
    none_of(
        &broken,
        "Open each with a line of `//!` that says what it is, and why if that is not plain.",
    );
}

#[test]
fn nothing_is_left_undone() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for (number, line) in (1..).zip(text.lines()) {
            let words = unfinished();
            let found = words.iter().filter(|word| line.contains(word.as_str()));
            broken.extend(found.map(|word| format!("{}:{number}: {word}", path.display())));
        }
    }
    none_of(&broken, "Finish it, or take it out and say in the README what is not there yet.");
}
