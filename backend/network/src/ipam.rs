//! Address management: a subnet for each tenant, an address for each container.
//!
//! Pure. The agent keeps what was given out in its database and claims it again at start; nothing here writes.
//! Both pools search *next fit*: they go on from the last number given, so that what was released is given out
//! again as late as possible. A connection or an ARP entry that outlives a container then meets nobody instead
//! of a stranger.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The pool used when the configuration names none.
pub const DEFAULT_POOL: &str = "10.201.0.0/16";
/// The prefix length of a tenant's subnet when the configuration names none: 1,021 containers.
pub const DEFAULT_TENANT_PREFIX_LENGTH: u8 = 22;

/// Why a pool could not give what was asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PoolError {
    /// The pool's measures do not fit each other.
    #[error(
        "pool {base} cannot be cut into subnets of /{tenant_prefix_length} (at least the pool's own length, at most /30)"
    )]
    Shape {
        /// The pool.
        base: Ipv4Net,
        /// The wanted length.
        tenant_prefix_length: u8,
    },
    /// Every subnet of the pool belongs to a tenant.
    #[error("all {count} tenant subnets of {base} are in use: enlarge the pool")]
    SubnetsExhausted {
        /// The pool.
        base: Ipv4Net,
        /// How many subnets it has.
        count: u32,
    },
    /// Every address of the subnet belongs to a container.
    #[error("all {count} container addresses of {subnet} are in use")]
    AddressesExhausted {
        /// The subnet.
        subnet: Ipv4Net,
        /// How many addresses it has for containers.
        count: u32,
    },
    /// The subnet to be claimed is in use.
    #[error("subnet {index} of {base} is already in use")]
    SubnetTaken {
        /// The pool.
        base: Ipv4Net,
        /// The claimed index.
        index: u32,
    },
    /// The pool has no subnet of this index.
    #[error("pool {base} has no subnet {index}")]
    NoSuchSubnet {
        /// The pool.
        base: Ipv4Net,
        /// The claimed index.
        index: u32,
    },
    /// The address to be claimed is in use.
    #[error("address {address} is already in use")]
    AddressTaken {
        /// The claimed address.
        address: Ipv4Addr,
    },
    /// The address to be claimed is not one for containers.
    #[error("{address} is not a container address of {subnet}")]
    AddressOutside {
        /// The claimed address.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
}

/// Returns the gateway of a tenant's subnet: its first address, held by the bridge.
pub fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    offset(subnet.network(), 1)
}

/// Subnets of one size, cut from one pool.
#[derive(Clone, Debug)]
pub struct SubnetPool {
    base: Ipv4Net,
    tenant_prefix_length: u8,
    slots: NextFit,
}

impl SubnetPool {
    /// Makes a pool in which nothing is in use.
    ///
    /// # Errors
    /// [`PoolError::Shape`] if a subnet is larger than the pool or too small for a gateway and a container.
    pub fn new(base: Ipv4Net, tenant_prefix_length: u8) -> Result<Self, PoolError> {
        let bits = tenant_prefix_length.checked_sub(base.prefix_len()).filter(|_| tenant_prefix_length <= 30);
        let Some(bits) = bits else {
            return Err(PoolError::Shape { base, tenant_prefix_length });
        };
        // At most 30 bits: a pool of /0 cut into /30.
        Ok(Self { base: base.trunc(), tenant_prefix_length, slots: NextFit::new(1 << bits) })
    }

    /// Gives out a subnet with its index.
    ///
    /// # Errors
    /// [`PoolError::SubnetsExhausted`].
    pub fn allocate(&mut self) -> Result<(u32, Ipv4Net), PoolError> {
        let exhausted = PoolError::SubnetsExhausted { base: self.base, count: self.slots.size };
        let index = self.slots.allocate().ok_or(exhausted)?;
        Ok((index, self.subnet(index)?))
    }

    /// Marks a subnet as in use that was given out before.
    ///
    /// # Errors
    /// [`PoolError::SubnetTaken`] or [`PoolError::NoSuchSubnet`].
    pub fn claim(&mut self, index: u32) -> Result<Ipv4Net, PoolError> {
        let subnet = self.subnet(index)?;
        if self.slots.claim(index) {
            Ok(subnet)
        } else {
            Err(PoolError::SubnetTaken { base: self.base, index })
        }
    }

    /// Takes a subnet back; one that is not in use is left alone.
    pub fn release(&mut self, index: u32) {
        self.slots.release(index);
    }

