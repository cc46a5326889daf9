//! `enable` and `join`: the daemon becomes a member, and starts anew as one.

use std::{path::PathBuf, time::Duration};

use serde_json::json;
use stapes_api::{
    client::Method,
    wire::{cluster::ClusterPut, server::Server},
};
use tokio::time::Instant;

use crate::{
    args::cluster::{EnableArgs, JoinArgs},
    exit::ExitStatus,
    failure::{Failure, Result},
    input,
    operation::submit,
    output::progress::Progress,
    session::Session,
};

/// How long the daemon may take to be back as a member: it reads the whole log.
const BACK_WITHIN: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn enable(session: &Session, args: EnableArgs) -> Result<ExitStatus> {
    let managed = args.nats.iter().any(|server| server == "managed");
    if managed && args.nats.len() > 1 {
        return Err(Failure::usage("--nats is `managed` or URLs, not both"));
    }
    let text = |file: Option<PathBuf>| match file {
        None => Ok(String::new()),
        Some(path) => std::fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display()))),
    };
    let (authority, certificate) = (text(args.nats_ca)?, text(args.nats_cert)?);
    let (key, credentials) = (text(args.nats_key)?, text(args.nats_creds)?);
    let given = [&authority, &certificate, &key, &credentials];
    if managed && given.iter().any(|text| !text.is_empty()) {
        return Err(Failure::usage("--nats-ca and the like are for the servers of --nats URL"));
    }
    let put = ClusterPut {
        log_authority: authority,
        log_certificate: certificate,
        log_key: key,
        log_credentials: credentials,
        server_name: args.name.clone(),
        enabled: true,
        server_address: args.address.unwrap_or_default(),
        log_servers: if managed { Vec::new() } else { args.nats },
        ..ClusterPut::default()
    };
    become_member(session, &put, &format!("making {} the first member", args.name)).await?;
    session.printer.say(&format!("{} is the first member of a cluster", args.name));
    session.printer.hint("stapes cluster add NAME    (a token for the next one)");
    Ok(ExitStatus::Done)
}

pub(crate) async fn join(session: &Session, args: JoinArgs) -> Result<ExitStatus> {
    let token = if args.token == "-" { input::stdin_text()? } else { args.token };
    let put = ClusterPut {
        enabled: true,
        cluster_token: token.split_whitespace().collect(),
        server_address: args.address.unwrap_or_default(),
        ..ClusterPut::default()
    };
    become_member(session, &put, "joining the cluster").await?;
    let server: Server = session.get("/1.0").await?;
    let name = server.environment.server_name;
    session.printer.say(&format!("{name} is a member of the cluster"));
    session.printer.hint("stapes cluster list");
    Ok(ExitStatus::Done)
}

async fn become_member(session: &Session, put: &ClusterPut, what: &str) -> Result<()> {
    submit(session, Method::PUT, "/1.0/cluster", &json!(put), what).await?;
    let _progress = Progress::spinner(session.printer, "the daemon starts anew as a member");
    let until = Instant::now() + BACK_WITHIN;
    while Instant::now() < until {
        let asked = session.client.get::<Server>("/1.0").await;
        if asked.is_ok_and(|server| server.environment.server_clustered) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Failure::new(ExitStatus::TimedOut, "timed-out", "the daemon is not back as a member")
        .hint("see the daemon's own log, then: stapes cluster status"))
}
