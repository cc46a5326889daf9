//! What holds for every request and answer, whatever it is about.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use super::{Api, fault::Fault};
use crate::tls::PeerCertificate;

/// Refuses what a browser sends for another site, and marks answers as what they are.
pub(super) async fn every_request(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if matches!(site, Some("cross-site" | "same-site")) {
        return Fault::new(403, "Forbidden Sec-Fetch-Site header value").into_response();
    }
    let mut response = next.run(request).await;
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Over the network only members are let in, and those who come to be one. That a certificate is of
/// the cluster does not make its node a member: it may have been removed.
pub(super) async fn only_members(State(api): State<Api>, request: Request, next: Next) -> Response {
    let certificate = request.extensions().get::<PeerCertificate>();
    let node = certificate.and_then(|certificate| certificate.node);
    let is_member = node.is_some_and(|node| api.look(|world| world.nodes.contains_key(&node)));
    let joins = request.uri().path() == "/internal/join" && *request.method() == Method::POST;
    if is_member || joins {
        return next.run(request).await;
    }
    Fault::new(403, "not authorized")
        .code("no-access")
        .hint("at a member, over its unix socket: stapes cluster list")
        .into_response()
}

/// A path that is only untidy is redirected, with its method and body.
pub(super) async fn unknown_path(uri: Uri) -> Response {
    match tidy(uri.path()) {
        Some(path) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            Redirect::permanent(&format!("{path}{query}")).into_response()
        }
        None => Fault::not_found("not found").into_response(),
    }
}

/// The path without empty segments, when it has some.
fn tidy(path: &str) -> Option<String> {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let tidy = format!("/{}", segments.join("/"));
    (tidy != path).then_some(tidy)
}

/// The path is known, the method is not served there.
pub(super) async fn unknown_method() -> Response {
    Fault::not_implemented("not implemented").into_response()
}

/// A handler panicked: the client is told, the daemon lives on.
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = %text, "a request handler panicked");
    let mut response = Fault::new(500, "The daemon made a mistake; its log says more")
        .code("internal")
        .into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
mod tests {
    use super::tidy;

    #[test]
    fn untidy_paths_are_tidied_and_tidy_ones_left() {
        assert_eq!(tidy("/1.0//instances/").as_deref(), Some("/1.0/instances"));
        assert_eq!(tidy("/1.0/instances"), None);
        assert_eq!(tidy("/"), None);
    }
}
