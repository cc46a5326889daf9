//! The plan in force: what this process was told, and until that is complete what the process
//! before it was told.
//!
//! A daemon that starts is told its networks and reservations again one after the other. Were the
//! first of them put in force alone, the guests of all others would be cut off for a moment, by a
//! restart that must not touch them. So the plan is kept in a file, and what is in it holds until
//! it is told otherwise, or for a while. The file is a hint: without it, all still comes right.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard},
};

use serde::{Deserialize, Serialize};
use stapes_core::{
    ids::{InstanceId, NetworkId},
    port::{DriverError, network::Plan},
    spec::{NetworkSpec, Reservation},
};

#[derive(Debug)]
pub(super) struct Plans {
    told: Mutex<Told>,
    in_force: Arc<RwLock<Plan>>,
}

#[derive(Debug)]
struct Told {
    plan: Plan,
    /// What nobody has spoken of yet.
    inherited: Plan,
}

impl Plans {
    /// Starts from what `file` says, if it says anything.
    pub(super) fn inherit(file: &Path) -> Self {
        let inherited = load(file);
        let in_force = Arc::new(RwLock::new(inherited.clone()));
        Self { told: Mutex::new(Told { plan: Plan::default(), inherited }), in_force }
    }

    /// For those who only read.
    pub(super) fn in_force(&self) -> Arc<RwLock<Plan>> {
        Arc::clone(&self.in_force)
    }

    /// Whether the network could be made; changes nothing.
    pub(super) fn check(&self, spec: &NetworkSpec) -> Result<(), DriverError> {
        self.told().plan.clone().ensure(spec).map(drop)
    }

    /// The interfaces that are ports of the network's bridge as far as is known.
    pub(super) fn uplinks(&self, network: NetworkId) -> Vec<String> {
        let plan = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        plan.network(network).map_or_else(Vec::new, |spec| spec.uplinks.clone())
    }

    pub(super) fn ensure(&self, spec: &NetworkSpec) -> Result<(), DriverError> {
        let mut told = self.told();
        told.plan.ensure(spec)?;
        let mut in_force = self.in_force_mut();
        if in_force.ensure(spec).is_err() {
            *in_force = told.merged();
        }
        Ok(())
    }

    pub(super) fn remove(&self, network: NetworkId) {
        let mut told = self.told();
        told.plan.remove(network);
        told.inherited.remove(network);
        self.in_force_mut().remove(network);
    }

    /// Says whether anything changed.
    pub(super) fn reserve(
        &self,
        instance: InstanceId,
        nics: &[Reservation],
    ) -> Result<bool, DriverError> {
        let mut told = self.told();
        told.plan.reserve(instance, nics)?;
        told.inherited.reserve(instance, &[])?;
        let mut in_force = self.in_force_mut();
        match in_force.reserve(instance, nics) {
            Ok(changed) => Ok(changed),
            // Somebody inherited what is this instance's now.
            Err(_) => {
                *in_force = told.merged();
                Ok(true)
            }
        }
    }

    /// From now on only what was told counts. Says whether that changed anything.
    pub(super) fn forget_inherited(&self) -> bool {
        let mut told = self.told();
        told.inherited = Plan::default();
        let mut in_force = self.in_force_mut();
        let changed = *in_force != told.plan;
        *in_force = told.plan.clone();
        changed
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force_mut(&self) -> RwLockWriteGuard<'_, Plan> {
        self.in_force.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// What was told, and what was inherited as far as it fits.
    fn merged(&self) -> Plan {
        let mut merged = self.plan.clone();
        for network in self.inherited.networks() {
            if self.plan.network(network.network).is_none() {
                merged.ensure(network).ok();
            }
        }
        reserve_each(&mut merged, self.inherited.reservations().cloned().collect());
        merged
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    networks: Vec<NetworkSpec>,
    reservations: Vec<Reservation>,
}

/// Writes the plan for the process after this one.
pub(super) fn save(file: &Path, plan: &Plan) -> io::Result<()> {
    let saved = Saved {
        networks: plan.networks().cloned().collect(),
        reservations: plan.reservations().cloned().collect(),
    };
    let unfinished = file.with_extension("new");
    fs::write(&unfinished, serde_json::to_vec(&saved)?)?;
    fs::rename(unfinished, file)
}

fn load(file: &Path) -> Plan {
    let mut plan = Plan::default();
    let Ok(text) = fs::read(file) else { return plan };
    let saved: Saved = match serde_json::from_slice(&text) {
        Ok(saved) => saved,
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the plan before cannot be read");
            return plan;
        }
    };
    for network in &saved.networks {
        plan.ensure(network).ok();
    }
    reserve_each(&mut plan, saved.reservations);
    plan
}

/// Reserves what fits; an instance's interfaces follow each other.
fn reserve_each(plan: &mut Plan, reservations: Vec<Reservation>) {
    for nics in reservations.chunk_by(|a, b| a.instance == b.instance) {
        if let [first, ..] = nics
            && plan.of_instance(first.instance).is_empty()
        {
            plan.reserve(first.instance, nics).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use stapes_core::port::network::laws::Example;

    use super::*;

    fn reserve(plans: &Plans, guest: &Reservation) -> Result<bool, DriverError> {
        plans.reserve(guest.instance, std::slice::from_ref(guest))
    }

    fn hostnames(plans: &Plans) -> Vec<String> {
        let plan = plans.in_force();
        let plan = plan.read().unwrap();
        let mut names: Vec<String> = plan.reservations().map(|r| r.hostname.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_in_force_holds_until_told_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plan.json");
        let (first, second) = (Example::new("lab0", 7), Example::new("lab1", 8));
        let before = Plans::inherit(&file);
        for network in [&first, &second] {
            before.ensure(&network.network()).unwrap();
        }
        for guest in [first.reservation("a", 2), first.reservation("b", 3)] {
            reserve(&before, &guest).unwrap();
        }
        reserve(&before, &second.reservation("c", 2)).unwrap();
        save(&file, &before.in_force().read().unwrap()).unwrap();

        let after = Plans::inherit(&file);
        assert_eq!(hostnames(&after), ["a", "b", "c"]);
        after.ensure(&first.network()).unwrap();
        assert!(!reserve(&after, &first.reservation("a", 2)).unwrap(), "as it was");
        assert_eq!(hostnames(&after), ["a", "b", "c"]);
        // The address of `b` is given to another guest now: what is told goes first.
        assert!(reserve(&after, &first.reservation("d", 3)).unwrap());
        assert_eq!(hostnames(&after), ["a", "c", "d"]);
        after.remove(second.network().network);
        assert_eq!(hostnames(&after), ["a", "d"]);
        assert!(!after.forget_inherited());
    }

    #[test]
    fn what_nobody_speaks_of_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plan.json");
        let example = Example::new("lab0", 7);
        let before = Plans::inherit(&file);
        before.ensure(&example.network()).unwrap();
        reserve(&before, &example.reservation("a", 2)).unwrap();
        save(&file, &before.in_force().read().unwrap()).unwrap();
        let after = Plans::inherit(&file);
        assert!(after.forget_inherited());
        assert_eq!(*after.in_force().read().unwrap(), Plan::default());
    }

    #[test]
    fn a_file_that_makes_no_sense_is_no_plan() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plan.json");
        fs::write(&file, "{").unwrap();
        assert_eq!(load(&file), Plan::default());
    }
}
