//! The plan of one node's networks: which there are, and who has which address in them.
//!
//! It is pure and checked: what does not fit together is refused here and changes nothing, so that
//! whoever acts on a plan (a firewall, a DHCP server, a fake) need not doubt it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::{
    address::{is_dns_label, is_dns_name, is_interface_name},
    ids::{InstanceId, NetworkId},
    port::DriverError,
    spec::{MacAddress, NetworkSpec, Reservation},
};

/// Where a reservation is: the instance, and the place in its list.
type Place = (InstanceId, usize);

/// Networks and reservations that fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    networks: BTreeMap<NetworkId, NetworkSpec>,
    instances: BTreeMap<InstanceId, Vec<Reservation>>,
    by_mac: BTreeMap<(NetworkId, MacAddress), Place>,
    by_ipv4: BTreeMap<(NetworkId, Ipv4Addr), Place>,
    by_ipv6: BTreeMap<(NetworkId, Ipv6Addr), Place>,
    by_host_name: BTreeMap<String, Place>,
    by_label: BTreeMap<(NetworkId, String), BTreeSet<Place>>,
}

impl Plan {
    /// Puts the network into the plan, or what it is now in place of what it was. Says whether
    /// that changed anything.
    ///
    /// # Errors
    /// When the spec contradicts itself or another network.
    pub fn ensure(&mut self, spec: &NetworkSpec) -> Result<bool, DriverError> {
        check_network(spec)?;
        for other in self.networks.values().filter(|other| other.network != spec.network) {
            if other.bridge == spec.bridge {
                return refuse(format!(
                    "the bridge {} belongs to another network; choose another name",
                    spec.bridge
                ));
            }
            if let (Some(a), Some(b)) = (&spec.ipv4, &other.ipv4)
                && let (Ok(a), Ok(b)) = (a.subnet(), b.subnet())
                && (a.contains(&b) || b.contains(&a))
            {
                return refuse(format!(
                    "{a} overlaps {b} of the network {}; choose another ipv4.address",
                    other.bridge
                ));
            }
        }
        if let Some(old) = self.networks.get(&spec.network)
            && old.bridge != spec.bridge
        {
            return refuse(format!(
                "the bridge {} cannot be renamed to {} while it is there; remove the network first",
                old.bridge, spec.bridge
            ));
        }
        Ok(self.networks.insert(spec.network, spec.clone()).as_ref() != Some(spec))
    }

    /// Takes the network and everything reserved in it out of the plan.
    pub fn remove(&mut self, network: NetworkId) -> Option<NetworkSpec> {
        let spec = self.networks.remove(&network)?;
        for nics in self.instances.values_mut() {
            nics.retain(|nic| nic.nic.network != network);
        }
        self.instances.retain(|_, nics| !nics.is_empty());
        self.index_again();
        Some(spec)
    }

    /// Makes `nics` all that is reserved for the instance. Says whether that changed anything.
    ///
    /// # Errors
    /// When a reservation does not fit its network or somebody else's reservation; then the plan
    /// stays as it was.
    pub fn reserve(
        &mut self,
        instance: InstanceId,
        nics: &[Reservation],
    ) -> Result<bool, DriverError> {
        if self.of_instance(instance) == nics {
            return Ok(false);
        }
        for (index, reservation) in nics.iter().enumerate() {
            self.check(instance, reservation)?;
            if let Some(same) = nics[..index].iter().find(|other| clash(other, reservation)) {
                return refuse(format!(
                    "the interfaces {} and {} of instance {instance} have an address or a name on \
                     the host in common",
                    same.nic.name, reservation.nic.name
                ));
            }
        }
        self.forget(instance);
        for (index, reservation) in nics.iter().enumerate() {
            self.index(reservation, (instance, index));
        }
        if !nics.is_empty() {
            self.instances.insert(instance, nics.to_vec());
        }
        Ok(true)
    }

    #[must_use]
    pub fn network(&self, network: NetworkId) -> Option<&NetworkSpec> {
        self.networks.get(&network)
    }

