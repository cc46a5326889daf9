//! The server itself, and the collections that are empty here.

use axum::{extract::State, response::Response};
use serde_json::json;
use stapes_core::{command::Command, config::Config, ids::Revision, server::Server as ServerNoun};

use super::{Answer, Api, answer};
use crate::{
    server::{
        change::{Change, merged},
        extensions::API_EXTENSIONS,
        params::Params,
        peer::Caller,
        show,
    },
    wire::server::{Environment, Server, ServerPut, StorageDriver},
};

pub(in crate::server) async fn root() -> Response {
    answer::sync(["/1.0"])
}

pub(in crate::server) async fn get(
    State(api): State<Api>,
    params: Params,
    caller: Caller,
) -> Answer {
    let (config, revision) = api
        .lens(&params)
        .await?
        .look(|world| (world.server.config.clone(), world.tail(ServerNoun::stream()).revision));
    let server = Server {
        config,
        api_extensions: API_EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
        api_status: "stable".to_owned(),
        api_version: "1.0".to_owned(),
        auth: "trusted".to_owned(),
        public: false,
        auth_methods: vec!["tls".to_owned()],
        auth_user_name: caller.name,
        auth_user_method: "unix".to_owned(),
        environment: environment(&api, &params),
    };
    Ok(answer::tagged(server, &show::etag(revision)))
}

fn environment(api: &Api, params: &Params) -> Environment {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let (os_name, os_version) = os_release(&read("/etc/os-release"));
    let drivers = api.facts.storage_drivers.iter().map(|(name, version)| StorageDriver {
        name: name.clone(),
        version: version.clone(),
        remote: false,
    });
    let in_use = api.look(|world| {
        let mut names: Vec<_> = world.pools.values().map(|pool| pool.driver.clone()).collect();
        names.sort();
        names.dedup();
        names
    });
    let versions = in_use.iter().filter_map(|name| {
        let mut known = api.facts.storage_drivers.iter();
        known.find(|(driver, _)| driver == name).map(|(_, version)| version.clone())
    });
    let mut architectures = vec![std::env::consts::ARCH.to_owned()];
    if std::env::consts::ARCH == "x86_64" {
        architectures.push("i686".to_owned());
    }
    Environment {
        architectures,
        driver: "lxc".to_owned(),
        driver_version: api.facts.version.clone(),
        firewall: api.facts.firewall.clone(),
        kernel: "Linux".to_owned(),
        kernel_architecture: std::env::consts::ARCH.to_owned(),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        os_name,
        os_version,
        project: params.project(),
        server: "incus".to_owned(),
        server_clustered: api.health().is_some(),
        server_event_mode: "full-mesh".to_owned(),
        server_name: api.server_name(),
        server_pid: std::process::id(),
        server_version: api.facts.version.clone(),
        storage_version: versions.collect::<Vec<_>>().join(" | "),
        storage: in_use.join(" | "),
        storage_supported_drivers: drivers.collect(),
        ..Environment::default()
    }
}

impl Api {
    /// As the log has it, where it does: members are renamed.
    pub(in crate::server) fn server_name(&self) -> String {
        let here = self.here();
        let named = self.look(|world| Some(world.nodes.get(&here?)?.name.clone()));
        named.unwrap_or_else(|| self.facts.server_name.clone())
    }
}

fn os_release(text: &str) -> (String, String) {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    (value("NAME"), value("VERSION_ID"))
}

pub(in crate::server) async fn put(
    State(api): State<Api>,
    Change { wanted: put, caller, expected }: Change<ServerPut>,
) -> Answer {
    configure(&api, caller, expected, |_| put.config).await
}

pub(in crate::server) async fn patch(
    State(api): State<Api>,
    Change { wanted: put, caller, expected }: Change<ServerPut>,
) -> Answer {
    configure(&api, caller, expected, |config| merged(&config, put.config)).await
}

async fn configure(
    api: &Api,
    caller: Caller,
    expected: Option<Revision>,
    change: impl FnOnce(Config) -> Config,
) -> Answer {
    let (config, actual) =
        api.look(|world| (world.server.config.clone(), world.tail(ServerNoun::stream()).revision));
    if let Some(wanted) = expected.filter(|expected| *expected != actual) {
        let (wanted, actual) = (wanted.0, actual.0);
        return Err(stapes_core::rejection::Rejection::Stale { wanted, actual }.into());
    }
    api.submit(Command::ConfigureServer { config: change(config) }, &caller).await?;
    Ok(answer::done())
}

/// A collection that has nothing in it here.
pub(in crate::server) async fn nothing() -> Response {
    answer::sync(json!([]))
}

/// Whoever may open the socket is trusted; there are no client certificates to list.
pub(in crate::server) async fn certificates() -> Response {
    answer::sync(json!([]))
}

pub(in crate::server) async fn warnings() -> Response {
    answer::sync(json!([]))
}

/// Which keys of configuration there are. What is not here is refused when it is set.
pub(in crate::server) async fn configuration() -> Response {
    let scopes = [
        ("server", stapes_core::config::Scope::Server),
        ("instance", stapes_core::config::Scope::Instance),
        ("project", stapes_core::config::Scope::Project),
        ("network_bridge", stapes_core::config::Scope::Network),
        ("storage_pool", stapes_core::config::Scope::Pool),
        ("storage_volume", stapes_core::config::Scope::Volume),
    ];
    let configs = scopes.into_iter().map(|(name, scope)| {
        let keys = stapes_core::config::known(scope)
            .map(|(key, kind)| json!({ key: {"type": kind, "longdesc": "", "shortdesc": ""} }));
        (name.to_owned(), json!({"common": {"keys": keys.collect::<Vec<_>>()}}))
    });
    answer::sync(json!({"configs": configs.collect::<serde_json::Map<_, _>>()}))
}
