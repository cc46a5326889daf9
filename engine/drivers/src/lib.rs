//! Everything that touches the host: guests, storage, networks, images, and the keys of secrets.

pub mod exchange;
pub mod guest;
pub mod image;
pub mod network;
pub mod secret;
pub mod storage;
