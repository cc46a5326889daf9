//! What only tools on the same machine ask.

use axum::{extract::State, response::Response};

use super::{Api, answer};

/// Ready as soon as requests are answered: the views hold the log by then.
pub(in crate::server) async fn ready(State(api): State<Api>) -> Response {
    api.look(|_| answer::done())
}

/// `stapes shutdown`: the daemon stops guests, then itself.
pub(in crate::server) async fn shutdown(State(api): State<Api>) -> Response {
    api.shutdown.send_replace(true);
    answer::done()
}
