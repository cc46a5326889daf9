//! When a volume's content was last replaced: the mark that keeps an old request, which comes again
//! after a loss of power, from throwing away what the guest wrote since.
//!
//! It is an extended attribute of the volume's top directory, which no guest reaches, and goes to the
//! disk together with the content or before it. Copies and snapshots have it too, so it says whose
//! it is.

use std::path::Path;

use rustix::{fs::XattrFlags, io::Errno};
use stapes_core::{ids::VolumeId, spec::Incarnation};

use super::error::{Context, DriverError};

const ATTRIBUTE: &str = "user.stapes.replaced";
const VALUE_BYTES_MAX: usize = 128;

/// The incarnation of the volume's owner for which this tree became its content, if it did.
pub(super) fn at(tree: &Path, volume: VolumeId) -> Result<Option<Incarnation>, DriverError> {
    let mut value = [0; VALUE_BYTES_MAX];
    match rustix::fs::lgetxattr(tree, ATTRIBUTE, &mut value) {
        Ok(length) => {
            let mark = serde_json::from_slice::<(VolumeId, Incarnation)>(&value[..length]).ok();
            Ok(mark.and_then(|(owner, at)| (owner == volume).then_some(at)))
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
        Err(error) => Err(error).context(|| format!("looking at {}", tree.display())),
    }
}

/// A file system without such attributes goes without: there a request may be done twice.
pub(super) fn mark(tree: &Path, volume: VolumeId, at: Incarnation) -> Result<(), DriverError> {
    let value = serde_json::to_vec(&(volume, at)).expect("it has no maps and no failing parts");
    match rustix::fs::lsetxattr(tree, ATTRIBUTE, &value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error).context(|| format!("marking {}", tree.display())),
    }
}
