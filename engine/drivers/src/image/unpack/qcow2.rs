//! A virtual machine's disk image must stand alone: a qcow2 that names another file would make QEMU
//! read whatever host file a stranger chose.

use std::os::unix::fs::FileExt;

use super::super::{limits::Limits, refusal::Refusal};

const HEADER_BYTES: usize = 104;
const EXTERNAL_DATA: u64 = 1 << 2;

pub(super) fn check(file: &std::fs::File, limits: &Limits) -> Result<(), Refusal> {
    let mut header = [0; HEADER_BYTES];
    let bad = |why: &str| Err(Refusal::BadDisk { why: why.into() });
    if file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(b"QFI\xfb") {
        return bad("it is not a qcow2 image; convert it with qemu-img convert -O qcow2");
    }
    let u32_at = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    let version = u32_at(4);
    if version != 2 && version != 3 {
        return bad("its qcow2 version is neither 2 nor 3");
    }
    if u64_at(8) != 0 || u32_at(16) != 0 {
        return bad("it has a backing file; flatten it with qemu-img convert");
    }
    if u32_at(32) != 0 {
        return bad("it is encrypted");
    }
    if version == 3 && u64_at(72) & EXTERNAL_DATA != 0 {
        return bad("its data are in another file; flatten it with qemu-img convert");
    }
    if u64_at(24) > limits.unpacked_bytes {
        let what = "bytes of virtual disk".into();
        return Err(Refusal::TooMuch { what, limit: limits.unpacked_bytes });
    }
    Ok(())
}
