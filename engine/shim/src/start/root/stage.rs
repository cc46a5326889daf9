//! Overlays on kernels before 6.13, which take no descriptors: the layers are attached below a small
//! stage in a mount namespace that lives as long as the making of the overlay, and named by path.
//!
//! The overlay keeps its own mounts of the layers, so that nothing of the stage is left when the shim
//! is back where it was. The names are relative and plain: whatever characters the layers' own paths
//! have, none of them is read as overlay's `:` or `,`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, open, openat},
    mount::{FsOpenFlags, MountAttrFlags, fsconfig_set_string, fsopen},
    process::{chdir, chroot, fchdir},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use crate::{
    fault::{Doing as _, Result},
    spec::Ids,
    sys::mount::{self, Parameter},
};

pub(super) fn overlay(lower: &OwnedFd, volume: &OwnedFd, ids: Option<Ids>) -> Result<OwnedFd> {
    let home = Home::leave()?;
    let made = on_stage(lower, volume, ids);
    home.come_back()?;
    made
}

/// The mount namespace, root and working directory to come back to.
struct Home {
    namespace: OwnedFd,
    root: OwnedFd,
    here: OwnedFd,
}

impl Home {
    fn leave() -> Result<Self> {
        let words = "leave the host's mounts";
        let none = Mode::empty();
        let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let namespace =
            open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, none).doing(words)?;
        let root = open(c"/", place, none).doing(words)?;
        let here = openat(CWD, c".", place, none).doing(words)?;
        // SAFETY: the shim has one thread; descriptors and memory stay as they are.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.doing(words)?;
        let home = Self { namespace, root, here };
        // What is attached here is nobody else's.
        if let Err(fault) = super::super::child::propagate(c"/", nix::libc::MS_PRIVATE) {
            home.come_back()?;
            return Err(fault).doing(words);
        }
        Ok(home)
    }

    fn come_back(&self) -> Result<()> {
        let words = "come back to the host's mounts";
        let kind = Some(LinkNameSpaceType::Mount);
        move_into_link_name_space(self.namespace.as_fd(), kind).doing(words)?;
        fchdir(&self.root).doing(words)?;
        chroot(c".").doing(words)?;
        fchdir(&self.here).doing(words)
    }
}

fn on_stage(lower: &OwnedFd, volume: &OwnedFd, ids: Option<Ids>) -> Result<OwnedFd> {
    let words = "stage the layers of the root";
    let parameters = [Parameter::Value(c"size", c"4k"), Parameter::Value(c"mode", c"755")];
    let stage = mount::make(c"tmpfs", &parameters, MountAttrFlags::empty())?;
    mount::attach_over_root(stage.as_fd()).doing(words)?;
    set_up(stage.as_fd(), c"l", lower.as_fd()).doing(words)?;
    set_up(stage.as_fd(), c"v", volume.as_fd()).doing(words)?;
    fchdir(&stage).doing(words)?;
    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing("open overlay")?;
    for (key, layer) in [(c"lowerdir", c"l"), (c"upperdir", c"v/u"), (c"workdir", c"v/w")] {
        fsconfig_set_string(&context, key, layer).doing("configure overlay")?;
    }
    let made = super::created(&context, ids);
    // Not left as the working directory of who has no business on it.
    chdir(c"/").doing(words)?;
    made
}

fn set_up(
    stage: BorrowedFd<'_>,
    name: &'static std::ffi::CStr,
    layer: BorrowedFd<'_>,
) -> std::io::Result<()> {
    mkdirat(stage, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(stage, name, flags, Mode::empty())?;
    mount::attach(layer, place.as_fd())
}
