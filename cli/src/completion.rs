//! What the shell completes: verbs and flags from clap, names from the daemon if it answers soon.

use std::{ffi::OsStr, time::Duration};

use clap_complete::engine::CompletionCandidate;
use stapes_api::client::Client;

use crate::{
    commands::object::last_segment,
    session::COURTESY,
    settings::{Flags, Settings},
};

pub(crate) fn instances(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/instances")
}

pub(crate) fn profiles(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/profiles")
}

pub(crate) fn networks(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/networks")
}

pub(crate) fn pools(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/storage-pools")
}

pub(crate) fn members(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/cluster/members")
}

pub(crate) fn images(typed: &OsStr) -> Vec<CompletionCandidate> {
    names(typed, "/1.0/images/aliases")
}

fn names(typed: &OsStr, list: &str) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    // A daemon that is away or slow completes nothing; a Tab is no place for errors.
    ask(list, COURTESY)
        .unwrap_or_default()
        .iter()
        .map(|url| last_segment(url).to_owned())
        .filter(|name| name.starts_with(typed))
        .map(CompletionCandidate::new)
        .collect()
}

fn ask(list: &str, patience: Duration) -> Option<Vec<String>> {
    let settings = Settings::resolve(Flags::default(), |name| std::env::var(name).ok()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let client = Client::unix(settings.socket()).project(&settings.project);
        tokio::time::timeout(patience, client.get::<Vec<String>>(list)).await.ok()?.ok()
    })
}
