//! Everything that touches the host: guests, storage, networks, images.

pub mod guest;
pub mod image;
pub mod network;
pub mod storage;
