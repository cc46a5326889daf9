//! Snapshots and images of the fake storage, as streams through real pipes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DriverError;
use crate::ids::{Fingerprint, SnapshotId};

/// What a stream begins with. The length of the rest follows.
const MAGIC: &[u8; 8] = b"memory 1";
/// More than any test sends.
const PARCEL_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parcel {
    /// The id of what it is.
    pub(super) subject: String,
    pub(super) parent: Option<SnapshotId>,
    pub(super) image: Option<Fingerprint>,
    pub(super) tree: BTreeMap<String, Bytes>,
}

pub(super) async fn write(parcel: Parcel, into: OwnedFd) -> Result<u64, DriverError> {
    let body = rmp_serde::to_vec_named(&parcel).expect("it is plain data");
    let bytes = [MAGIC.as_slice(), &(body.len() as u64).to_le_bytes(), &body].concat();
    let write = move || File::from(into).write_all(&bytes).map(|()| bytes.len() as u64);
    let written = tokio::task::spawn_blocking(write).await.expect("it does not panic");
    written.map_err(|error| DriverError::Failed(format!("sending: {error}")))
}

/// The parcel of this subject, and its bytes.
pub(super) async fn read(subject: String, from: OwnedFd) -> Result<(Parcel, u64), DriverError> {
    let (parcel, bytes) =
        tokio::task::spawn_blocking(|| parse(from)).await.expect("it does not panic")?;
    if parcel.subject != subject {
        return Err(DriverError::Refused(format!("the stream is of {}", parcel.subject)));
    }
    Ok((parcel, bytes))
}

fn parse(from: OwnedFd) -> Result<(Parcel, u64), DriverError> {
    let broken = |error| DriverError::Failed(format!("the stream ended early: {error}"));
    let foreign = || DriverError::Refused("no stream of a fake storage".into());
    let (mut file, mut magic, mut length) = (File::from(from), [0; 8], [0; 8]);
    file.read_exact(&mut magic).map_err(broken)?;
    if magic != *MAGIC {
        return Err(foreign());
    }
    file.read_exact(&mut length).map_err(broken)?;
    let length = u64::from_le_bytes(length);
    if length > PARCEL_BYTES_MAX {
        return Err(foreign());
    }
    let mut body = Vec::new();
    let read = file.take(length).read_to_end(&mut body).map_err(broken)?;
    if read as u64 != length {
        return Err(DriverError::Failed("the stream ended early".into()));
    }
    let parcel = rmp_serde::from_slice(&body).map_err(|_| foreign())?;
    Ok((parcel, length + 16))
}
