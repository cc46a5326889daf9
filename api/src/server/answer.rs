//! Answers: the envelopes with their HTTP status and headers.

use axum::{
    Json,
    http::{HeaderValue, StatusCode as Http, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::fault::Fault;
use crate::wire::{envelope::Envelope, operation::Operation};

/// What a handler answers.
pub(super) type Answer = Result<Response, Fault>;

/// Something to read.
pub(super) fn sync(metadata: impl Serialize) -> Response {
    Json(Envelope::sync(metadata)).into_response()
}

/// Something to read, with the tag that a change of it may be made conditional on.
pub(super) fn tagged(metadata: impl Serialize, etag: &str) -> Response {
    with_header(sync(metadata), header::ETAG, etag)
}

/// Done.
pub(super) fn done() -> Response {
    sync(json!({}))
}

/// Made, there.
pub(super) fn created(location: &str) -> Response {
    let response = (Http::CREATED, Json(Envelope::sync(json!({})))).into_response();
    with_header(response, header::LOCATION, location)
}

/// Begun, in the background.
pub(super) fn begun(operation: Operation) -> Response {
    let url = format!("/1.0/operations/{}", operation.id);
    let envelope = Envelope::asynchronous(url.clone(), operation);
    with_header((Http::ACCEPTED, Json(envelope)).into_response(), header::LOCATION, &url)
}

pub(super) fn with_header(
    mut response: Response,
    name: header::HeaderName,
    value: &str,
) -> Response {
    // What cannot be a header's value (a name with a newline) is left out rather than refused.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
