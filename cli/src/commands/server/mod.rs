//! Verbs on the daemon itself.

pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod monitor;
pub(crate) mod preseed;
pub(crate) mod query;
pub(crate) mod shutdown;
pub(crate) mod version;
pub(crate) mod waitready;
