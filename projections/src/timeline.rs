//! Asking the index: timelines, operations of the past, who held a name.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stapes_core::{
    event::Event,
    ids::{ProjectId, Sequence, StreamId},
    name::{self, NameKind},
};
use uuid::Uuid;

use crate::{
    feed::Entry,
    operations::OperationView,
    rows::{self, Place, decode, sequence_of},
    store::{Damaged, Store},
    told::Told,
};

/// Entries on one page at most.
pub const PAGE_MAX: usize = 1000;
/// More than one record has.
const RECORD_ENTRIES: usize = 64;
/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 64;

/// A part of a list, with what is needed to judge it and to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// The list is complete up to this record.
    pub at: Sequence,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<Sequence>,
}

/// A time in which a thing held a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// The thing's.
    pub id: Uuid,
    pub from: Sequence,
    /// `None`: it still does.
    pub to: Option<Sequence>,
}

/// What a query sees: rows in the store, and what is not written yet.
pub(crate) struct Look {
    /// Oldest first; taken before the store was asked.
    pub(crate) pending: Vec<Arc<Told>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) at: Sequence,
}

impl Look {
    /// The first record that is not looked up in the store.
    fn unwritten(&self) -> Sequence {
        self.pending.first().map_or(Sequence(u64::MAX), |told| told.recorded.sequence)
    }

    /// The entries of these streams before `before`, newest first.
    pub(crate) fn timeline(
        &self,
        streams: &[StreamId],
        before: Sequence,
        count: usize,
    ) -> Result<Page<Entry>, Damaged> {
        let of_them = |entry: &&Entry| {
            streams.contains(&entry.subject.stream)
                || entry.also.iter().any(|stream| streams.contains(stream))
        };
        let enough = count + RECORD_ENTRIES;
        let newest = self.pending.iter().rev();
        let mut entries: Vec<Entry> = newest
            .filter(|told| told.recorded.sequence < before)
            .flat_map(|told| told.entries.iter().rev().filter(of_them))
            .take(enough)
            .cloned()
            .collect();
        let mut places: Vec<Place> = Vec::new();
        for stream in streams {
            self.places(*stream, before.min(self.unwritten()), enough, &mut places)?;
        }
        places.sort_unstable_by(|a, b| b.cmp(a));
        places.dedup();
        places.truncate(enough.saturating_sub(entries.len()));
        entries.extend(self.entries_at(&places)?);
        Ok(self.page(entries, count))
    }

    /// A page never ends within a record, so it may be a little longer than `count`.
    fn page(&self, mut entries: Vec<Entry>, count: usize) -> Page<Entry> {
        let between = |&end: &usize| entries[end].sequence != entries[end - 1].sequence;
        let end = (count.max(1)..entries.len()).find(between);
        let next = end.map(|end| entries[end - 1].sequence);
        entries.truncate(end.unwrap_or(entries.len()));
        Page { rows: entries, at: self.at, next }
    }

    fn places(
        &self,
        stream: StreamId,
        before: Sequence,
        count: usize,
        places: &mut Vec<Place>,
    ) -> Result<(), Damaged> {
        let mut span = rows::postings(stream);
        let mut found = 0;
        while found < count {
            let rows = self.store.last(&span, ROWS_AT_ONCE)?;
            let Some((oldest, _)) = rows.last() else { break };
            span.to.clone_from(oldest);
            for (_, posting) in rows {
                let posting: Vec<Place> = decode(&posting)?;
                let earlier = posting.into_iter().rev().filter(|(at, _)| *at < before);
                found += earlier.map(|place| places.push(place)).count();
            }
        }
        Ok(())
    }

    fn entries_at(&self, places: &[Place]) -> Result<Vec<Entry>, Damaged> {
        let mut block: BTreeMap<Place, Entry> = BTreeMap::new();
        let mut found = Vec::with_capacity(places.len());
        for place in places {
            if !block.contains_key(place) {
                let rows = self.store.first(&rows::blocks_from(place.0), 1)?;
                let entries = rows.first().map(|(_, packed)| unpacked(packed)).transpose()?;
                let by_place = |entry: Entry| ((entry.sequence, entry.index), entry);
                block = entries.unwrap_or_default().into_iter().map(by_place).collect();
            }
            let missing = || Damaged(format!("the entry of record {} is missing", place.0));
            found.push(block.get(place).cloned().ok_or_else(missing)?);
        }
        Ok(found)
    }

