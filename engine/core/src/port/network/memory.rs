//! Networks in memory: the simulator's part, and what tests look into.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{Counters, Networks, Plan};
use crate::{
    ids::{InstanceId, NetworkId},
    port::DriverError,
    spec::{NetworkSpec, Reservation},
};

/// A node's networks that exist in memory only. What is reserved is in force after
/// [`Networks::settle`], not before, as on a real host.
#[derive(Debug, Default)]
pub struct MemoryNetworks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    planned: Plan,
    in_force: Plan,
    counters: BTreeMap<String, Counters>,
    failures: VecDeque<DriverError>,
}

impl MemoryNetworks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the host would agree with now.
    #[must_use]
    pub fn in_force(&self) -> Plan {
        self.state().in_force.clone()
    }

    /// What has been asked for, settled or not.
    #[must_use]
    pub fn planned(&self) -> Plan {
        self.state().planned.clone()
    }

    /// The next call fails with `error` and changes nothing; several queue up.
    pub fn fail_next(&self, error: DriverError) {
        self.state().failures.push_back(error);
    }

    /// Puts an interface on the host, or takes it away.
    pub fn set_counters(&self, host_name: &str, counters: Option<Counters>) {
        let mut state = self.state();
        match counters {
            Some(counters) => state.counters.insert(host_name.into(), counters),
            None => state.counters.remove(host_name),
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn attempt(&self) -> Result<MutexGuard<'_, State>, DriverError> {
        let mut state = self.state();
        match state.failures.pop_front() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }
}

#[async_trait]
impl Networks for MemoryNetworks {
    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), DriverError> {
        let mut state = self.attempt()?;
        state.planned.ensure(spec)?;
        state.in_force = state.planned.clone();
        Ok(())
    }

    async fn remove_network(&self, network: NetworkId) -> Result<(), DriverError> {
        let mut state = self.attempt()?;
        state.planned.remove(network);
        state.in_force = state.planned.clone();
        Ok(())
    }

    async fn reserve(&self, instance: InstanceId, nics: &[Reservation]) -> Result<(), DriverError> {
        self.attempt()?.planned.reserve(instance, nics)?;
        Ok(())
    }

    async fn settle(&self) -> Result<(), DriverError> {
        let mut state = self.attempt()?;
        state.in_force = state.planned.clone();
        Ok(())
    }

    async fn counters(&self, host_name: &str) -> Result<Counters, DriverError> {
        let state = self.attempt()?;
        let known = state.counters.get(host_name).copied();
        known.ok_or_else(|| DriverError::NotFound(format!("interface {host_name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::network::laws;

    #[tokio::test]
    async fn memory_networks_obey_the_laws() {
        laws::all(&MemoryNetworks::new(), &laws::Example::new("stapes-law0", 77)).await;
    }

    #[tokio::test]
    async fn a_reservation_is_in_force_when_settled() {
        let networks = MemoryNetworks::new();
        let example = laws::Example::new("stapes-law0", 77);
        networks.ensure_network(&example.network()).await.unwrap();
        let nic = example.reservation("one", 2);
        networks.reserve(nic.instance, std::slice::from_ref(&nic)).await.unwrap();
        assert_eq!(networks.in_force().of_instance(nic.instance), []);
        networks.settle().await.unwrap();
        assert_eq!(networks.in_force().of_instance(nic.instance), [nic]);
    }

    #[tokio::test]
    async fn a_failure_changes_nothing() {
        let networks = MemoryNetworks::new();
        let example = laws::Example::new("stapes-law0", 77);
        networks.fail_next(DriverError::Failed("nft: no".into()));
        let failed = networks.ensure_network(&example.network()).await;
        assert_eq!(failed, Err(DriverError::Failed("nft: no".into())));
        assert_eq!(networks.planned(), Plan::default());
        networks.ensure_network(&example.network()).await.unwrap();
    }
}
