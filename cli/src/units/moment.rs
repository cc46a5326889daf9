//! Moments: where in time or on the log something is meant.
//!
//! `18934` is a sequence, `r4` a revision of the thing asked about, `op:01JD9A` the end of an
//! operation; `2h` is two hours ago; dates and times of day are local, RFC 3339 says its own zone.

use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};

use super::span;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Sequence(u64),
    Revision(u64),
    Operation(String),
    Time(DateTime<Utc>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a moment: write a sequence (18934), a revision (r4), op:ID, a span back (2h), \
     `yesterday 18:00`, `2026-11-20 18:00` or RFC 3339"
)]
pub(crate) struct NotAMoment(String);

/// Reads `text` as seen at `now`.
pub(crate) fn parse(text: &str, now: DateTime<Local>) -> Result<Moment, NotAMoment> {
    let text = text.trim();
    let text = text.strip_suffix(" ago").unwrap_or(text);
    if let Ok(sequence) = text.parse() {
        return Ok(Moment::Sequence(sequence));
    }
    if let Some(revision) = text.strip_prefix('r').and_then(|digits| digits.parse().ok()) {
        return Ok(Moment::Revision(revision));
    }
    if let Some(operation) = text.strip_prefix("op:").filter(|id| !id.is_empty()) {
        return Ok(Moment::Operation(operation.to_owned()));
    }
    time(text, now).map(Moment::Time).ok_or_else(|| NotAMoment(text.to_owned()))
}

fn time(text: &str, now: DateTime<Local>) -> Option<DateTime<Utc>> {
    if text == "now" {
        return Some(now.to_utc());
    }
    if let Ok(back) = span::parse(text) {
        return now.to_utc().checked_sub_signed(chrono::Duration::from_std(back).ok()?);
    }
    if let Ok(exact) = DateTime::parse_from_rfc3339(text) {
        return Some(exact.to_utc());
    }
    let (day, clock) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let (day, clock) = match (date(day, now), clock) {
        (Some(day), "") => (day, NaiveTime::MIN),
        (Some(day), clock) => (day, time_of_day(clock)?),
        (None, "") => (now.date_naive(), time_of_day(day)?),
        (None, _) => return None,
    };
    // An hour that the clock skips or repeats is read as the earlier of the two.
    Local.from_local_datetime(&NaiveDateTime::new(day, clock)).earliest().map(|at| at.to_utc())
}

fn date(text: &str, now: DateTime<Local>) -> Option<NaiveDate> {
    match text {
        "today" => Some(now.date_naive()),
        "yesterday" => now.date_naive().checked_sub_days(Days::new(1)),
        _ => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
    }
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M:%S")
        .or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"))
        .ok()
}

/// For people: relative up to a day, then the local date and time.
pub(crate) fn show(at: DateTime<Utc>, now: DateTime<Local>) -> String {
    match now.to_utc().signed_duration_since(at).to_std() {
        Ok(ago) if ago.as_secs() < 86_400 => format!("{} ago", span::show(ago)),
        _ => at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 11, 21, 10, 30, 0).unwrap()
    }

    fn local(text: &str) -> Moment {
        let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap();
        Moment::Time(Local.from_local_datetime(&naive).unwrap().to_utc())
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let cases = [
            ("18934", Moment::Sequence(18934)),
            ("r4", Moment::Revision(4)),
            ("op:01JD9A", Moment::Operation("01JD9A".to_owned())),
            ("now", local("2026-11-21 10:30:00")),
            ("2h", local("2026-11-21 08:30:00")),
            ("1d ago", local("2026-11-20 10:30:00")),
            ("09:15", local("2026-11-21 09:15:00")),
            ("today", local("2026-11-21 00:00:00")),
            ("yesterday 18:00", local("2026-11-20 18:00:00")),
            ("2026-02-01", local("2026-02-01 00:00:00")),
            ("2026-02-01T07:08:09", local("2026-02-01 07:08:09")),
        ];
        for (text, moment) in cases {
            assert_eq!(parse(text, now()), Ok(moment), "{text}");
        }
        let zoned = parse("2026-11-21T10:00:00+02:00", now()).unwrap();
        let utc = Utc.with_ymd_and_hms(2026, 11, 21, 8, 0, 0).unwrap();
        assert_eq!(zoned, Moment::Time(utc));
        for bad in ["", "soon", "r", "op:", "25:00", "2026-13-01", "someday 10:00"] {
            assert!(parse(bad, now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_near_is_shown_as_a_span() {
        let ago = |seconds| now().to_utc() - chrono::Duration::seconds(seconds);
        assert_eq!(show(ago(120), now()), "2 min ago");
        assert_eq!(show(ago(86_399), now()), "23 h ago");
        assert_eq!(show(ago(86_400), now()), "2026-11-20 10:30");
    }
}
