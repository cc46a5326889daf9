use crate::{
    args::server::DoctorArgs,
    commands::{items, text},
    exit::ExitStatus,
    failure::Result,
    output::Listing,
    session::Session,
};

/// The daemon's checks; fails when one of them does.
pub(crate) async fn run(session: &Session, args: DoctorArgs) -> Result<ExitStatus> {
    let answer = session.value("/1.0/doctor").await?;
    let checks = items(answer.get("checks").cloned().unwrap_or(answer));
    let mut listing = Listing::new(&["Check", "Result", "Found", "Fix"]);
    let mut failed = false;
    for check in checks {
        let result = text(&check, "status");
        failed |= result == "fail";
        let row = vec![text(&check, "name"), result, text(&check, "detail"), text(&check, "fix")];
        listing.push(row, check);
    }
    session.printer.listing(args.format.format, &listing)?;
    Ok(if failed { ExitStatus::Failed } else { ExitStatus::Done })
}
