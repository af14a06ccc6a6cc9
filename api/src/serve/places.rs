//! Room for connections: so many in all, so many from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts open connections.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    per_address_max: usize,
}

/// Room for one connection from nobody in particular yet.
pub(super) struct Free {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Room for one connection, given back when dropped.
pub(super) struct Place {
    address: IpAddr,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    _free: Free,
}

impl Places {
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        let free = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self { free, taken: Arc::default(), per_address_max }
    }

    /// Wait until there is room for one more connection.
    pub(super) async fn free(&self) -> Free {
        // The semaphore is never closed, so this is always a permit.
        Free { _permit: Arc::clone(&self.free).acquire_owned().await.ok() }
    }

    /// Give the room to a connection from `address`, unless it has as many as it may have.
    pub(super) fn take(&self, free: Free, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_insert(0);
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(Place { address, taken: Arc::clone(&self.taken), _free: free })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cap and one more; IPv6 spelling does not make another address.
    #[tokio::test]
    async fn an_address_gets_so_many_and_gets_them_back() {
        let places = Places::new(10, 2);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = places.take(places.free().await, address).unwrap();
        let _second = places.take(places.free().await, mapped).unwrap();
        assert!(places.take(places.free().await, address).is_none());
        assert!(places.take(places.free().await, "192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(places.take(places.free().await, address).is_some());
    }

    #[tokio::test]
    async fn all_together_get_so_many() {
        let places = Places::new(1, 10);
        let place = places.take(places.free().await, "192.0.2.1".parse().unwrap());
        assert_eq!(places.free.available_permits(), 0);
        drop(place);
        assert_eq!(places.free.available_permits(), 1);
    }
}
