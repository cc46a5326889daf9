//! `stapes file …`: files inside an instance, over `/files`.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod edit;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod remote;
