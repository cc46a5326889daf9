//! A request to change a thing that is there: what it is to be, who asks, and which state of it they
//! know.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts as _, Request},
};
use serde::de::DeserializeOwned;
use stapes_core::{command::Command, ids::Revision};

use super::{
    Api,
    answer::{self, Answer},
    fault::Fault,
    handle::body,
    peer::Caller,
    submit::expected,
};

#[derive(Debug)]
pub(super) struct Change<T> {
    pub(super) wanted: T,
    pub(super) caller: Caller,
    /// By `If-Match`.
    pub(super) expected: Option<Revision>,
}

impl<T: DeserializeOwned> FromRequest<Api> for Change<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Fault> {
        let (mut parts, rest) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let expected = expected(&parts.headers);
        let bytes = Bytes::from_request(Request::from_parts(parts, rest), api).await;
        let bytes =
            bytes.map_err(|refusal| Fault::new(refusal.status().as_u16(), refusal.body_text()))?;
        Ok(Self { wanted: body(&bytes)?, caller, expected: expected? })
    }
}

impl Api {
    /// For what is synchronous in the dialect, and answers nothing.
    pub(super) async fn done(&self, command: Command, caller: &Caller) -> Answer {
        self.settle(command, caller).await?;
        Ok(answer::done())
    }
}

/// What a patch makes of settings: those that it does not name stay.
pub(super) fn merged<V: Clone>(
    known: &BTreeMap<String, V>,
    more: impl IntoIterator<Item = (String, V)>,
) -> BTreeMap<String, V> {
    let mut all = known.clone();
    all.extend(more);
    all
}
