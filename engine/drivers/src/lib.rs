//! Everything that touches the host: guests, storage, networks, images.

pub mod network;
pub mod storage;
