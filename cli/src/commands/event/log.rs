//! `stapes log`: what happened, by operation or line by line.

use std::collections::{BTreeMap, VecDeque};

use chrono::Local;
use serde_json::Value;

use super::{moment, read, record::Record, unheard_of};
use crate::{
    args::event::LogQueryArgs,
    exit::ExitStatus,
    failure::{Failure, Result},
    name::Resource,
    output::{
        Listing,
        format::Shape,
        style::{BOLD, DIM},
    },
    session::Session,
    units::moment::{Moment, show},
};

/// Characters of an event's content that fit on its line.
const SUMMARY: usize = 100;
/// The fewest digits of an operation's id that are shown.
const SHORTEST: usize = 8;

pub(crate) async fn run(session: &Session, args: LogQueryArgs) -> Result<ExitStatus> {
    let resource = args.resource.as_deref().map(Resource::parse).transpose()?;
    let since = bound(session, args.since.as_deref(), resource.as_ref()).await?;
    let until = bound(session, args.until.as_deref(), resource.as_ref()).await?;
    let start = match since {
        Some(Moment::Sequence(sequence)) => sequence.saturating_sub(1),
        _ => 0,
    };
    let (mut kept, mut seen) = (VecDeque::new(), Seen::default());
    read(session, start, resource.as_ref().map(Resource::log_name).as_deref(), |record| {
        if until.as_ref().is_some_and(|until| after(&record, until)) {
            return false;
        }
        seen.count(&record);
        let early = since.as_ref().is_some_and(|since| !after_or_at(&record, since));
        if !early && wanted(&record, &args) {
            kept.push_back(record);
            if kept.len() > args.limit {
                kept.pop_front();
            }
        }
        true
    })
    .await?;
    if let Some(resource) = resource.filter(|_| start == 0 && seen.events == 0) {
        return Err(unheard_of(&resource));
    }
    let mut records: Vec<Record> = kept.into();
    if !args.reverse {
        records.reverse();
    }
    print(session, &args, &records)?;
    session.printer.say(&format!(
        "{} of {} events, sequences {}–{}",
        records.len(),
        seen.events,
        seen.first,
        seen.last
    ));
    Ok(ExitStatus::Done)
}

/// The range that was looked through.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
    first: u64,
    last: u64,
}

impl Seen {
    fn count(&mut self, record: &Record) {
        self.events += 1;
        if self.first == 0 {
            self.first = record.sequence;
        }
        self.last = record.sequence;
    }
}

/// A revision or an operation is turned into its sequence.
async fn bound(
    session: &Session,
    typed: Option<&str>,
    resource: Option<&Resource>,
) -> Result<Option<Moment>> {
    let Some(typed) = typed else { return Ok(None) };
    Ok(Some(match moment::parse(typed)? {
        exact @ (Moment::Sequence(_) | Moment::Time(_)) => exact,
        Moment::Revision(_) | Moment::Operation(_) => {
            let sequence = moment::resolve(session, typed, resource).await?;
            let sequence = sequence.parse().map_err(|_| Failure::protocol("no sequence"))?;
            Moment::Sequence(sequence)
        }
    }))
}

fn after(record: &Record, moment: &Moment) -> bool {
    match moment {
        Moment::Sequence(sequence) => record.sequence > *sequence,
        Moment::Time(at) => record.time.is_some_and(|time| time > *at),
        Moment::Revision(_) | Moment::Operation(_) => false,
    }
}

pub(super) fn after_or_at(record: &Record, moment: &Moment) -> bool {
    match moment {
        Moment::Sequence(sequence) => record.sequence >= *sequence,
        Moment::Time(at) => record.time.is_none_or(|time| time >= *at),
        Moment::Revision(_) | Moment::Operation(_) => true,
    }
}

fn wanted(record: &Record, args: &LogQueryArgs) -> bool {
    args.actor.as_ref().is_none_or(|actor| record.actor == *actor)
        && args.kind.as_ref().is_none_or(|kind| record.kind.contains(kind.as_str()))
        && args.op.as_ref().is_none_or(|op| record.operation.starts_with(op.as_str()))
        && args.grep.as_ref().is_none_or(|text| record.pretty().contains(text.as_str()))
}

