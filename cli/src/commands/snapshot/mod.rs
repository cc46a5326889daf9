//! `stapes snapshot …`, and what snapshots of volumes share with it.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod restore;

use chrono::{DateTime, Utc};

use crate::{
    failure::{Failure, Result},
    units::span,
};

/// When something expires: a span from now, or RFC 3339.
pub(crate) fn expiry(text: &str) -> Result<DateTime<Utc>> {
    if let Ok(exact) = DateTime::parse_from_rfc3339(text) {
        return Ok(exact.to_utc());
    }
    let later = span::parse(text)
        .ok()
        .and_then(|span| Utc::now().checked_add_signed(chrono::Duration::from_std(span).ok()?));
    later.ok_or_else(|| {
        Failure::usage(format!("`{text}` is no expiry: write a span (2w) or RFC 3339"))
    })
}
