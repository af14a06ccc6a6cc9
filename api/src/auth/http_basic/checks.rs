//! Password checks: few at once, few waiting, each password once.
//!
//! bcrypt is slow on purpose, so whoever sends wrong passwords takes what there is of it. Only so many
//! may wait, and only a few of one address; the others are told to come back at once.
//!
//! # What it promises
//!
//! * A check that began holds its slot to its end, also if the request that wanted it is gone.
//! * Requests with the same name and password share one check, so that a client which opens many
//!   connections at once waits in one place.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;

use crate::auth::Unauthenticated;

/// Checks that may wait in all: with two slots of 50 ms, the last one waits a second and a half.
const WAITING_MAX: usize = 64;
/// Checks that may wait for one address.
const WAITING_PER_ADDRESS_MAX: usize = 8;

type Outcome = Result<bool, Unauthenticated>;
type Check = BoxFuture<'static, Outcome>;

/// What tells one check from another: a digest of name and password, and which file they are checked against.
pub(super) type CheckId = ([u8; 32], u64);

/// What a password check needs from the node. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct PasswordChecks {
    /// Secret to this process.
    pub(super) key: [u8; 32],
    slots: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    by_address: BTreeMap<Option<IpAddr>, usize>,
    under_way: BTreeMap<CheckId, WeakShared<Check>>,
}

impl PasswordChecks {
    /// At most `at_once` checks in parallel; `key` is secret to this process.
    pub(crate) fn new(key: [u8; 32], at_once: usize) -> Self {
        let at_once = at_once.min(Semaphore::MAX_PERMITS);
        Self { key, slots: Arc::new(Semaphore::new(at_once)), queue: Arc::default() }
    }

    /// Whether `password` is the one `hash` was made of. `from` is who asks, if that is known.
    pub(super) async fn check(
        &self,
        id: CheckId,
        from: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> Outcome {
        self.shared(id, from, password, hash)?.await
    }

    fn shared(
        &self,
        id: CheckId,
        from: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> Result<Shared<Check>, Unauthenticated> {
        let mut queue = self.queue();
        if let Some(check) = queue.under_way.get(&id).and_then(WeakShared::upgrade) {
            return Ok(check);
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let place = if slot.is_ok() { None } else { Some(queue.take(&self.queue, from)?) };
        let (slots, entry) = (Arc::clone(&self.slots), Entry { queue: Arc::clone(&self.queue), id });
        let check = async move {
            let _entry = entry;
            let slot = match slot {
                Ok(slot) => slot,
                Err(_) => slots.acquire_owned().await.map_err(|_| Unauthenticated::Interrupted)?,
            };
            drop(place);
            verify(slot, password, hash).await
        };
        let check = check.boxed().shared();
        if let Some(weak) = check.downgrade() {
            queue.under_way.insert(id, weak);
        }
        Ok(check)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        locked(&self.queue)
    }
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn take(&mut self, queue: &Arc<Mutex<Self>>, from: Option<IpAddr>) -> Result<Place, Unauthenticated> {
        let address = from.map(|address| address.to_canonical());
        let of_address = self.by_address.get(&address).copied().unwrap_or_default();
        if self.waiting >= WAITING_MAX || of_address >= WAITING_PER_ADDRESS_MAX {
            return Err(Unauthenticated::Busy);
        }
        self.waiting += 1;
        self.by_address.insert(address, of_address + 1);
        Ok(Place { queue: Arc::clone(queue), address })
    }
}

/// A place among the waiting, given back when dropped.
struct Place {
    queue: Arc<Mutex<Queue>>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = locked(&self.queue);
        queue.waiting -= 1;
        if let Some(count) = queue.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                queue.by_address.remove(&self.address);
            }
        }
    }
}

/// A check others may join, until it is over or nobody wants it.
struct Entry {
    queue: Arc<Mutex<Queue>>,
    id: CheckId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Should another check of the same have begun meanwhile, nobody joins that one. It is none the worse.
        locked(&self.queue).under_way.remove(&self.id);
    }
}

/// Decided off the threads that serve requests.
#[allow(
    clippy::disallowed_methods,
    reason = "bcrypt takes a core for tens of milliseconds and would stall every other request"
)]
async fn verify(slot: tokio::sync::OwnedSemaphorePermit, password: String, hash: String) -> Outcome {
    let check = tokio::task::spawn_blocking(move || {
        let right = bcrypt::verify(password.as_bytes(), &hash);
        drop(slot);
        right
    });
    // Hashes were checked when the file was read, so an error means a password bcrypt cannot take.
    Ok(check.await.map_err(|_| Unauthenticated::Interrupted)?.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> (PasswordChecks, String) {
        (PasswordChecks::new([7; 32], 1), bcrypt::hash("right", 4).unwrap())
    }

    fn id(number: u8) -> CheckId {
        ([number; 32], 0)
    }

    fn address(number: u8) -> Option<IpAddr> {
        Some([192, 0, 2, number].into())
    }

    #[tokio::test]
    async fn few_wait_and_fewer_of_one_address() {
        let (checks, hash) = checks();
        let begin = |number, from| checks.shared(id(number), from, "wrong".to_owned(), hash.clone());
        // One is being checked and does not wait.
        let mut begun = vec![begin(0, address(0)).unwrap()];
        for number in 1..=WAITING_MAX {
            let from = address(u8::try_from(number.div_ceil(WAITING_PER_ADDRESS_MAX)).unwrap());
            begun.push(begin(u8::try_from(number).unwrap(), from).unwrap());
            if number == WAITING_PER_ADDRESS_MAX {
                assert_eq!(begin(200, from).err(), Some(Unauthenticated::Busy));
                let mapped = "::ffff:192.0.2.1".parse().unwrap();
                assert_eq!(begin(200, Some(mapped)).err(), Some(Unauthenticated::Busy));
            }
        }
        assert_eq!(begin(200, address(200)).err(), Some(Unauthenticated::Busy));
        // Whoever waits for the same answer takes no place.
        begun.push(begin(5, address(1)).unwrap());
        for check in begun {
            assert_eq!(check.await, Ok(false));
        }
        let queue = checks.queue();
        assert_eq!((queue.waiting, queue.by_address.len(), queue.under_way.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_leaves_gives_back_the_place_and_the_slot_once_it_is_free() {
        let (checks, hash) = checks();
        let begin = |number| checks.shared(id(number), address(1), "right".to_owned(), hash.clone());
        let mut first = begin(1).unwrap();
        let second = begin(2).unwrap();
        // From here bcrypt runs, and may be over already.
        let _ = futures::poll!(&mut first);
        drop((first, second));
        assert_eq!(checks.queue().waiting, 0);
        assert_eq!(begin(3).unwrap().await, Ok(true));
    }
}
