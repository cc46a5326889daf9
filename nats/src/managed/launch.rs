//! Starting a server, whatever state its directory is in.
//!
//! ```text
//!            runs already ─► take it over
//!  began?    alone ─► beside a companion        others ─► start, wait for them
//!  not yet:  Found ─► found a cluster of one    Join ─► only when one of the others answers
//! ```
//!
//! A store counts from the moment `began` is written: what a founding or a join that was interrupted
//! left is thrown away, for nothing can have been appended to it.

use std::{path::Path, process::Stdio, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;
use uuid::Uuid;

use super::{
    Beginning, ManagedConfig, ManagedError, Role,
    ask::{self, System},
    companion::{self, Companion},
    config::{Keys, render},
    paths::{Paths, find, remove_dir, remove_file, write},
    process::{Process, end_recorded, last_words, mark},
    version,
};

/// How long a server may take to be ready: an election, and reading its store.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one that is taken over may take to answer before it is started anew.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A server that is ready, and how to speak to it.
#[derive(Debug)]
pub(super) struct Running {
    pub process: Process,
    pub system: System,
}

enum Stage {
    Found,
    Join,
    Alone,
    Again,
}

/// Takes over the server that runs, or starts one; returns when it is ready.
pub(super) async fn launch(config: &ManagedConfig, paths: &Paths) -> Result<Running, ManagedError> {
    version::check(&config.binary).await?;
    paths.create()?;
    let keys = Keys::ensure(paths)?;
    let text = render(config, paths, &keys)?;
    let stage = stage(config, paths)?;
    companion::end_leftover(paths).await?;
    if let Stage::Alone | Stage::Again = stage
        && let Some(running) = take_over(config, paths, &text).await?
    {
        return Ok(running);
    }
    end_recorded(&paths.record).await?;
    if let Stage::Join = stage {
        ask::somebody_there(config).await?;
    }
    if let Stage::Found | Stage::Join = stage {
        remove_dir(&paths.store)?;
    }
    put(config, paths, &text).await?;
    start(config, paths, &stage).await
}

/// Checks a configuration with the server itself, then puts it in the place of the old one.
pub(super) async fn put(
    config: &ManagedConfig,
    paths: &Paths,
    text: &str,
) -> Result<(), ManagedError> {
    let fresh = paths.config.with_extension("checked");
    write(&fresh, text)?;
    let output = Command::new(&config.binary)
        .args(["-t", "-c"])
        .arg(&fresh)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| ManagedError::NoBinary { binary: config.binary.clone(), source })?;
    remove_file(&fresh)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(ManagedError::Refused(said.trim().to_owned()));
    }
    write(&paths.config, text)
}

fn stage(config: &ManagedConfig, paths: &Paths) -> Result<Stage, ManagedError> {
    if let Some(began) = find(&paths.began)? {
        let found = Uuid::parse_str(began.trim()).unwrap_or_default();
        if found != config.cluster {
            let (dir, wanted) = (paths.dir.clone(), config.cluster);
            return Err(ManagedError::Foreign { dir, found, wanted });
        }
    }
    let began = find(&paths.began)?.is_some();
    match (config.role, config.beginning, config.peers.is_empty()) {
        (Role::Relay, _, _) => Ok(Stage::Again),
        (Role::Keeper, _, true) if began => Ok(Stage::Alone),
        (Role::Keeper, _, false) if began => Ok(Stage::Again),
        (Role::Keeper, Beginning::Found, true) => Ok(Stage::Found),
        (Role::Keeper, Beginning::Found | Beginning::Join, false) => Ok(Stage::Join),
        (Role::Keeper, Beginning::Join, true) => {
            Err(ManagedError::NothingToJoin(paths.store.clone()))
        }
    }
}

/// The server that an earlier daemon left running, with the configuration of today.
async fn take_over(
    config: &ManagedConfig,
    paths: &Paths,
    text: &str,
) -> Result<Option<Running>, ManagedError> {
    let Some(process) = Process::find(&paths.record)? else { return Ok(None) };
    let pid = process.pid();
    let old = find(&paths.config)?.unwrap_or_default();
    if !reloads(&old, text) {
        process.end(Signal::TERM, ENDS_WITHIN).await?;
        return Ok(None);
    }
    match ask::until_ready(config, paths, ANSWERS_WITHIN).await {
        Ok(system) => {
            if old != text {
                put(config, paths, text).await?;
                system.reload().await?;
            }
            tracing::info!(pid, "goes on with the nats-server that still runs");
            Ok(Some(Running { process, system }))
        }
        // The others are missing, and starting anew would not bring them back.
        Err(error @ ManagedError::NotReady { answers: true, .. }) => Err(error),
        Err(error) => {
            tracing::warn!(pid, %error, "the nats-server that still runs is of no use: starts anew");
            process.end(Signal::TERM, ENDS_WITHIN).await?;
            Ok(None)
        }
    }
}

/// Whether what changed between two configurations is taken by a reload.
pub(super) fn reloads(old: &str, new: &str) -> bool {
    let parse = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (old, new) = (parse(old), parse(new));
    let fixed = ["/server_name", "/listen", "/jetstream", "/cluster/listen", "/cluster/name"];
    fixed.iter().all(|path| old.pointer(path) == new.pointer(path))
}

async fn start(
    config: &ManagedConfig,
    paths: &Paths,
    stage: &Stage,
) -> Result<Running, ManagedError> {
    mark(&paths.log, "started by stapes");
    let mut process = Process::start(&config.binary, &paths.config, &paths.record)?;
    let company = match stage {
        Stage::Found => Some(Companion::start(config, paths, true)?),
        Stage::Alone => Some(Companion::start(config, paths, false)?),
        Stage::Join | Stage::Again => None,
    };
    let ready = tokio::select! {
        ready = ask::until_ready(config, paths, READY_WITHIN) => ready,
        () = process.ended() => Err(ManagedError::Died(last_words(&paths.log))),
    };
    let ready = match (ready, company) {
        (Ok(system), Some(company)) => leave_alone(system, company, stage).await,
        (ready, _) => ready,
    };
    match ready {
        Ok(system) => {
            if config.role == Role::Keeper {
                began(&paths.began, config.cluster)?;
            }
            tracing::info!(pid = process.pid(), "nats-server is ready");
            Ok(Running { process, system })
        }
        // It waits for the others, and they for it.
        Err(error @ ManagedError::NotReady { .. }) if matches!(stage, Stage::Again) => Err(error),
        Err(error) => {
            process.end(Signal::TERM, ENDS_WITHIN).await?;
            companion::end_leftover(paths).await?;
            Err(error)
        }
    }
}

async fn leave_alone(
    system: System,
    company: Companion,
    stage: &Stage,
) -> Result<System, ManagedError> {
    if let Stage::Found = stage {
        company.vote_out(&system).await?;
    }
    company.end().await?;
    Ok(system)
}

fn began(path: &Path, cluster: Uuid) -> Result<(), ManagedError> {
    match find(path)? {
        Some(_) => Ok(()),
        None => write(path, &cluster.to_string()),
    }
}
