//! `stapes cluster …`: what only clusters do.

pub(crate) mod group;
pub(crate) mod make;
pub(crate) mod member;
pub(crate) mod status;
pub(crate) mod token;
