//! Loop devices: the file of a pool as a block device.
//!
//! Devices are attached with autoclear: whoever closes the last use (the unmount, or our death
//! before the mount) detaches it, so that none is ever left behind.

use std::{
    fs::File,
    io::ErrorKind,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
    ioctl::{Getter, NoArg, Opcode, Setter, ioctl},
};

use super::super::error::{Context, DriverError};

const SET_CAPACITY: Opcode = 0x4C07;
const GET_STATUS: Opcode = 0x4C05;
const CONFIGURE: Opcode = 0x4C0A;
const CONTROL_GET_FREE: Opcode = 0x4C82;
const LOOP_MAJOR: u32 = 7;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Others take free devices too; whoever is first has it.
const ATTEMPTS_MAX: u32 = 64;

/// `struct loop_info64`
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232);
const _: () = assert!(size_of::<Config>() == 304);

/// An attached device. It is detached when this is dropped, unless it is mounted by then.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) path: PathBuf,
    device: OwnedFd,
}

impl Loop {
    /// The device of `file`: the one that has it, or a new one.
    pub(super) fn attach(file: &Path) -> Result<Self, DriverError> {
        if let Some(found) = Self::find(file)? {
            return Ok(found);
        }
        let backing = File::options().read(true).write(true).open(file);
        let backing = backing.context(|| format!("opening {}", file.display()))?;
        let control = File::options().read(true).write(true).open("/dev/loop-control");
        let control = control.context(|| "opening /dev/loop-control (is `loop` loaded?)".into())?;
        for _ in 0..ATTEMPTS_MAX {
            let number = get_free(control.as_fd())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open_device(&path, number)?;
            // Not every file system can do direct I/O; the page cache twice is better than no pool.
            for flags in [AUTOCLEAR | DIRECT_IO, AUTOCLEAR] {
                match configure(device.as_fd(), &backing, flags, file) {
                    Ok(()) => return Ok(Self { path, device }),
                    Err(Errno::INVAL) => {}
                    Err(Errno::BUSY) => break,
                    Err(error) => {
                        return Err(error).context(|| {
                            format!("attaching {} to {}", file.display(), path.display())
                        });
                    }
                }
            }
        }
        Err(DriverError::Failed(format!("no loop device was free for {}", file.display())))
    }

    /// The device that has `file`, if any does.
    pub(super) fn find(file: &Path) -> Result<Option<Self>, DriverError> {
        let wanted = match std::fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(|| format!("reading {}", file.display())),
        };
        let devices = std::fs::read_dir("/sys/block");
        for entry in devices.context(|| "listing /sys/block".into())?.flatten() {
            let name = entry.file_name();
            let backing = entry.path().join("loop/backing_file");
            if !name.to_string_lossy().starts_with("loop") || !backing.exists() {
                continue;
            }
            let path = Path::new("/dev").join(name);
            let open = OFlags::RDWR | OFlags::CLOEXEC;
            let Ok(device) = rustix::fs::open(&path, open, Mode::empty()) else { continue };
            // The name in sysfs is as the attacher's root saw it; the inode is the same for all.
            if let Ok(info) = status(device.as_fd())
                && (info.inode, info.device) == (wanted.ino(), kernel_device(wanted.dev()))
            {
                return Ok(Some(Self { path, device }));
            }
        }
        Ok(None)
    }

    /// Lets the device have all of its file, after that grew.
    pub(super) fn grow(&self) -> Result<(), DriverError> {
        // SAFETY: the opcode takes no argument.
        unsafe { ioctl(&self.device, NoArg::<SET_CAPACITY>::new()) }
            .context(|| format!("growing {}", self.path.display()))
    }
}

/// The kernel's own encoding of a device number, which differs from the one in `st_dev`.
fn kernel_device(device: u64) -> u64 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    u64::from(minor & 0xff) | u64::from(major) << 8 | u64::from(minor & !0xff) << 12
}

fn get_free(control: BorrowedFd<'_>) -> Result<u32, DriverError> {
    // The number is what the call returns, which rustix's patterns do not give.
    // SAFETY: the request takes no argument and touches no memory of ours.
    let number = unsafe { nix::libc::ioctl(control.as_raw_fd(), CONTROL_GET_FREE.into()) };
    u32::try_from(number)
        .map_err(|_| std::io::Error::last_os_error())
        .context(|| "asking for a free loop device".into())
}

fn open_device(path: &Path, number: u32) -> Result<OwnedFd, DriverError> {
    let open = || rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let mut device = open();
    if device.as_ref().err() == Some(&Errno::NOENT) {
        // Where /dev is not the kernel's own (in a container), nobody makes the node.
        let id = rustix::fs::makedev(LOOP_MAJOR, number);
        let mode = Mode::RUSR | Mode::WUSR;
        let made = rustix::fs::mknodat(rustix::fs::CWD, path, FileType::BlockDevice, mode, id);
        if made != Err(Errno::EXIST) {
            made.context(|| format!("making {}", path.display()))?;
        }
        device = open();
    }
    device.context(|| format!("opening {}", path.display()))
}

fn configure(
    device: BorrowedFd<'_>,
    backing: &File,
    flags: u32,
    file: &Path,
) -> rustix::io::Result<()> {
    let mut file_name = [0; 64];
    let text = file.as_os_str().as_encoded_bytes();
    // The end of a path tells more than its beginning.
    let tail = &text[text.len().saturating_sub(63)..];
    file_name[..tail.len()].copy_from_slice(tail);
    let info = Info {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name,
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the opcode belongs to `Config`, which the kernel only reads; the file is open.
    unsafe { ioctl(device, Setter::<CONFIGURE, _>::new(config)) }
}

fn status(device: BorrowedFd<'_>) -> rustix::io::Result<Info> {
    // SAFETY: the opcode belongs to `Info`, which the kernel writes whole.
    unsafe { ioctl(device, Getter::<GET_STATUS, Info>::new()) }
}
