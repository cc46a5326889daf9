//! The world that a request looks at: as it is, or as it was (`?at=`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use stapes_core::{ids::Sequence, world::World};

use super::{Api, fault::Fault, params::Params};
use crate::backend::At;

pub(super) enum Lens {
    Now(Api),
    Then(Arc<World>),
}

impl Lens {
    pub(super) fn look<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        match self {
            Self::Now(api) => api.backend.look(look),
            Self::Then(world) => look(world),
        }
    }

    /// Live things belong to the world as it is.
    pub(super) const fn is_now(&self) -> bool {
        matches!(self, Self::Now(_))
    }
}

impl Api {
    pub(super) async fn lens(&self, params: &Params) -> Result<Lens, Fault> {
        match params.get("at") {
            None => Ok(Lens::Now(self.clone())),
            Some(text) => Ok(Lens::Then(self.backend.world_at(parse(text)?).await?)),
        }
    }

    /// One look at the world as it is.
    pub(super) fn look<R>(&self, look: impl FnOnce(&World) -> R) -> R {
        self.backend.look(look)
    }
}

/// A sequence, or a time as RFC 3339 or in seconds since the epoch with an `@`.
fn parse(text: &str) -> Result<At, Fault> {
    if let Ok(sequence) = text.parse() {
        return Ok(At::Sequence(Sequence(sequence)));
    }
    let seconds = text.strip_prefix('@').and_then(|seconds| seconds.parse().ok());
    if let Some(time) = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        return Ok(At::Time(time));
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(At::Time(time.with_timezone(&Utc))),
        Err(_) => Err(Fault::bad_request(format!("Invalid at {text:?}"))
            .hint("at=SEQUENCE, or a time such as 2026-01-31T12:00:00Z")),
    }
}
