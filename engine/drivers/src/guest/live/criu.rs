//! Which CRIU this host has, and whether it knows this kernel.
//!
//! A version alone says little: what it must be able to do is tried, once, on a process with a
//! socket, which is what older versions fail at on newer kernels.

use std::{
    fs::File,
    net::TcpListener,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The oldest that is known to write down sockets on today's kernels.
const VERSION: (u32, u32) = (4, 2);

/// Where it is: as configured, or wherever programs are.
pub(super) fn find(configured: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = configured {
        return path.is_file().then(|| path.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(usual);
    places.map(|place| place.join("criu")).find(|path| path.is_file())
}

/// Why it cannot be used here, in words that follow "this host".
pub(super) fn objection(criu: &Path, shim: &Path) -> Option<String> {
    let output = Command::new(criu).arg("--version").stdin(Stdio::null()).output();
    let said = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return Some(format!("cannot run {}: {error}", criu.display())),
    };
    match version(&said) {
        Some(found) if found >= VERSION => try_it(criu, shim).err(),
        Some((major, minor)) => {
            Some(format!("has CRIU {major}.{minor}, which is too old: install 4.2 or newer"))
        }
        None => Some(format!("has a CRIU that does not say its version: {}", criu.display())),
    }
}

fn version(said: &str) -> Option<(u32, u32)> {
    let version = said.lines().find_map(|line| line.strip_prefix("Version: "))?;
    let mut numbers = version.trim().split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Writes down a process that has nothing but a socket.
fn try_it(criu: &Path, shim: &Path) -> Result<(), String> {
    let cannot = |why: String| format!("has a CRIU that cannot be tried: {why}");
    let directory = tempfile::tempdir().map_err(|error| cannot(error.to_string()))?;
    let socket = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| cannot(error.to_string()))?;
    let mut subject = Command::new(shim)
        .arg(stapes_shim::live::SUBJECT)
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| cannot(error.to_string()))?;
    // It closes this when it is ready.
    if let Some(mut ready) = subject.stdout.take() {
        let _ = std::io::copy(&mut ready, &mut std::io::sink());
    }
    let dumped = Command::new(criu)
        .args(["dump", "--no-default-config", "-v1", "--manage-cgroups=ignore", "--timeout", "5"])
        .args(["--network-lock", "skip", "--tcp-established", "--log-file", "dump.log", "--tree"])
        .arg(subject.id().to_string())
        .arg("--images-dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .output();
    // CRIU has killed it if all went well.
    let _ = subject.kill();
    let _ = subject.wait();
    match dumped {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => Err(why(directory.path())),
        Err(error) => Err(cannot(error.to_string())),
    }
}

fn why(directory: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut log) = File::open(directory.join("dump.log")) {
        let _ = std::io::Read::read_to_string(&mut log, &mut text);
    }
    let line = text.lines().find(|line| line.contains("Error")).unwrap_or("it gave no reason");
    let line = line.split_once("): ").map_or(line, |(_, text)| text);
    if line.contains("Can't get rlimit") {
        return "does not let its root look at others' limits: give the daemon the capability \
                CAP_SYS_RESOURCE"
            .to_owned();
    }
    format!("has a CRIU that does not know this kernel ({line})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("Version: 4.2.1\nGitID: v4.2.1\n"), Some((4, 2)));
        assert!(version("Version: 4.10\n") > Some(VERSION));
        assert!(version("Version: 3.17.1\n") < Some(VERSION));
        assert_eq!(version("nonsense"), None);
    }

    #[test]
    fn one_that_is_not_there_is_not_found() {
        assert_eq!(find(Some(Path::new("/nowhere/criu"))), None);
    }
}
