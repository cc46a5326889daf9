//! What only tools on the same machine ask.

use axum::{extract::State, response::Response};

use super::{Answer, Api, Fault, answer};

/// Ready as soon as requests are answered from the log: the views hold it by then. A member that
/// started without most of the log's servers answers from what it knew last, and is not ready; one
/// that loses them later stays so.
pub(in crate::server) async fn ready(State(api): State<Api>) -> Answer {
    if api.look(|_| api.backend.is_whole()) {
        return Ok(answer::done());
    }
    let lost = api.health().and_then(|health| health.lost);
    let why = lost.map_or_else(|| "the log is not heard yet".to_owned(), |lost| lost.why);
    let fault = Fault::new(503, format!("Not ready, and only old answers are given: {why}"));
    Err(fault.code("no-quorum").hint("stapes cluster status"))
}

/// `stapes shutdown`: the daemon stops guests, then itself.
pub(in crate::server) async fn shutdown(State(api): State<Api>) -> Response {
    api.shutdown.send_replace(true);
    answer::done()
}
