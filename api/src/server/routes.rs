//! Which path is whose.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, Method},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post, put},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{Api, forward, guard, handle::*};

/// Since when answers may be old: the log is not heard.
const STALE: &str = "x-stapes-stale";
/// Bytes of a body, unless it is an image or a file.
const BODY_MAX: usize = 1 << 20;

pub(super) fn router(api: Api) -> Router {
    let one = Router::new()
        .merge(server())
        .merge(clustered())
        .merge(instances())
        .merge(images())
        .merge(profiles_and_projects())
        .merge(networks())
        .merge(storage())
        .merge(operations());
    Router::new()
        .route("/", get(server::root))
        .route("/1.0", get(server::get).put(server::put).patch(server::patch))
        .route("/internal/ready", get(internal::ready))
        .route("/internal/shutdown", put(internal::shutdown))
        .route("/internal/join", post(cluster::admit))
        .nest("/1.0", one)
        .fallback(guard::unknown_path)
        .method_not_allowed_fallback(guard::unknown_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), forward::elsewhere))
        .layer(middleware::from_fn_with_state(api.clone(), sequence))
        .layer(middleware::from_fn(guard::every_request))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .with_state(api)
}

/// Every answer says the sequence that it is true at, or newer than.
async fn sequence(State(api): State<Api>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let before = api.look(|world| world.sequence);
    let mut response = next.run(request).await;
    let at = if reads { before } else { api.look(|world| world.sequence) };
    let headers = response.headers_mut();
    headers.entry("x-stapes-sequence").or_insert_with(|| HeaderValue::from(at.0));
    // Nobody can say what happened elsewhere since then.
    if let Some(lost) = api.health().and_then(|health| health.lost)
        && let Ok(since) = HeaderValue::from_str(&lost.since.to_rfc3339())
    {
        headers.entry(STALE).or_insert(since);
    }
    response
}

fn server() -> Router<Api> {
    Router::new()
        .route("/resources", get(resources::get))
        .route("/metrics", get(metrics::get))
        .route("/metadata/configuration", get(server::configuration))
        .route("/certificates", get(server::certificates))
        .route("/warnings", get(server::warnings))
        .route("/events", get(events::get))
        .route("/log", get(log::get))
        .route("/replay", post(log::replay))
}

fn clustered() -> Router<Api> {
    Router::new()
        .route("/cluster", get(cluster::get).put(cluster::put))
        .route("/cluster/certificate", put(cluster::certificate))
        .route("/cluster/members", get(members::list).post(members::create))
        .route(
            "/cluster/members/{name}",
            get(members::get)
                .put(members::put)
                .patch(members::patch)
                .post(members::rename)
                .delete(members::delete),
        )
        .route("/cluster/members/{name}/state", get(members::state).post(members::act))
        .route("/cluster/groups", get(groups::list).post(groups::create))
        .route(
            "/cluster/groups/{name}",
            get(groups::get)
                .put(groups::put)
                .patch(groups::patch)
                .post(groups::rename)
                .delete(groups::delete),
        )
}

fn instances() -> Router<Api> {
    Router::new()
        .route("/instances", get(instances::list).post(create::post).put(state::put_all))
        .route(
            "/instances/{name}",
            get(instances::get)
                .put(instances::put)
                .patch(instances::patch)
                .post(instances::post)
                .delete(instances::delete),
        )
        .route("/instances/{name}/state", get(state::get).put(state::put))
        .route("/instances/{name}/rebuild", post(create::rebuild))
        .route("/instances/{name}/exec", post(exec::post))
        .route(
            "/instances/{name}/console",
            get(console::log).post(console::post).delete(console::clear),
        )
        .route("/instances/{name}/history", get(log::history))
        .route("/instances/{name}/metadata", get(instances::metadata))
        .route("/instances/{name}/backups", get(instances::backups))
        .route("/instances/{name}/logs", get(logs::list))
        .route("/instances/{name}/logs/{file}", get(logs::get).delete(logs::delete))
        .route("/instances/{name}/logs/exec-output", get(logs::list_outputs))
        .route(
            "/instances/{name}/logs/exec-output/{file}",
            get(logs::get_output).delete(logs::delete_output),
        )
        .route("/instances/{name}/snapshots", get(snapshots::list).post(snapshots::create))
        .route(
            "/instances/{name}/snapshots/{snapshot}",
            get(snapshots::get)
                .put(snapshots::put)
                .patch(snapshots::put)
                .post(snapshots::rename)
                .delete(snapshots::delete),
        )
        .route(
            "/instances/{name}/files",
            get(instances::files).post(instances::files).delete(instances::files),
        )
        .route("/instances/{name}/sftp", get(instances::files))
}

