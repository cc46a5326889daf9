//! The places where a test may stop a call as though the daemon were killed there.
//!
//! Every change of the world is followed by one. In a daemon nothing happens at them.

use std::{fmt::Debug, sync::Arc};

use super::error::DriverError;

pub trait Interruption: Send + Sync + Debug + 'static {
    /// # Errors
    /// When the call is to stop here; it cleans nothing up.
    fn at(&self, step: &'static str) -> Result<(), DriverError>;
}

#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Option<Arc<dyn Interruption>>);

impl Steps {
    pub(super) fn interrupted_by(interruption: Arc<dyn Interruption>) -> Self {
        Self(Some(interruption))
    }

    pub(super) fn at(&self, step: &'static str) -> Result<(), DriverError> {
        self.0.as_ref().map_or(Ok(()), |interruption| interruption.at(step))
    }
}
