//! The guest's root file system, mounted nowhere yet, its files owned by the guest's ids.
//!
//! On disk the files are unshifted: what belongs to the guest's root belongs to 0. The mount maps
//! ids, so that a copy, a snapshot or a migration never has to change an owner.

mod stage;

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
        fsconfig_set_string, fsmount, fsopen,
    },
};

use crate::{
    fault::{Doing as _, Fault, Result},
    spec::{Ids, Root, Spec, UPPER, WORK},
    sys::{self, mount},
};

pub(crate) fn make(spec: &Spec, namespace: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let ids = spec.ids;
    match &spec.root {
        Root::Plain { root } => layer(root, allowed(ids), namespace),
        Root::Overlay { lower, volume } => {
            let lower = layer(lower, MountAttrFlags::MOUNT_ATTR_RDONLY, namespace)?;
            let volume = layer(volume, MountAttrFlags::empty(), namespace)?;
            if spec.layers_by_path {
                stage::overlay(&lower, &volume, ids)
            } else {
                overlay(&lower, &volume, ids)
            }
        }
    }
}

/// Nodes in the image are of no use to who may not open devices anyway.
fn allowed(ids: Option<Ids>) -> MountAttrFlags {
    if ids.is_some() { MountAttrFlags::MOUNT_ATTR_NODEV } else { MountAttrFlags::empty() }
}

fn layer(
    path: &Path,
    attributes: MountAttrFlags,
    namespace: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let layer = mount::clone_of(path, false).doing_with(|| format!("open {}", path.display()))?;
    mount::set_attributes(layer.as_fd(), attributes, namespace, false).map_err(|error| {
        let doing = format!("map the guest's ids on {}", path.display());
        if error.raw_os_error() == Some(nix::libc::EINVAL) && namespace.is_some() {
            Fault::because(
                doing,
                "its file system cannot; keep the pool on btrfs, ext4, xfs or tmpfs, or set \
                 security.privileged=true",
            )
        } else {
            Fault::new(doing, error)
        }
    })?;
    Ok(layer)
}

fn overlay(lower: &OwnedFd, volume: &OwnedFd, ids: Option<Ids>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let part = |name: &'static str| {
        openat(volume, name, flags, Mode::empty()).doing_with(|| format!("open {name}"))
    };
    let (upper, work) = (part(UPPER)?, part(WORK)?);
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing("open overlay")?;
    let layers =
        [(c"lowerdir+", lower.as_fd()), (c"upperdir", upper.as_fd()), (c"workdir", work.as_fd())];
    for (key, layer) in layers {
        fsconfig_set_fd(&context, key, layer).doing("configure overlay (needs Linux 6.13)")?;
    }
    created(&context, ids)
}

/// Whether overlays of this kernel take their layers by descriptor (Linux 6.13); older ones are
/// given paths.
#[must_use]
pub fn takes_descriptors() -> bool {
    let take = || -> std::io::Result<()> {
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let layer = mount::clone_of(Path::new("/"), false)?;
        Ok(fsconfig_set_fd(&context, c"lowerdir+", &layer)?)
    };
    take().is_ok()
}

/// The overlay whose layers `context` knows.
fn created(context: &OwnedFd, ids: Option<Ids>) -> Result<OwnedFd> {
    for key in [c"xino", c"metacopy"] {
        fsconfig_set_string(context, key, c"off").doing("configure overlay")?;
    }
    let create = || Ok(fsconfig_create(context)?);
    // The overlay makes files as whoever mounts it. The host's root is not among the layers' ids:
    // as itself it could not make its work directory, and would silently mount read-only.
    match ids {
        Some(ids) => sys::acting_as(ids.base, create),
        None => create(),
    }
    .doing("create overlay")?;
    let root =
        fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, allowed(ids)).doing("mount overlay")?;
    let state = rustix::fs::fstatvfs(&root).doing("look at overlay")?;
    if state.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(Fault::because("mount overlay", "the kernel made it read-only; see dmesg"));
    }
    Ok(root)
}