fn images() -> Router<Api> {
    Router::new()
        .route("/images", get(images::list).post(upload::post).layer(DefaultBodyLimit::disable()))
        .route("/images/aliases", get(aliases::list).post(aliases::create))
        .route(
            "/images/aliases/{*name}",
            get(aliases::get)
                .put(aliases::put)
                .patch(aliases::put)
                .post(aliases::rename)
                .delete(aliases::delete),
        )
        .route(
            "/images/{image}",
            get(images::get).put(images::put).patch(images::patch).delete(images::delete),
        )
        .route("/images/{image}/export", get(export::get))
}

fn profiles_and_projects() -> Router<Api> {
    Router::new()
        .route("/profiles", get(profiles::list).post(profiles::create))
        .route(
            "/profiles/{name}",
            get(profiles::get)
                .put(profiles::put)
                .patch(profiles::patch)
                .post(profiles::rename)
                .delete(profiles::delete),
        )
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{name}",
            get(projects::get)
                .put(projects::put)
                .patch(projects::patch)
                .post(projects::rename)
                .delete(projects::delete),
        )
        .route("/projects/{name}/state", get(projects::state))
}

fn networks() -> Router<Api> {
    Router::new()
        .route("/networks", get(networks::list).post(networks::create))
        .route(
            "/networks/{name}",
            get(networks::get)
                .put(networks::put)
                .patch(networks::patch)
                .post(networks::rename)
                .delete(networks::delete),
        )
        .route("/networks/{name}/state", get(networks::state))
        .route("/networks/{name}/leases", get(networks::leases))
        .route("/network-acls", get(server::nothing))
}

fn storage() -> Router<Api> {
    Router::new()
        .route("/storage-pools", get(pools::list).post(pools::create))
        .route(
            "/storage-pools/{pool}",
            get(pools::get).put(pools::put).patch(pools::patch).delete(pools::delete),
        )
        .route("/storage-pools/{pool}/resources", get(pools::resources))
        .route("/storage-pools/{pool}/buckets", get(server::nothing))
        .route("/storage-pools/{pool}/volumes", get(volumes::list_all).post(volumes::create))
        .route(
            "/storage-pools/{pool}/volumes/{kind}",
            get(volumes::list).post(volumes::create_of_kind),
        )
        .route(
            "/storage-pools/{pool}/volumes/{kind}/{name}",
            get(volumes::get)
                .put(volumes::put)
                .patch(volumes::patch)
                .post(volumes::rename)
                .delete(volumes::delete),
        )
        .route("/storage-pools/{pool}/volumes/{kind}/{name}/snapshots", any(volumes::snapshots))
        .route(
            "/storage-pools/{pool}/volumes/{kind}/{name}/snapshots/{snapshot}",
            any(volumes::snapshots),
        )
}

fn operations() -> Router<Api> {
    Router::new()
        .route("/operations", get(operations::list))
        .route("/operations/{id}", get(operations::get).delete(operations::cancel))
        .route("/operations/{id}/wait", get(operations::wait))
        .route("/operations/{id}/websocket", get(operations::websocket))
}