    /// Returns the subnet of an index.
    ///
    /// # Errors
    /// [`PoolError::NoSuchSubnet`].
    pub fn subnet(&self, index: u32) -> Result<Ipv4Net, PoolError> {
        let none = PoolError::NoSuchSubnet { base: self.base, index };
        if index >= self.slots.size {
            return Err(none);
        }
        let network = offset(self.base.network(), index << (32 - self.tenant_prefix_length));
        Ipv4Net::new(network, self.tenant_prefix_length).map_err(|_length| none)
    }
}

/// Container addresses of one tenant's subnet: all but the network, the gateway and the broadcast address.
#[derive(Clone, Debug)]
pub struct AddressPool {
    subnet: Ipv4Net,
    slots: NextFit,
}

/// Addresses at the low end of a subnet that no container gets: the network's and the gateway's.
const RESERVED_LOW: u32 = 2;

impl AddressPool {
    /// Makes a pool in which nothing is in use.
    ///
    /// # Errors
    /// [`PoolError::Shape`] if the subnet has no room for a container.
    pub fn new(subnet: Ipv4Net) -> Result<Self, PoolError> {
        if subnet.prefix_len() > 30 {
            return Err(PoolError::Shape { base: subnet, tenant_prefix_length: subnet.prefix_len() });
        }
        // All host bits set is the broadcast address, so the last container address is one below it.
        let size = u32::from(subnet.hostmask()) - RESERVED_LOW;
        Ok(Self { subnet: subnet.trunc(), slots: NextFit::new(size) })
    }

    /// Returns the subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// Returns the gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.subnet)
    }

    /// Gives out an address.
    ///
    /// # Errors
    /// [`PoolError::AddressesExhausted`].
    pub fn allocate(&mut self) -> Result<Ipv4Addr, PoolError> {
        let exhausted = PoolError::AddressesExhausted { subnet: self.subnet, count: self.slots.size };
        let slot = self.slots.allocate().ok_or(exhausted)?;
        Ok(offset(self.subnet.network(), slot + RESERVED_LOW))
    }

    /// Marks an address as in use that was given out before.
    ///
    /// # Errors
    /// [`PoolError::AddressTaken`] or [`PoolError::AddressOutside`].
    pub fn claim(&mut self, address: Ipv4Addr) -> Result<(), PoolError> {
        let slot = self.slot(address).ok_or(PoolError::AddressOutside { address, subnet: self.subnet })?;
        if self.slots.claim(slot) { Ok(()) } else { Err(PoolError::AddressTaken { address }) }
    }

    /// Takes an address back; one that is not in use is left alone.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(slot) = self.slot(address) {
            self.slots.release(slot);
        }
    }

    fn slot(&self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address)
            .checked_sub(u32::from(self.subnet.network()))?
            .checked_sub(RESERVED_LOW)
            .filter(|slot| *slot < self.slots.size)
    }
}

/// Returns the address `distance` above `base`.
fn offset(base: Ipv4Addr, distance: u32) -> Ipv4Addr {
    // Callers stay inside a network that contains `base`, so this cannot wrap.
    Ipv4Addr::from(u32::from(base).wrapping_add(distance))
}

/// Numbers from 0 to `size` - 1, searched from where the last search ended.
#[derive(Clone, Debug)]
struct NextFit {
    size: u32,
    used: BTreeSet<u32>,
    cursor: u32,
}

impl NextFit {
    fn new(size: u32) -> Self {
        Self { size, used: BTreeSet::new(), cursor: 0 }
    }

    fn allocate(&mut self) -> Option<u32> {
        let slot = (self.cursor..self.size).chain(0..self.cursor).find(|slot| !self.used.contains(slot))?;
        self.used.insert(slot);
        self.cursor = slot + 1;
        Some(slot)
    }

    fn claim(&mut self, slot: u32) -> bool {
        // After a restart the search goes on above everything that is in use.
        self.cursor = self.cursor.max(slot + 1);
        self.used.insert(slot)
    }

    fn release(&mut self, slot: u32) {
        self.used.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a network")
    }

