//! From the words of the port into those of the shim, and back.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use stapes_core::{
    ids::{Epoch, Generation, InstanceId},
    port::{
        DriverError,
        guest::{Checkpointed, ExecSpec, ExitCause, Exited, Held, Running},
        storage::RootLayers,
    },
    spec::{GuestSpec, Incarnation, Limits},
};
use stapes_shim::{
    cgroup::Layout,
    fault::Fault,
    protocol::{self, Cause, Exec, Exit, Hello},
    spec,
};

/// The host name of a Linux machine is no longer.
const HOST_NAME_BYTES_MAX: usize = 64;

/// What the shim is told. `disks` are where the spec's disks are on this host, in their order.
pub(super) fn spec(
    spec: &GuestSpec,
    root: &RootLayers,
    disks: &[PathBuf],
    cgroups: &Layout,
    layers_by_path: bool,
    now: DateTime<Utc>,
) -> Result<spec::Spec, DriverError> {
    check(spec)?;
    let disks = spec.disks.iter().zip(disks).map(|(disk, source)| spec::Disk {
        name: disk.name.clone(),
        source: source.clone(),
        path: disk.path.clone(),
        read_only: disk.read_only,
    });
    let nics = spec.nics.iter().map(|nic| spec::Nic {
        name: nic.name.clone(),
        host_name: nic.host_name.clone(),
        bridge: nic.bridge.clone(),
        mac: nic.mac.0,
    });
    let files = spec.files.iter().map(|file| spec::WrittenFile {
        path: file.path.clone(),
        content: file.content.clone(),
        mode: file.mode,
        uid: file.uid,
        gid: file.gid,
        create_only: file.create_only,
    });
    let ids = spec::Ids { base: spec.idmap.base, size: spec.idmap.size };
    Ok(spec::Spec {
        instance: spec.instance.to_string(),
        epoch: spec.incarnation.epoch.0,
        generation: spec.incarnation.generation.0,
        hostname: spec.hostname.clone(),
        root: match root {
            RootLayers::Overlay { lower, volume } => {
                spec::Root::Overlay { lower: lower.clone(), volume: volume.clone() }
            }
            RootLayers::Plain { root } => spec::Root::Plain { root: root.clone() },
        },
        ids: (!spec.security.privileged).then_some(ids),
        nesting: spec.security.nesting,
        limits: limits(&spec.limits),
        init: vec!["/sbin/init".to_owned()],
        environment: spec.environment.clone().into_iter().collect(),
        nics: nics.collect(),
        disks: disks.collect(),
        files: files.collect(),
        layers_by_path,
        restore: None,
        cgroups: cgroups.clone(),
        asked_at_us: now.timestamp_micros(),
    })
}

/// What the kernel would refuse later, or worse, take.
fn check(spec: &GuestSpec) -> Result<(), DriverError> {
    let refuse = |text: String| Err(DriverError::Refused(text));
    if spec.hostname.is_empty() || spec.hostname.len() > HOST_NAME_BYTES_MAX {
        return refuse(format!("{:?} cannot be a host name: 1 to 64 bytes", spec.hostname));
    }
    if !spec.security.privileged && (spec.idmap.base == 0 || spec.idmap.size == 0) {
        return refuse("an unprivileged guest needs ids of the host other than root's".to_owned());
    }
    for (key, value) in &spec.environment {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return refuse(format!("environment.{key} cannot be set: no `=` or NUL in a name"));
        }
    }
    for disk in &spec.disks {
        let climbs = disk.path.components().any(|part| part == std::path::Component::ParentDir);
        if !disk.path.is_absolute() || climbs {
            let path = disk.path.display();
            return refuse(format!("disk {}: {path} is no absolute path inside", disk.name));
        }
    }
    Ok(())
}

pub(super) fn limits(limits: &Limits) -> spec::Limits {
    spec::Limits {
        memory_bytes: limits.memory_bytes,
        cpu: limits.cpu.map(|cpu| spec::Cpu { quota_us: cpu.quota_us, period_us: cpu.period_us }),
        processes: limits.processes,
    }
}

pub(super) fn exec(spec: &ExecSpec) -> Exec {
    Exec {
        command: spec.command.clone(),
        environment: spec.environment.clone().into_iter().collect(),
        working_directory: spec.working_directory.clone(),
        user: spec.user,
        group: spec.group,
        terminal: spec.terminal,
    }
}

pub(super) fn running(
    instance: InstanceId,
    hello: &Hello,
    frozen: bool,
    held: Option<Held>,
) -> Running {
    Running {
        instance,
        incarnation: incarnation(hello.epoch, hello.generation),
        pid: hello.pid,
        started_at: time(hello.started_at_us),
        frozen,
        held,
    }
}

pub(super) const fn held(held: protocol::Held) -> Held {
    match held {
        protocol::Held::Checkpointed => Held::Checkpointed,
        protocol::Held::Restored => Held::Restored,
    }
}

pub(super) fn checkpointed(done: &protocol::Checkpointed) -> Checkpointed {
    Checkpointed {
        bytes: done.bytes,
        frozen_at: time(done.frozen_at_us),
        took_ms: u64::try_from(done.took_us / 1000).unwrap_or_default(),
    }
}

pub(super) fn exited(instance: InstanceId, exit: &Exit) -> Exited {
    Exited {
        instance,
        incarnation: incarnation(exit.epoch, exit.generation),
        cause: cause(exit.cause),
        at: time(exit.at_us),
    }
}

pub(super) const fn incarnation(epoch: u64, generation: u64) -> Incarnation {
    Incarnation { epoch: Epoch(epoch), generation: Generation(generation) }
}

pub(super) const fn cause(cause: Cause) -> ExitCause {
    match cause {
        Cause::Shutdown => ExitCause::GuestShutdown,
        Cause::Reboot => ExitCause::GuestReboot,
        Cause::Forced => ExitCause::Forced,
        Cause::LeaseExpired => ExitCause::LeaseExpired,
        Cause::OutOfMemory => ExitCause::OutOfMemory,
        Cause::Status(status) => ExitCause::Status(status),
        Cause::Signal(signal) => ExitCause::Signal(signal),
        Cause::HostReboot => ExitCause::HostReboot,
        Cause::Unknown => ExitCause::Lost,
    }
}

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// Which kind of error the kernel's number means for the caller.
pub(super) fn refusal(doing: &str, text: &str, errno: i32) -> DriverError {
    use nix::libc::{
        EACCES, EDQUOT, EINVAL, EISDIR, ELOOP, ENOENT, ENOEXEC, ENOSPC, ENOTDIR, EOPNOTSUPP, EPERM,
    };
    let text = format!("{doing}: {text}");
    match errno {
        ENOSPC | EDQUOT => DriverError::Full(text),
        // The same request would get the same answer.
        0 | EACCES | EINVAL | EISDIR | ELOOP | ENOENT | ENOEXEC | ENOTDIR | EOPNOTSUPP | EPERM => {
            DriverError::Refused(text)
        }
        _ => DriverError::Failed(text),
    }
}

pub(super) fn failed(doing: &str) -> impl FnOnce(std::io::Error) -> DriverError {
    move |error| DriverError::Failed(format!("{doing}: {error}"))
}

pub(super) fn fault(fault: Fault) -> DriverError {
    DriverError::Failed(fault.to_string())
}
