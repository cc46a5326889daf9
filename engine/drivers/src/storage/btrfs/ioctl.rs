//! The btrfs ioctls that pools need, each as a typed function.
//!
//! By hand rather than by `btrfs(8)` or a binding crate: a request takes a millisecond where a
//! child process takes ten, the tools of Debian 12 do not know simple quotas, and the layouts below
//! are kernel ABI that cannot change.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    io::{self, Errno},
    ioctl::{self, Getter, Ioctl, NoArg, Setter, Updater, opcode},
};

const MAGIC: u8 = 0x94;
const NAME_MAX: usize = 4039;
const READ_ONLY: u64 = 1 << 1;
const SPEC_BY_ID: u64 = 1 << 4;
/// A limit of this value means none.
const NO_LIMIT: u64 = u64::MAX;
const LIMIT_REFERENCED: u64 = 1;
const QUOTA_ENABLE_SIMPLE: u64 = 4;
/// The inode of the root of every subvolume.
pub(super) const SUBVOLUME_INODE: u64 = 256;

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct VolumeArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_vol_args_v2`; its union's name and id overlay each other.
#[repr(C)]
struct VolumeArgs2 {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_MAX + 1],
}

/// `struct btrfs_ioctl_qgroup_limit_args`
#[repr(C)]
struct LimitArgs {
    qgroup: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_quota_ctl_args`