    pub fn networks(&self) -> impl Iterator<Item = &NetworkSpec> {
        self.networks.values()
    }

    /// Everything reserved, in the order of the instances' ids.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.instances.values().flatten()
    }

    #[must_use]
    pub fn of_instance(&self, instance: InstanceId) -> &[Reservation] {
        self.instances.get(&instance).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn by_mac(&self, network: NetworkId, mac: MacAddress) -> Option<&Reservation> {
        self.at(self.by_mac.get(&(network, mac)))
    }

    #[must_use]
    pub fn by_ipv4(&self, network: NetworkId, address: Ipv4Addr) -> Option<&Reservation> {
        self.at(self.by_ipv4.get(&(network, address)))
    }

    #[must_use]
    pub fn by_ipv6(&self, network: NetworkId, address: Ipv6Addr) -> Option<&Reservation> {
        self.at(self.by_ipv6.get(&(network, address)))
    }

    /// All interfaces in the network of the guests with this hostname, in any case of letters.
    pub fn by_hostname(
        &self,
        network: NetworkId,
        hostname: &str,
    ) -> impl Iterator<Item = &Reservation> {
        let places = self.by_label.get(&(network, hostname.to_ascii_lowercase()));
        places.into_iter().flatten().filter_map(|place| self.at(Some(place)))
    }

    fn at(&self, place: Option<&Place>) -> Option<&Reservation> {
        let (instance, index) = place?;
        self.instances.get(instance)?.get(*index)
    }

    fn check(&self, instance: InstanceId, reservation: &Reservation) -> Result<(), DriverError> {
        let nic = &reservation.nic;
        let network = self.networks.get(&nic.network).ok_or_else(|| {
            DriverError::NotFound(format!("network {} of interface {}", nic.network, nic.name))
        })?;
        check_nic(instance, reservation, network)?;
        let elsewhere = |place: Option<&Place>| place.is_some_and(|(owner, _)| *owner != instance);
        let taken = |what: String| {
            refuse(format!("{what} is reserved for another instance in network {}", network.bridge))
        };
        if elsewhere(self.by_mac.get(&(nic.network, nic.mac))) {
            return taken(format!("the MAC address {}", nic.mac));
        }
        if let Some(address) = nic.ipv4
            && elsewhere(self.by_ipv4.get(&(nic.network, address)))
        {
            return taken(format!("the address {address}"));
        }
        if let Some(address) = nic.ipv6
            && elsewhere(self.by_ipv6.get(&(nic.network, address)))
        {
            return taken(format!("the address {address}"));
        }
        if elsewhere(self.by_host_name.get(&nic.host_name)) {
            return taken(format!("the interface name {}", nic.host_name));
        }
        Ok(())
    }

    fn index(&mut self, reservation: &Reservation, place: Place) {
        let nic = &reservation.nic;
        self.by_mac.insert((nic.network, nic.mac), place);
        if let Some(address) = nic.ipv4 {
            self.by_ipv4.insert((nic.network, address), place);
        }
        if let Some(address) = nic.ipv6 {
            self.by_ipv6.insert((nic.network, address), place);
        }
        self.by_host_name.insert(nic.host_name.clone(), place);
        let label = reservation.hostname.to_ascii_lowercase();
        self.by_label.entry((nic.network, label)).or_default().insert(place);
    }

    fn forget(&mut self, instance: InstanceId) {
        for (index, reservation) in
            self.instances.remove(&instance).unwrap_or_default().iter().enumerate()
        {
            let nic = &reservation.nic;
            self.by_mac.remove(&(nic.network, nic.mac));
            if let Some(address) = nic.ipv4 {
                self.by_ipv4.remove(&(nic.network, address));
            }
            if let Some(address) = nic.ipv6 {
                self.by_ipv6.remove(&(nic.network, address));
            }
            self.by_host_name.remove(&nic.host_name);
            let label = (nic.network, reservation.hostname.to_ascii_lowercase());
            if let Some(places) = self.by_label.get_mut(&label) {
                places.remove(&(instance, index));
                if places.is_empty() {
                    self.by_label.remove(&label);
                }
            }
        }
    }

    fn index_again(&mut self) {
        let instances = std::mem::take(&mut self.instances);
        let networks = std::mem::take(&mut self.networks);
        *self = Self { networks, ..Self::default() };
        for (instance, nics) in &instances {
            for (index, reservation) in nics.iter().enumerate() {
                self.index(reservation, (*instance, index));
            }
        }
        self.instances = instances;
    }
}

