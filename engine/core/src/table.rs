//! A map whose copies share what they have in common.
//!
//! Copying a [`World`](crate::world::World) of 100,000 instances takes a few reference counts, so
//! a reader holds a snapshot as long as it likes and never waits for the fold, nor the fold for it.
//! Changing a value that a snapshot shares copies that value and the path to it, once.
//!
//! The tree is imbl's B+ tree: ordered, so that equal tables are encoded alike.

use std::{borrow::Borrow, fmt, ops::RangeBounds};

use imbl::{
    OrdMap,
    shared_ptr::{DefaultSharedPtr, SharedPointer},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

#[derive(Clone)]
pub struct Table<K, V> {
    rows: OrdMap<K, Row<V>>,
}

/// A value that copies of a table share.
type Row<V> = SharedPointer<V, DefaultSharedPtr>;

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key).map(|row| &**row)
    }

    #[must_use]
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.rows.get_mut(key).map(Row::make_mut)
    }

    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.rows.contains_key(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.rows.insert(key, Row::new(value));
    }

    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Row<V>>
    where
        K: Borrow<Q>,
    {
        self.rows.remove(key)
    }

    /// Changes the values that `is_it` means; the others stay shared.
    pub fn change(&mut self, is_it: impl Fn(&V) -> bool, mut change: impl FnMut(&mut V)) {
        let keys: Vec<K> =
            self.iter().filter(|(_, value)| is_it(value)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(value) = self.get_mut(&key) {
                change(value);
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.rows.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.rows.iter().map(|(_, row)| &**row)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.rows.iter().map(|(key, row)| (key, &**row))
    }

    pub fn range<Q: Ord + ?Sized>(
        &self,
        keys: impl RangeBounds<Q>,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone
    where
        K: Borrow<Q>,
    {
        self.rows.range(keys).map(|(key, row)| (key, &**row))
    }
}

impl<K: Ord + Clone, V: PartialEq> PartialEq for Table<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: OrdMap::new() }
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone, Q: Ord + ?Sized> std::ops::Index<&Q> for Table<K, V>
where
    K: Borrow<Q>,
{
    type Output = V;

    /// Panics when there is no such key, as every map does.
    fn index(&self, key: &Q) -> &V {
        &self.rows[key]
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> Self {
        Self { rows: rows.into_iter().map(|(key, value)| (key, Row::new(value))).collect() }
    }
}

impl<K: Ord + Clone + Serialize, V: Clone + Serialize> Serialize for Table<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, K, V> Deserialize<'de> for Table<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows<K, V>(std::marker::PhantomData<(K, V)>);
        impl<'de, K, V> serde::de::Visitor<'de> for Rows<K, V>
        where
            K: Ord + Clone + Deserialize<'de>,
            V: Clone + Deserialize<'de>,
        {
            type Value = Table<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut table = Table::default();
                while let Some((key, value)) = map.next_entry()? {
                    table.insert(key, value);
                }
                Ok(table)
            }
        }
        deserializer.deserialize_map(Rows(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_what_changes_later() {
        let mut table: Table<u32, String> = (0..1000).map(|n| (n, n.to_string())).collect();
        let copy = table.clone();
        table.insert(1000, "new".to_owned());
        *table.get_mut(&7).unwrap() = "changed".to_owned();
        table.remove(&8);
        assert_eq!((copy.len(), copy[&7].as_str(), copy[&8].as_str()), (1000, "7", "8"));
        assert_eq!((table.len(), table[&7].as_str(), table.get(&8)), (1000, "changed", None));
    }

    #[test]
    fn what_is_not_touched_is_shared() {
        let mut table: Table<u32, String> = (0..1000).map(|n| (n, n.to_string())).collect();
        let copy = table.clone();
        *table.get_mut(&7).unwrap() = "changed".to_owned();
        assert!(Row::ptr_eq(&table.rows[&9], &copy.rows[&9]));
        assert!(!Row::ptr_eq(&table.rows[&7], &copy.rows[&7]));
    }
}
