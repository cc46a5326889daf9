//! Verbs that connect this terminal with a guest.

pub(crate) mod console;
pub(crate) mod exec;
pub(crate) mod streams;
pub(crate) mod terminal;
