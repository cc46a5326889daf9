//! Adoption: what runs from before the daemon was started, what ended since, and what is left of
//! what nobody runs.

use std::{collections::BTreeSet, sync::Arc};

use futures::stream::{self, StreamExt as _};
use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{Exited, Running},
    },
};

use super::{
    Inner,
    convert::{self, failed},
    directory::Directory,
};

/// Guests that are looked at at the same time.
const AT_ONCE: usize = 16;

enum Found {
    Running(Running),
    Exited(Exited),
    Nothing,
}

impl Inner {
    pub(super) async fn adopt(
        self: &Arc<Self>,
    ) -> Result<(Vec<Running>, Vec<Exited>), DriverError> {
        let instances =
            Directory::all(&self.config.run_dir).map_err(failed("list the guests' records"))?;
        let owned: BTreeSet<String> = instances.iter().map(ToString::to_string).collect();
        let found: Vec<Found> = stream::iter(instances)
            .map(|instance| async move {
                // One guest that cannot be looked at keeps no other from being found; whoever
                // wants to start or stop it gets this error again.
                self.adopt_one(instance).await.unwrap_or_else(|error| {
                    tracing::error!(%instance, %error, "a guest cannot be adopted");
                    Found::Nothing
                })
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let (mut running, mut exited) = (Vec::new(), Vec::new());
        for one in found {
            match one {
                Found::Running(one) => running.push(one),
                Found::Exited(one) => exited.push(one),
                Found::Nothing => {}
            }
        }
        running.sort_by_key(|one| one.instance);
        exited.sort_by_key(|one| one.instance);
        for name in self.layout.groups().map_err(failed("list cgroups"))? {
            if !owned.contains(&name) {
                tracing::warn!(cgroup = name, "a cgroup that nobody owns is removed");
                self.destroy_group_named(name).await?;
            }
        }
        Ok((running, exited))
    }

    async fn adopt_one(self: &Arc<Self>, instance: InstanceId) -> Result<Found, DriverError> {
        let slot = self.slot(instance);
        let _turn = slot.turn.lock().await;
        let known = super::locked(&slot.state).known.clone();
        if let Some(known) = known {
            return Ok(Found::Running(self.running(instance, &known)));
        }
        let Some(directory) = self.directory(instance)? else { return Ok(Found::Nothing) };
        Ok(match self.meet(instance, &slot, directory).await? {
            Ok(known) => Found::Running(self.running(instance, &known)),
            Err(Some(exit)) => Found::Exited(convert::exited(instance, &exit)),
            Err(None) => Found::Nothing,
        })
    }
}