#[repr(C)]
struct QuotaArgs {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`
#[repr(C)]
struct QgroupArgs {
    create: u64,
    qgroup: u64,
}

/// `struct btrfs_ioctl_ino_lookup_args`
#[repr(C)]
struct LookupArgs {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`
#[repr(C)]
struct InfoArgs {
    max_id: u64,
    devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_search_key`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchKey {
    pub(super) tree: u64,
    pub(super) min_object: u64,
    pub(super) max_object: u64,
    pub(super) min_offset: u64,
    pub(super) max_offset: u64,
    pub(super) min_transaction: u64,
    pub(super) max_transaction: u64,
    pub(super) min_kind: u32,
    pub(super) max_kind: u32,
    pub(super) items: u32,
    pub(super) unused: u32,
    pub(super) unused_more: [u64; 4],
}

/// `struct btrfs_ioctl_search_args`
#[repr(C)]
pub(super) struct SearchArgs {
    pub(super) key: SearchKey,
    pub(super) buffer: [u8; 3992],
}

/// `struct btrfs_ioctl_send_args`
#[repr(C)]
struct SendArgs {
    fd: i64,
    clone_sources_count: u64,
    clone_sources: u64,
    parent_root: u64,
    flags: u64,
    version: u32,
    reserved: [u8; 28],
}

/// `struct btrfs_ioctl_timespec`
#[repr(C)]
#[derive(Clone, Copy)]
struct Time {
    seconds: u64,
    nanoseconds: u32,
}

/// `struct btrfs_ioctl_received_subvol_args`
#[repr(C)]
struct ReceivedArgs {
    uuid: [u8; 16],
    sent_transaction: u64,
    received_transaction: u64,
    sent_at: Time,
    received_at: Time,
    flags: u64,
    reserved: [u64; 16],
}

/// `struct btrfs_ioctl_get_subvol_info_args`
#[repr(C)]
struct SubvolumeArgs {
    tree: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    transactions: [u64; 4],
    times: [Time; 4],
    reserved: [u64; 8],
}

/// `struct file_clone_range`
#[repr(C)]
struct CloneArgs {
    source: i64,
    source_offset: u64,
    source_length: u64,
    target_offset: u64,
}

const _: () = assert!(size_of::<SendArgs>() == 72);
const _: () = assert!(size_of::<ReceivedArgs>() == 200);
const _: () = assert!(size_of::<SubvolumeArgs>() == 504);
const _: () = assert!(size_of::<VolumeArgs>() == 4096);
const _: () = assert!(size_of::<VolumeArgs2>() == 4096);
const _: () = assert!(size_of::<LookupArgs>() == 4096);
const _: () = assert!(size_of::<InfoArgs>() == 1024);
const _: () = assert!(size_of::<SearchKey>() == 104);
const _: () = assert!(size_of::<SearchArgs>() == 4096);

/// Makes an empty subvolume `name` in `parent`.
pub(super) fn create_subvolume(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let args = VolumeArgs { fd: 0, name: named(name)? };
    // SAFETY: the opcode belongs to `VolumeArgs`, which the kernel only reads.
    call(parent, unsafe { Setter::<{ opcode::write::<VolumeArgs>(MAGIC, 14) }, _>::new(args) })
}

/// Makes `name` in `parent` a snapshot of the subvolume `source`. Whole, and durable, when it
/// returns.
pub(super) fn snapshot(
    source: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &CStr,
    read_only: bool,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let args = VolumeArgs2 {
        fd: source.as_raw_fd().into(),
        transaction: 0,
        flags: if read_only { READ_ONLY } else { 0 },
        unused: [0; 4],
        name: named(name)?,
    };
    // SAFETY: the opcode belongs to `VolumeArgs2`, which the kernel only reads; `source` is open.
    call(parent, unsafe { Setter::<{ opcode::write::<VolumeArgs2>(MAGIC, 23) }, _>::new(args) })
}

/// Removes the subvolume `name` of `parent`; its content goes in the background. `NOTEMPTY` when
/// another subvolume is inside.
pub(super) fn destroy(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let args = VolumeArgs { fd: 0, name: named(name)? };
    // SAFETY: the opcode belongs to `VolumeArgs`, which the kernel only reads.
    call(parent, unsafe { Setter::<{ opcode::write::<VolumeArgs>(MAGIC, 15) }, _>::new(args) })
}

/// As [`destroy`], wherever the subvolume is.
pub(super) fn destroy_by_id(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let mut name = [0; NAME_MAX + 1];
    name[..8].copy_from_slice(&id.to_ne_bytes());
    let args = VolumeArgs2 { fd: 0, transaction: 0, flags: SPEC_BY_ID, unused: [0; 4], name };
    // SAFETY: the opcode belongs to `VolumeArgs2`, which the kernel only reads.
    call(filesystem, unsafe { Setter::<{ opcode::write::<VolumeArgs2>(MAGIC, 63) }, _>::new(args) })
}

/// Whether the subvolume cannot be written.
pub(super) fn read_only(subvolume: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(flags(subvolume)? & READ_ONLY != 0)
}

pub(super) fn set_read_only(subvolume: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let flags = flags(subvolume)? & !READ_ONLY | if read_only { READ_ONLY } else { 0 };
    // SAFETY: the opcode belongs to a `u64`, which the kernel only reads.
    call(subvolume, unsafe { Setter::<{ opcode::write::<u64>(MAGIC, 26) }, _>::new(flags) })
}

fn flags(subvolume: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the opcode belongs to a `u64`, which the kernel writes.
    call(subvolume, unsafe { Getter::<{ opcode::read::<u64>(MAGIC, 25) }, u64>::new() })
}

/// The id of the subvolume that the directory is in.
pub(super) fn subvolume_id(directory: BorrowedFd<'_>) -> io::Result<u64> {
    let mut args = LookupArgs { tree: 0, object: SUBVOLUME_INODE, name: [0; 4080] };
    // SAFETY: the opcode belongs to `LookupArgs`, all of whose bit patterns are valid.
    call(directory, unsafe {
        Updater::<{ opcode::read_write::<LookupArgs>(MAGIC, 18) }, _>::new(&mut args)
    })?;
    Ok(args.tree)
}

/// Limits what the subvolume that `subvolume` is in may hold.
pub(super) fn set_limit(subvolume: BorrowedFd<'_>, bytes: Option<u64>) -> io::Result<()> {
    let args = LimitArgs {
        qgroup: 0,
        flags: LIMIT_REFERENCED,
        max_referenced: bytes.unwrap_or(NO_LIMIT),
        max_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    // SAFETY: the opcode (declared for reading by the kernel's header) belongs to `LimitArgs`,
    // which the kernel only reads.
    call(subvolume, unsafe { Setter::<{ opcode::read::<LimitArgs>(MAGIC, 43) }, _>::new(args) })
}

/// Counts from now on what each subvolume's own extents occupy.
pub(super) fn enable_simple_quotas(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    let mut args = QuotaArgs { command: QUOTA_ENABLE_SIMPLE, status: 0 };
    // SAFETY: the opcode belongs to `QuotaArgs`, all of whose bit patterns are valid.
    call(filesystem, unsafe {
        Updater::<{ opcode::read_write::<QuotaArgs>(MAGIC, 40) }, _>::new(&mut args)
    })
}

/// Removes the account of a subvolume that is gone. `BUSY` while others share its extents.
pub(super) fn destroy_qgroup(filesystem: BorrowedFd<'_>, qgroup: u64) -> io::Result<()> {
    let args = QgroupArgs { create: 0, qgroup };
    // SAFETY: the opcode belongs to `QgroupArgs`, which the kernel only reads.
    call(filesystem, unsafe { Setter::<{ opcode::write::<QgroupArgs>(MAGIC, 42) }, _>::new(args) })
}

/// The uuid of the file system that the file is on.
pub(super) fn filesystem_uuid(file: BorrowedFd<'_>) -> io::Result<uuid::Uuid> {
    // SAFETY: the opcode belongs to `InfoArgs`, which the kernel writes whole.
    let info =
        call(file, unsafe { Getter::<{ opcode::read::<InfoArgs>(MAGIC, 31) }, InfoArgs>::new() })?;
    Ok(uuid::Uuid::from_bytes(info.fsid))
}

/// Lets the file system have all of its device, after that grew.
pub(super) fn grow(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    let args = VolumeArgs { fd: 0, name: named(c"max")? };
    // SAFETY: the opcode belongs to `VolumeArgs`, which the kernel only reads.
    call(filesystem, unsafe { Setter::<{ opcode::write::<VolumeArgs>(MAGIC, 3) }, _>::new(args) })
}

/// One page of the items of a tree.
pub(super) fn search(filesystem: BorrowedFd<'_>, args: &mut SearchArgs) -> io::Result<()> {
    // SAFETY: the opcode belongs to `SearchArgs`, all of whose bit patterns are valid.
    call(filesystem, unsafe {
        Updater::<{ opcode::read_write::<SearchArgs>(MAGIC, 17) }, _>::new(args)
    })
}

/// Writes everything that is dirty anywhere on the file system.
pub(super) fn sync(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the opcode takes no argument.
    call(filesystem, unsafe { NoArg::<{ opcode::none(MAGIC, 8) }>::new() })
}

/// Writes the read-only subvolume into the pipe, or what of it differs from the subvolume `parent`.
/// Returns when all is written or nobody reads.
pub(super) fn send(
    subvolume: BorrowedFd<'_>,
    into: BorrowedFd<'_>,
    parent: Option<u64>,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let args = SendArgs {
        fd: into.as_raw_fd().into(),
        clone_sources_count: 0,
        clone_sources: 0,
        parent_root: parent.unwrap_or(0),
        flags: 0,
        version: 0,
        reserved: [0; 28],
    };
    // SAFETY: the opcode belongs to `SendArgs`, which the kernel only reads; there are no clone
    // sources for it to look at, and `into` is open.
    call(subvolume, unsafe { Setter::<{ opcode::write::<SendArgs>(MAGIC, 38) }, _>::new(args) })
}

/// Remembers of which subvolume elsewhere this one is a copy; zeros forget it.
pub(super) fn set_received(
    subvolume: BorrowedFd<'_>,
    uuid: [u8; 16],
    transaction: u64,
) -> io::Result<()> {
    let never = Time { seconds: 0, nanoseconds: 0 };
    let mut args = ReceivedArgs {
        uuid,
        sent_transaction: transaction,
        received_transaction: 0,
        sent_at: never,
        received_at: never,
        flags: 0,
        reserved: [0; 16],
    };
    // SAFETY: the opcode belongs to `ReceivedArgs`, all of whose bit patterns are valid.
    call(subvolume, unsafe {
        Updater::<{ opcode::read_write::<ReceivedArgs>(MAGIC, 37) }, _>::new(&mut args)
    })
}

/// The uuid of the subvolume, and of the one elsewhere that it is a copy of (zeros if it is none).
pub(super) fn uuids(subvolume: BorrowedFd<'_>) -> io::Result<[[u8; 16]; 2]> {
    // SAFETY: the opcode belongs to `SubvolumeArgs`, which the kernel writes whole.
    let info = call(subvolume, unsafe {
        Getter::<{ opcode::read::<SubvolumeArgs>(MAGIC, 60) }, SubvolumeArgs>::new()
    })?;
    Ok([info.uuid, info.received_uuid])
}

/// Lets a part of `file` share the blocks of a part of `source`.
pub(super) fn clone_range(
    file: BorrowedFd<'_>,
    source: BorrowedFd<'_>,
    source_offset: u64,
    source_length: u64,
    target_offset: u64,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let source = source.as_raw_fd().into();
    let args = CloneArgs { source, source_offset, source_length, target_offset };
    // SAFETY: the opcode belongs to `CloneArgs`, which the kernel only reads; `source` is open.
    call(file, unsafe { Setter::<{ opcode::write::<CloneArgs>(MAGIC, 13) }, _>::new(args) })
}

fn call<I: Ioctl>(file: impl AsFd, request: I) -> io::Result<I::Output> {
    // SAFETY: every caller above pairs an opcode with the type that the kernel has for it.
    unsafe { ioctl::ioctl(file, request) }
}

fn named<const N: usize>(name: &CStr) -> io::Result<[u8; N]> {
    let bytes = name.to_bytes_with_nul();
    let mut field = [0; N];
    field.get_mut(..bytes.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(bytes);
    Ok(field)
}
