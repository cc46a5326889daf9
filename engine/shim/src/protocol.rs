//! What driver and shim say to each other: one MessagePack value a packet, named fields.
//!
//! A connection carries one conversation: a question and its answer; an execution, from
//! [`Request::Exec`] to [`Reply::Ended`]; or a subscription, from [`Request::Watch`] to
//! [`Reply::Exited`]. The connection that a shim is born with starts as a subscription, whose
//! first word is [`Reply::Hello`] or [`Reply::Refused`].
//!
//! Daemons of other versions speak with shims that run: fields are added with a default, words are
//! added and never changed, and [`VERSION`] counts what cannot be said so.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Bytes of one message at most.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// File descriptors that ride with one message at most.
pub const DESCRIPTORS_MAX: usize = 4;
/// Conversations that one shim has at once at most.
pub const CONNECTIONS_MAX: usize = 512;
/// What a console keeps, in bytes.
pub const CONSOLE_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    Hello,
    /// Answered by [`Reply::Exited`] when the guest ends.
    Watch,
    /// With three descriptors (standard input, output, error), or none and a terminal.
    Exec(Exec),
    /// To the program of this connection.
    Signal(i32),
    /// The terminal of this connection's program.
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Answered by [`Reply::Descriptor`]: a stream that begins with what the console kept.
    Console {
        columns: u16,
        rows: u16,
    },
    /// Answered by [`Reply::Descriptor`]: a file with what the console kept.
    ConsoleLog,
    /// Ask init to shut down. Answered by [`Reply::Exited`] when it has.
    Shutdown,
    /// Write the guest into files and hold it. Answered by [`Reply::Checkpointed`].
    Checkpoint(Checkpoint),
    /// Let a guest go on that is held by a checkpoint. Answered by [`Reply::Done`].
    Resume,
    /// Let a guest run that is restored. Answered by [`Reply::Done`].
    Activate,
    /// Kill everything at this time of the clock that counts from boot, sleep included (seconds and
    /// nanoseconds), unless told otherwise before; none: not at all. Answered by [`Reply::Done`].
    Lease(Option<(u64, u32)>),
    /// Kill everything. Answered by [`Reply::Exited`] when nothing is left.
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Hello(Hello),
    /// The program runs; with a terminal, its master rides along.
    Started {
        pid: i32,
    },
    /// The program ended: its status, or 128 + the signal that killed it.
    Ended {
        status: i32,
    },
    Descriptor,
    Done,
    Exited(Exit),
    Checkpointed(Checkpointed),
    /// It could not be done; `errno` is the kernel's reason or 0.
    Refused {
        text: String,
        errno: i32,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub working_directory: Option<String>,
    pub user: u32,
    pub group: u32,
    pub terminal: Option<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The program `criu`.
    pub criu: PathBuf,
    /// The directory for the files, which is there and empty.
    pub images: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// Of all files.
    pub bytes: u64,
    pub frozen_at_us: i64,
    pub took_us: i64,
}

/// What a guest that stands still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// [`Request::Resume`], or its end.
    Checkpointed,
    /// [`Request::Activate`], or its end.
    Restored,
}

/// Who runs here. Also the file `state`, which the shim writes when its guest runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub instance: String,
    pub epoch: u64,
    pub generation: u64,
    /// Of init, on the host.
    pub pid: i32,
    /// Of init, in clock ticks after boot: with the pid and the boot it is unique.
    pub start_ticks: u64,
    pub boot: String,
    pub started_at_us: i64,
    /// This shim took the guest over from one that was killed.
    #[serde(default)]
    pub rescued: bool,
    /// It stands still.
    #[serde(default)]
    pub held: Option<Held>,
    /// What did not go as it was told, but well enough to run.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// How the guest ended. Also the file `exit`, the shim's last word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub epoch: u64,
    pub generation: u64,
    pub cause: Cause,
    pub at_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    Shutdown,
    Reboot,
    Forced,
    /// By [`Request::Lease`].
    LeaseExpired,
    OutOfMemory,
    Status(i32),
    Signal(i32),
    /// The host was restarted under it.
    HostReboot,
    /// Its end was seen, or found, and its cause is not known.
    Unknown,
}
