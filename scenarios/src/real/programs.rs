//! The programs under test, and the image that their guests are made of: built once, then used.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// `stapes`, with `stapes-shim` and `stapes-unpack` beside it. `STAPES_BIN` names another one.
///
/// # Panics
/// When they cannot be built.
#[must_use]
pub fn stapes() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| std::env::var_os("STAPES_BIN").map_or_else(build, PathBuf::from)).clone()
}

/// Builds them as this program was built.
fn build() -> PathBuf {
    let target = target();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "-p", "stapes", "-p", "stapes-shim", "-p", "stapes-drivers"]);
    if target.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(built.success(), "the programs are built");
    target.join("stapes")
}

/// `target/debug` or `target/release`: this is `target/debug/deps/crash-…` or an example.
fn target() -> PathBuf {
    let me = std::env::current_exe().expect("the program's own path");
    me.ancestors().nth(2).expect("a target directory").to_owned()
}

/// A busybox guest's image, in one file.
///
/// # Panics
/// When it cannot be built: busybox-static is needed.
#[must_use]
pub fn busybox_image() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_busybox).clone()
}

fn build_busybox() -> PathBuf {
    let kept = target().parent().map_or_else(std::env::temp_dir, Path::to_owned).join("test-cache");
    let file = kept.join("stapes-scenarios-busybox.tar.zst");
    if !file.exists() {
        std::fs::create_dir_all(&kept).expect("a directory for images");
        let staging = tempfile::tempdir_in(&kept).expect("a directory to build in");
        let mut stapes = Command::new(stapes());
        stapes.args(["image", "build", "busybox", "--output"]).arg(staging.path());
        let built = stapes.output().expect("stapes runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let made = std::fs::read_dir(staging.path()).expect("it is there").next();
        let made = made.expect("an image was made").expect("it can be read").path();
        std::fs::rename(made, &file).expect("it is named");
    }
    file
}