fn print(session: &Session, args: &LogQueryArgs, records: &[Record]) -> Result<()> {
    if args.format.format.shape == Shape::Table && !args.flat {
        return grouped(session, records);
    }
    let mut listing =
        Listing::new(&["Sequence", "Time", "Actor", "Resource", "Event", "Content", "Operation"]);
    for record in records {
        let row = vec![
            record.sequence.to_string(),
            record.time.map(|time| time.to_rfc3339()).unwrap_or_default(),
            record.actor.clone(),
            record.resource.clone(),
            record.kind.clone(),
            record.summary(SUMMARY),
            record.operation.clone(),
        ];
        listing.push(row, record.raw.clone());
    }
    session.printer.listing(args.format.format, &listing)
}

/// What one operation did stands together, below who asked for it and why.
fn grouped(session: &Session, records: &[Record]) -> Result<()> {
    let ids = prefixes(records);
    let acts = acts(records);
    let mut before = None;
    for record in records.iter().filter(|record| !is_bookkeeping(record)) {
        if before != Some(&record.operation) || record.operation.is_empty() {
            session.printer.line(&heading(&acts[&record.operation], record, &ids))?;
        }
        before = Some(&record.operation);
        let line = format!(
            "  {DIM}{:>8} r{:<3}{DIM:#} {:28} {:20} {}",
            record.sequence,
            record.revision,
            record.kind,
            record.resource,
            record.summary(SUMMARY)
        );
        session.printer.line(line.trim_end())?;
    }
    Ok(())
}

/// Names are reserved and operations kept for each thing done: `--flat` shows them.
fn is_bookkeeping(record: &Record) -> bool {
    record.resource.starts_with("name/") || record.kind == "operation.accepted"
}

/// What one operation wrote, from the first to the last record that is shown.
#[derive(Clone, Copy, Debug)]
struct Act<'a> {
    /// Whoever asked wrote this, nodes wrote those after it.
    first: &'a Record,
    last: &'a Record,
}

impl Act<'_> {
    /// From its first word to its last.
    fn took(&self) -> Option<String> {
        let took = self.last.time? - self.first.time?;
        (self.first.sequence != self.last.sequence)
            .then(|| format!("took {} ms", took.num_milliseconds()))
    }
}

fn acts(records: &[Record]) -> BTreeMap<&String, Act<'_>> {
    let mut acts: BTreeMap<&String, Act<'_>> = BTreeMap::new();
    for record in records {
        let act = acts.entry(&record.operation).or_insert(Act { first: record, last: record });
        if record.sequence < act.first.sequence {
            act.first = record;
        }
        if record.sequence > act.last.sequence {
            act.last = record;
        }
    }
    acts
}

fn heading(act: &Act<'_>, record: &Record, ids: &BTreeMap<String, String>) -> String {
    // What no operation caused stands for itself.
    let record = if record.operation.is_empty() { record } else { act.first };
    let took = if record.operation.is_empty() { None } else { act.took() };
    let took = took.map(|took| format!("  {took}")).unwrap_or_default();
    let when = record.time.map(|time| show(time, Local::now())).unwrap_or_default();
    let reason =
        if record.reason.is_empty() { String::new() } else { format!("  \"{}\"", record.reason) };
    let who = if record.actor.is_empty() { "system" } else { &record.actor };
    let what = match ids.get(&record.operation) {
        Some(id) => format!("op {id}"),
        None => match record.raw.get("causationid").and_then(Value::as_str) {
            Some(cause) => format!("caused by {cause}"),
            None => "no operation".to_owned(),
        },
    };
    format!("{BOLD}{what}{BOLD:#}  {who}  {when}{took}{reason}")
}

/// The shortest beginnings that tell these operations apart.
fn prefixes(records: &[Record]) -> BTreeMap<String, String> {
    let mut ids: Vec<&str> = records
        .iter()
        .map(|record| record.operation.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids.iter()
        .map(|id| {
            let others = ids.iter().filter(|other| *other != id);
            let common = others.map(|other| common_prefix(id, other)).max().unwrap_or(0);
            let shown: String = id.chars().take((common + 1).max(SHORTEST)).collect();
            ((*id).to_owned(), shown)
        })
        .collect()
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::{Line, line},
        *,
    };

    #[test]
    fn ids_are_cut_where_they_differ() {
        let record = |operation: &str| {
            let value =
                serde_json::json!({ "type": "a", "sequence": 1, "correlationid": operation });
            let Line::Event(record) = line(value).unwrap() else { panic!("no event") };
            *record
        };
        let records = [record("0193a4b2-7c11-0"), record("0193a4b2-7c22-0"), record("")];
        let ids = prefixes(&records);
        assert_eq!(ids["0193a4b2-7c11-0"], "0193a4b2-7c1");
        assert_eq!(ids.len(), 2);
    }
}
