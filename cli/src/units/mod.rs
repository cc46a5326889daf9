//! Sizes and times as people type and read them.

pub(crate) mod moment;
pub(crate) mod size;
pub(crate) mod span;