fn refuse<T>(text: String) -> Result<T, DriverError> {
    Err(DriverError::Refused(text))
}

fn clash(a: &Reservation, b: &Reservation) -> bool {
    let (a, b) = (&a.nic, &b.nic);
    let same_address = a.mac == b.mac
        || (a.ipv4.is_some() && a.ipv4 == b.ipv4)
        || (a.ipv6.is_some() && a.ipv6 == b.ipv6);
    a.host_name == b.host_name || (a.network == b.network && same_address)
}

fn check_network(spec: &NetworkSpec) -> Result<(), DriverError> {
    if !is_interface_name(&spec.bridge) {
        return refuse(format!(
            "{:?} cannot name a bridge: at most 15 letters, digits, '-', '_' and '.', and a letter \
             or digit first",
            spec.bridge
        ));
    }
    if !is_dns_name(&spec.dns_domain) {
        return refuse(format!(
            "{:?} is not a DNS domain; write labels of letters, digits and '-', as in lab.example",
            spec.dns_domain
        ));
    }
    if let Some(bad) = spec.uplinks.iter().find(|name| !is_interface_name(name)) {
        return refuse(format!("{bad:?} cannot name an interface of the host"));
    }
    let unusable = |error: crate::address::AddressError| DriverError::Refused(error.to_string());
    if let Some(plan) = &spec.ipv4 {
        plan.subnet().map_err(unusable)?;
    }
    if let Some(plan) = &spec.ipv6 {
        plan.subnet().map_err(unusable)?;
    }
    Ok(())
}

fn check_nic(
    instance: InstanceId,
    reservation: &Reservation,
    network: &NetworkSpec,
) -> Result<(), DriverError> {
    let nic = &reservation.nic;
    if reservation.instance != instance {
        return refuse(format!(
            "a reservation of instance {} cannot be made for {instance}",
            reservation.instance
        ));
    }
    if !is_dns_label(&reservation.hostname) {
        return refuse(format!(
            "{:?} is not a hostname: 1 to 63 letters, digits and '-', no '-' at either end",
            reservation.hostname
        ));
    }
    if !is_interface_name(&nic.host_name) || !is_interface_name(&nic.name) {
        return refuse(format!(
            "{:?} and {:?} have to be names of interfaces: at most 15 letters, digits, '-', '_' \
             and '.'",
            nic.name, nic.host_name
        ));
    }
    if nic.bridge != network.bridge {
        return refuse(format!(
            "interface {} names the bridge {} but its network has {}",
            nic.name, nic.bridge, network.bridge
        ));
    }
    if nic.mac.0[0] & 1 == 1 || nic.mac.0 == [0; 6] {
        return refuse(format!("{} cannot be the MAC address of one interface", nic.mac));
    }
    let inside = |plan: &crate::spec::Ipv4Plan, address: Ipv4Addr| {
        plan.gateway != address
            && plan.subnet().is_ok_and(|subnet| {
                subnet.contains(&address)
                    && subnet.network() != address
                    && subnet.broadcast() != address
            })
    };
    if let Some(address) = nic.ipv4
        && !network.ipv4.as_ref().is_some_and(|plan| inside(plan, address))
    {
        return refuse(format!("{address} is not for guests of network {}", network.bridge));
    }
    if let Some(address) = nic.ipv6
        && !network.ipv6.as_ref().is_some_and(|plan| {
            plan.gateway != address && plan.subnet().is_ok_and(|subnet| subnet.contains(&address))
        })
    {
        return refuse(format!("{address} is not for guests of network {}", network.bridge));
    }
    Ok(())
}