    #[test]
    fn the_default_pool_gives_64_tenants_1021_containers_each() {
        let mut pool =
            SubnetPool::new(net(DEFAULT_POOL), DEFAULT_TENANT_PREFIX_LENGTH).expect("a valid pool");
        let subnets: Vec<_> = (0..64).map(|_| pool.allocate().expect("a free subnet")).collect();
        assert_eq!(subnets[0], (0, net("10.201.0.0/22")));
        assert_eq!(subnets[63], (63, net("10.201.252.0/22")));
        assert_eq!(pool.allocate(), Err(PoolError::SubnetsExhausted { base: net(DEFAULT_POOL), count: 64 }));
        let mut addresses = AddressPool::new(subnets[1].1).expect("a valid subnet");
        assert_eq!(addresses.gateway(), Ipv4Addr::new(10, 201, 4, 1));
        assert_eq!(addresses.allocate(), Ok(Ipv4Addr::new(10, 201, 4, 2)));
        assert_eq!(
            (1..1021).filter_map(|_| addresses.allocate().ok()).last(),
            Some(Ipv4Addr::new(10, 201, 7, 254))
        );
        assert!(matches!(addresses.allocate(), Err(PoolError::AddressesExhausted { count: 1021, .. })));
    }

    #[test]
    fn refuses_pools_without_room() {
        for (base, length) in [("10.0.0.0/16", 15), ("10.0.0.0/16", 31), ("10.0.0.0/31", 31)] {
            assert!(
                matches!(SubnetPool::new(net(base), length), Err(PoolError::Shape { .. })),
                "{base} {length}"
            );
        }
        assert!(AddressPool::new(net("10.0.0.0/31")).is_err());
        let mut smallest = AddressPool::new(net("10.0.0.0/30")).expect("a valid subnet");
        assert_eq!(smallest.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 2)));
        assert!(smallest.allocate().is_err());
        assert!(SubnetPool::new(net("0.0.0.0/0"), 30).is_ok());
    }

    #[test]
    fn a_released_address_is_not_given_out_at_once() {
        let mut pool = AddressPool::new(net("10.0.0.0/24")).expect("a valid subnet");
        let first = pool.allocate().expect("a free address");
        pool.release(first);
        assert_ne!(pool.allocate().expect("a free address"), first);
    }

    #[test]
    fn claims_are_honoured_and_checked() {
        let mut pool = AddressPool::new(net("10.0.0.0/24")).expect("a valid subnet");
        let seven = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(pool.claim(seven), Ok(()));
        assert_eq!(pool.claim(seven), Err(PoolError::AddressTaken { address: seven }));
        assert_eq!(pool.allocate(), Ok(Ipv4Addr::new(10, 0, 0, 8)));
        for outside in [[10, 0, 0, 0], [10, 0, 0, 1], [10, 0, 0, 255], [10, 0, 1, 4], [9, 0, 0, 4]] {
            assert!(matches!(pool.claim(outside.into()), Err(PoolError::AddressOutside { .. })));
        }
        let mut subnets = SubnetPool::new(net("10.0.0.0/16"), 22).expect("a valid pool");
        assert_eq!(subnets.claim(3), Ok(net("10.0.12.0/22")));
        assert!(matches!(subnets.claim(3), Err(PoolError::SubnetTaken { .. })));
        assert!(matches!(subnets.claim(64), Err(PoolError::NoSuchSubnet { .. })));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_all_are_usable(steps in prop::collection::vec(any::<(bool, u8)>(), 0..400)) {
            let subnet = net("10.1.2.0/27");
            let mut pool = AddressPool::new(subnet).expect("a valid subnet");
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for (allocate, pick) in steps {
                if allocate {
                    match pool.allocate() {
                        Ok(address) => {
                            prop_assert!(!held.contains(&address));
                            prop_assert!(subnet.contains(&address));
                            prop_assert!(![subnet.network(), subnet.broadcast(), pool.gateway()].contains(&address));
                            held.push(address);
                        }
                        Err(error) => {
                            prop_assert_eq!(error, PoolError::AddressesExhausted { subnet, count: 29 });
                            prop_assert_eq!(held.len(), 29);
                        }
                    }
                } else if !held.is_empty() {
                    let address = held.remove(usize::from(pick) % held.len());
                    pool.release(address);
                }
            }
            // Everything that is not held can be had again.
            let free = (0..).map_while(|_| pool.allocate().ok()).count();
            prop_assert_eq!(free + held.len(), 29);
        }

        #[test]
        fn subnets_never_overlap(length in 18_u8..=26, count in 1_usize..64) {
            let mut pool = SubnetPool::new(net("10.0.0.0/18"), length).expect("a valid pool");
            let given: Vec<Ipv4Net> = (0..count).map_while(|_| pool.allocate().ok()).map(|(_, subnet)| subnet).collect();
            for (i, a) in given.iter().enumerate() {
                prop_assert!(net("10.0.0.0/18").contains(a));
                for b in given.iter().skip(i + 1) {
                    prop_assert!(!a.contains(b) && !b.contains(a));
                }
            }
        }
    }
}
