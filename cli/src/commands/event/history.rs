//! `stapes history`: the revisions of one thing.

use super::{read, record::Record, unheard_of};
use crate::{
    args::event::HistoryArgs, exit::ExitStatus, failure::Result, name::Resource, output::Listing,
    session::Session,
};

const SUMMARY: usize = 120;

/// One row a revision: when, who, what changed.
pub(crate) async fn run(session: &Session, args: HistoryArgs) -> Result<ExitStatus> {
    let resource = Resource::parse(&args.resource)?;
    let mut records: Vec<Record> = Vec::new();
    read(session, 0, Some(&resource.log_name()), |record| {
        records.push(record);
        true
    })
    .await?;
    if records.is_empty() {
        return Err(unheard_of(&resource));
    }
    let skipped = records.len().saturating_sub(args.limit);
    let titles = ["Revision", "Sequence", "Time", "Who", "What", "Content", "Reason"];
    let mut listing = Listing::new(&titles);
    for record in records.into_iter().skip(skipped) {
        let row = vec![
            format!("r{}", record.revision),
            record.sequence.to_string(),
            record
                .time
                .map(|time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
                .unwrap_or_default(),
            record.actor.clone(),
            record.kind.clone(),
            record.summary(SUMMARY),
            record.reason.clone(),
        ];
        listing.push(row, record.raw);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(ExitStatus::Done)
}
