//! Waiting for what others decide.

use stapes_core::world::World;

use crate::control::{Control, SubmitError};

impl Control {
    /// Waits until it is so.
    ///
    /// # Errors
    /// When nothing will change any more.
    pub async fn until(&self, is_so: impl Fn(&World) -> bool) -> Result<(), SubmitError> {
        let mut changes = self.changes();
        while !is_so(&self.world()) {
            changes.changed().await?;
        }
        Ok(())
    }
}