    /// All entries after `after`, oldest first.
    pub(crate) fn timeline_all(
        &self,
        after: Sequence,
        count: usize,
    ) -> Result<Page<Entry>, Damaged> {
        let unwritten = self.unwritten();
        let mut entries: Vec<Entry> = Vec::new();
        let mut span = rows::blocks_from(after.next());
        let enough = count + RECORD_ENTRIES;
        while entries.len() < enough {
            let rows = self.store.first(&span, 4)?;
            let Some((last, _)) = rows.last() else { break };
            span.from.clone_from(last);
            span.from.push(0);
            for (_, packed) in rows {
                let wanted = |entry: &Entry| entry.sequence > after && entry.sequence < unwritten;
                entries.extend(unpacked(&packed)?.into_iter().filter(wanted));
            }
        }
        let later = self.pending.iter().filter(|told| told.recorded.sequence > after);
        let room = enough.saturating_sub(entries.len());
        entries.extend(later.flat_map(|told| &told.entries).take(room).cloned());
        Ok(self.page(entries, count))
    }

    /// Operations that began before `before`, newest first.
    pub(crate) fn operations(
        &self,
        wanted: &dyn Fn(&OperationView) -> bool,
        before: Sequence,
        count: usize,
    ) -> Result<Page<OperationView>, Damaged> {
        // The newest of each is what is true.
        let mut newest: BTreeMap<Sequence, OperationView> = BTreeMap::new();
        for view in self.pending.iter().filter_map(|told| told.operation.as_ref()) {
            newest.insert(view.first, view.clone());
        }
        let mut span = rows::operations(before);
        let mut older = self.store.last(&span, ROWS_AT_ONCE)?;
        let mut found = Vec::new();
        loop {
            // Whatever of memory is not older than the rows at hand goes first.
            let oldest = older.last().map(|(key, _)| sequence_of(key)).transpose()?;
            for (_, row) in std::mem::take(&mut older) {
                let view: OperationView = decode(&row)?;
                newest.entry(view.first).or_insert(view);
            }
            let here = newest.split_off(&oldest.unwrap_or_default());
            let here = here.into_values().rev().filter(|view| view.first < before);
            found.extend(here.filter(|view| wanted(view)));
            if found.len() > count || oldest.is_none() {
                break;
            }
            span.to = rows::operation(oldest.unwrap_or_default());
            older = self.store.last(&span, ROWS_AT_ONCE)?;
        }
        let more = found.len() > count;
        found.truncate(count);
        let next = found.last().filter(|_| more).map(|view| view.first);
        Ok(Page { rows: found, at: self.at, next })
    }

    /// Who held a name, oldest first.
    pub(crate) fn holders(
        &self,
        kind: NameKind,
        scope: Uuid,
        name: &str,
    ) -> Result<Vec<Tenure>, Damaged> {
        let mut tenures: Vec<Tenure> = Vec::new();
        let mut take = |at: Sequence, holder: Option<Uuid>| {
            if let Some(last) = tenures.last_mut().filter(|last| last.to.is_none()) {
                last.to = Some(at);
            }
            tenures.extend(holder.map(|id| Tenure { id, from: at, to: None }));
        };
        let unwritten = self.unwritten();
        for (key, holder) in self.store.first(&rows::holders(kind, scope, name), usize::MAX)? {
            let at = sequence_of(&key)?;
            if at < unwritten {
                take(at, decode(&holder)?);
            }
        }
        for told in &self.pending {
            for event in told.recorded.record.events() {
                let Event::Name(event) = event else { continue };
                let (held, holder) = match event {
                    name::Event::Reserved { name, holder, .. } => (name, Some(*holder)),
                    name::Event::Released { name } => (name, None),
                };
                if held.kind == kind && held.scope == scope && held.name == name {
                    take(told.recorded.sequence, holder);
                }
            }
        }
        Ok(tenures)
    }

    /// A record up to which nothing is later than `time`, and not long before the last such.
    pub(crate) fn mark(&self, time: DateTime<Utc>) -> Result<Sequence, Damaged> {
        let marks = self.store.last(&rows::marks_until(time), 1)?;
        marks.first().map_or(Ok(Sequence(0)), |(_, mark)| decode(mark))
    }
}

fn unpacked(packed: &[u8]) -> Result<Vec<Entry>, Damaged> {
    decode(&rows::unpack(packed)?)
}

/// Which operations are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    pub project: Option<ProjectId>,
    /// Of something that it is about, as [`stapes_core::operation::Resource`] has it.
    pub resource: Option<stapes_core::operation::Resource>,
    pub ended_only: bool,
}

impl OperationFilter {
    pub(crate) fn wants(&self, view: &OperationView) -> bool {
        let operation = &view.operation;
        self.project.is_none_or(|project| operation.project == project)
            && self.resource.as_ref().is_none_or(|wanted| operation.resources.contains(wanted))
            && (!self.ended_only || operation.ended())
    }
}
