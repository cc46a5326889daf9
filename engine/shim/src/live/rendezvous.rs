//! Where CRIU's hook and the shim meet: two named pipes beside the guest's records.
//!
//! The hook outlives the shim that started it, and the shim that comes after finds it there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::Path,
};

use nix::libc;
use rustix::fs::{FileType, Mode, OFlags, mknodat, openat};

use crate::record;

const SAID: &str = "said";
const VERDICT: &str = "verdict";
/// More than a hook says.
const WORD_BYTES: usize = 32;

/// What the hook says to the shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// From now on the guest stands still.
    Began,
    /// Everything is in the files.
    Dumped,
    /// Everything is made again, below this init.
    Restored { pid: i32 },
}

/// What the hook is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Undo,
}

/// Makes both pipes anew, and opens the shim's end: it never blocks and never ends.
pub(crate) fn open(directory: &OwnedFd) -> io::Result<OwnedFd> {
    for name in [SAID, VERDICT] {
        record::remove(directory, name)?;
        mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    reopen(directory)
}

/// The shim's end of pipes that are there.
pub(crate) fn reopen(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(directory, SAID, flags, Mode::empty())?)
}

/// Removes them.
pub(crate) fn close(directory: &OwnedFd) {
    for name in [SAID, VERDICT] {
        // What stays goes with the directory.
        let _ = record::remove(directory, name);
    }
}

/// What hooks have said since, in their order.
pub(crate) fn hear(said: &OwnedFd) -> Vec<Said> {
    let mut bytes = [0; 16 * WORD_BYTES];
    let Ok(count) = rustix::io::read(said, &mut bytes) else { return Vec::new() };
    String::from_utf8_lossy(&bytes[..count]).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    match words.next()? {
        "began" => Some(Said::Began),
        "dumped" => Some(Said::Dumped),
        "restored" => words.next()?.parse().ok().map(|pid| Said::Restored { pid }),
        _ => None,
    }
}

/// The hook's half.
pub(super) fn say(directory: &Path, said: &Said) -> io::Result<()> {
    let word = match said {
        Said::Began => "began\n".to_owned(),
        Said::Dumped => "dumped\n".to_owned(),
        Said::Restored { pid } => format!("restored {pid}\n"),
    };
    // Waits for a shim, should there be none in this moment.
    OpenOptions::new().write(true).open(directory.join(SAID))?.write_all(word.as_bytes())
}

/// The hook's half: waits until somebody says it.
pub(super) fn hear_verdict(directory: &Path) -> io::Result<Verdict> {
    loop {
        let mut word = [0];
        let mut pipe = File::open(directory.join(VERDICT))?;
        match pipe.read(&mut word)? {
            // Who opened it died before it spoke.
            0 => {}
            _ if word[0] == b'g' => return Ok(Verdict::GoOn),
            _ => return Ok(Verdict::Undo),
        }
    }
}

/// Tells the hook, which may have spoken a moment ago and not listen yet.
pub(super) fn tell_soon(directory: &OwnedFd, verdict: Verdict) -> io::Result<()> {
    const ATTEMPTS: u32 = 1000;
    for _ in 1..ATTEMPTS {
        match tell(directory, verdict) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            answer => return answer,
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    tell(directory, verdict)
}

/// Tells the hook that waits; an error when none does.
fn tell(directory: &OwnedFd, verdict: Verdict) -> io::Result<()> {
    let path = record::short_path(directory, VERDICT);
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let word: &[u8] = match verdict {
        Verdict::GoOn => b"g",
        Verdict::Undo => b"u",
    };
    options.open(path)?.write_all(word)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn hook_and_shim_understand_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let fd: OwnedFd = File::open(directory.path()).unwrap().into();
        let said = open(&fd).unwrap();
        assert_eq!(hear(&said), []);
        let words = [Said::Began, Said::Dumped, Said::Restored { pid: 4711 }];
        for word in words {
            say(directory.path(), &word).unwrap();
        }
        assert_eq!(hear(&said), words);
        assert!(tell(&fd, Verdict::GoOn).is_err(), "nobody waits");
        for verdict in [Verdict::GoOn, Verdict::Undo] {
            let path = directory.path().to_owned();
            let hook = std::thread::spawn(move || hear_verdict(&path).unwrap());
            // It waits from some moment on.
            while tell(&fd, verdict).is_err() {
                std::thread::yield_now();
            }
            assert_eq!(hook.join().unwrap(), verdict);
        }
        assert!(fd.as_fd().try_clone_to_owned().is_ok());
        close(&fd);
        assert!(reopen(&fd).is_err());
    }
}
