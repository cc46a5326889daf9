//! What a pool asks of its file system: trees that are made, copied, limited and deleted.
//!
//! A tree is a btrfs subvolume or a directory. [`super::pool`] gives trees their names and their
//! order; an implementation knows nothing of volumes, snapshots and images.

use std::{fmt::Debug, path::Path};

use super::{
    envelope::{Inlet, Outlet},
    error::DriverError,
};

pub(super) trait Trees: Send + Sync + Debug {
    /// Makes an empty tree.
    fn create(&self, at: &Path) -> Result<(), DriverError>;
    /// Makes `to` a copy of the tree `from`.
    fn copy(&self, from: &Path, to: &Path, access: Access) -> Result<(), DriverError>;
    /// Whether [`Self::copy`] is done whole or not at all, and durable, so that a copy needs no
    /// other name before it is complete.
    fn copies_at_once(&self) -> bool;
    /// Makes the tree read-only or writable. Fine when it is.
    fn set_access(&self, at: &Path, access: Access) -> Result<(), DriverError>;
    /// Deletes the tree or directory and all that is in it, whatever a guest put there. Fine when
    /// there is none.
    fn delete(&self, at: &Path) -> Result<(), DriverError>;
    /// What [`Self::send`] writes and [`Self::receive`] reads.
    fn stream_format(&self) -> &'static str;
    /// Whether a tree can be sent as what differs from another.
    fn sends_differences(&self) -> bool;
    /// Writes the tree, which nobody changes, up to its own end mark.
    fn send(
        &self,
        from: &Path,
        parent: Option<&Path>,
        outlet: &mut Outlet,
    ) -> Result<(), DriverError>;
    /// Writes what comes into `staged`, which is empty or a copy of the parent, and nowhere else.
    fn receive(
        &self,
        staged: &Path,
        parent: Option<&Path>,
        inlet: &mut Inlet<'_>,
    ) -> Result<(), DriverError>;
    /// The tree is no longer the copy of another node's that [`Self::receive`] made it: it will
    /// change.
    fn forget_origin(&self, at: &Path) -> Result<(), DriverError>;
    /// Whether the kernel can put the upper layer of an overlay here.
    fn overlays(&self) -> bool;
    /// Refuses limits where there are none.
    fn check_limit(&self, bytes: Option<u64>) -> Result<(), DriverError>;
    fn set_limit(&self, at: &Path, bytes: Option<u64>) -> Result<(), DriverError>;
    fn usage(&self, at: &Path) -> Result<TreeUsage, DriverError>;
    /// The content of the tree survives a loss of power.
    fn flush(&self, at: &Path) -> Result<(), DriverError>;
    /// The names of the entries of `directory` survive a loss of power: at once, or within seconds
    /// and never without what was done before.
    fn commit(&self, directory: &Path) -> Result<(), DriverError>;
    /// Gives back what deleted trees still hold, as far as it can be done at once.
    fn tidy(&self) -> Result<(), DriverError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    Writable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TreeUsage {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: Option<u64>,
}
