//! Where members were seen lately, beside what the catalog says.
//!
//! Bounded: only members are noted, and of each only the last few addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerglass_catalog::PeerKey;

/// Addresses kept for one member. It may have some interfaces; a liar on the LAN may add some.
const ADDRESSES_MAX: usize = 4;

/// What was seen. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings(Arc<Mutex<BTreeMap<PeerKey, Vec<String>>>>);

impl Sightings {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<PeerKey, Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member was seen. Says whether it was not seen there lately.
    pub(crate) fn note(&self, key: PeerKey, address: String) -> bool {
        let mut seen = self.locked();
        let addresses = seen.entry(key).or_default();
        let known = addresses.iter().position(|known| *known == address);
        if let Some(at) = known {
            addresses.remove(at);
        }
        addresses.insert(0, address);
        addresses.truncate(ADDRESSES_MAX);
        known.is_none()
    }

    /// Nothing is heard of it any more.
    pub(crate) fn forget(&self, key: PeerKey) {
        self.locked().remove(&key);
    }

    /// Forget whoever is not wanted.
    pub(crate) fn retain(&self, wanted: impl Fn(PeerKey) -> bool) {
        self.locked().retain(|key, _| wanted(*key));
    }

    /// Where it was seen, the latest first.
    pub(crate) fn of(&self, key: PeerKey) -> Vec<String> {
        self.locked().get(&key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_addresses_are_kept_and_no_more() {
        let (seen, key) = (Sightings::default(), PeerKey([1; 32]));
        for at in 0..9 {
            assert!(seen.note(key, format!("10.0.0.{at}:9293")));
        }
        assert!(!seen.note(key, "10.0.0.6:9293".to_owned()));
        assert_eq!(seen.of(key), ["10.0.0.6:9293", "10.0.0.8:9293", "10.0.0.7:9293", "10.0.0.5:9293"]);
        seen.retain(|_| false);
        assert!(seen.of(key).is_empty());
    }
}
