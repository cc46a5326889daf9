//! Times as Go writes them: RFC 3339 in UTC, and the first second of the year 1 for "never".

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};

/// A moment, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub DateTime<Utc>);

impl Time {
    /// What Go's zero time prints as: `0001-01-01T00:00:00Z`.
    pub const NEVER: Self = match NaiveDate::from_ymd_opt(1, 1, 1) {
        Some(day) => Self(day.and_time(NaiveTime::MIN).and_utc()),
        None => Self(DateTime::UNIX_EPOCH),
    };

    #[must_use]
    pub fn is_never(self) -> bool {
        // The epoch too: `created_at` of an object that has none is printed as one or the other.
        self == Self::NEVER || self.0 == DateTime::UNIX_EPOCH
    }

    /// `None` for never.
    #[must_use]
    pub fn moment(self) -> Option<DateTime<Utc>> {
        (!self.is_never()).then_some(self.0)
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<DateTime<Utc>> for Time {
    fn from(moment: DateTime<Utc>) -> Self {
        Self(moment)
    }
}

impl From<Option<DateTime<Utc>>> for Time {
    fn from(moment: Option<DateTime<Utc>>) -> Self {
        moment.map_or(Self::NEVER, Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_as_go_prints_it() {
        assert_eq!(serde_json::to_string(&Time::NEVER).unwrap(), "\"0001-01-01T00:00:00Z\"");
        let read: Time = serde_json::from_str("\"0001-01-01T00:00:00Z\"").unwrap();
        assert!(read.is_never());
    }
}
