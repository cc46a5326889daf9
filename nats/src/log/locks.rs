//! One append at a time on a stream, and for a commit id: rivals within a process wait for each other
//! instead of being refused by the servers.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

#[derive(Debug)]
pub(crate) struct Locks<K: Hash + Eq> {
    held: Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

/// Keys that nobody else holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a, K: Hash + Eq> {
    locks: &'a Locks<K>,
    keys: Vec<(K, Option<OwnedMutexGuard<()>>)>,
}

impl<K: Hash + Eq> Default for Locks<K> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<K: Hash + Eq + Ord + Clone> Locks<K> {
    /// Waits until nobody holds any of the keys. Everybody takes them in the same order, so that none
    /// waits for one who waits for him.
    pub(crate) async fn hold(&self, mut keys: Vec<K>) -> Held<'_, K> {
        keys.sort();
        keys.dedup();
        let mut held = Held { locks: self, keys: Vec::with_capacity(keys.len()) };
        for key in keys {
            let lock = self.held().entry(key.clone()).or_default().clone();
            // Named before it is waited for: who gives up waiting cleans up too.
            held.keys.push((key, None));
            let guard = lock.lock_owned().await;
            if let Some(newest) = held.keys.last_mut() {
                newest.1 = Some(guard);
            }
        }
        held
    }
}

impl<K: Hash + Eq> Locks<K> {
    fn held(&self) -> MutexGuard<'_, HashMap<K, Arc<tokio::sync::Mutex<()>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Held<'_, K> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        for (key, guard) in self.keys.drain(..) {
            drop(guard);
            // The map's own is the last one when nobody waits.
            if held.get(&key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                held.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_are_held_by_one_and_forgotten() {
        let locks = Locks::default();
        let first = locks.hold(vec![2, 1, 2]).await;
        let second = locks.hold(vec![3]).await;
        {
            let mut third = std::pin::pin!(locks.hold(vec![3, 2]));
            assert!(futures::poll!(&mut third).is_pending());
            drop(first);
            assert!(futures::poll!(&mut third).is_pending());
            drop(second);
            third.await;
        }
        let waiting = locks.hold(vec![5]).await;
        {
            let mut given_up = std::pin::pin!(locks.hold(vec![4, 5]));
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        drop(waiting);
        assert!(locks.held().is_empty());
    }
}
