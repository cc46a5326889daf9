//! Refusals: Incus' status and text, with our code, hint and facts beside them.

use std::collections::BTreeMap;

use axum::{
    Json,
    http::StatusCode as Http,
    response::{IntoResponse, Response},
};
use stapes_core::port::DriverError;

use crate::wire::envelope::{Advice, Envelope};

/// Why a request is answered with an error. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    /// As Incus says it: programs read it.
    pub text: String,
    pub advice: Advice,
}

impl Fault {
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), advice: Advice::default() }
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, text).code("invalid")
    }

    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(404, text).code("not-found")
    }

    /// The path is of the dialect; what was asked of it is not served.
    pub fn not_implemented(what: impl Into<String>) -> Self {
        Self::new(501, what).code("not-implemented")
    }

    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.advice.code = Some(code.to_owned());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.advice.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.advice.facts.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.advice.facts
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status = Http::from_u16(self.status).unwrap_or(Http::INTERNAL_SERVER_ERROR);
        if status.is_server_error() && status != Http::NOT_IMPLEMENTED {
            tracing::error!(error = %self.text, "a request failed");
        }
        (status, Json(Envelope::error(status.as_u16(), self.text, self.advice))).into_response()
    }
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        let text = error.to_string();
        match error {
            DriverError::Refused(_) => Self::bad_request(text),
            DriverError::NotFound(_) => Self::not_found(text),
            DriverError::Full(_) => Self::new(500, text).code("full"),
            DriverError::Failed(_) => Self::new(500, text).code("driver-failed"),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::new(500, error.to_string()).code("io")
    }
}
