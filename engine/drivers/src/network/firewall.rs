//! Keeps the kernel's packet filter as the plan asks, from a task of its own.
//!
//! Whoever changes the plan calls [`Firewall::ask`] and goes on. What is asked for while a change is
//! made is done by the next one, together. [`Firewall::settled`] waits for it. Guests that come and
//! go change [`Elements`] alone; `nft` makes whole rules.
//!
//! It also keeps the plan's file up to date, and ends the time of what was inherited through it.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use stapes_core::port::{DriverError, network::Plan};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    elements::Elements,
    plans::{self, Plans},
    rules::Rules,
};

/// Tries before a failure is told to whoever waits. The next change of the plan tries again.
const ATTEMPTS: u32 = 3;
const PAUSE_BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
/// nft takes milliseconds; one that hangs must not hang everything.
const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// A daemon that starts is told everything within this; what is not spoken of by then is gone.
const INHERITANCE: Duration = Duration::from_secs(60);
/// The plan's file may be that much behind.
const SAVE_AFTER: Duration = Duration::from_secs(1);
/// The plan for the process after this one.
pub(super) const PLAN_FILE: &str = "plan.json";
/// Where rules are left that nft refused.
const REFUSED_RULES: &str = "refused.nft";

/// Counts requests. What request `n` saw of the plan is in force when `done.request >= n`.
#[derive(Clone, Debug)]
struct Done {
    request: u64,
    outcome: Result<(), DriverError>,
}

#[derive(Debug)]
pub(super) struct Firewall {
    asked: watch::Sender<u64>,
    done: watch::Receiver<Done>,
    task: tokio::task::JoinHandle<()>,
}

impl Firewall {
    /// Keeps its files in `state_dir`.
    pub(super) fn start(
        table: String,
        plans: Arc<Plans>,
        state_dir: PathBuf,
    ) -> std::io::Result<Self> {
        let (asked, requests) = watch::channel(0);
        let (finished, done) = watch::channel(Done { request: 0, outcome: Ok(()) });
        let plan = plans.in_force();
        let elements = Elements::open()?;
        let keeper = Keeper { table, plans, plan, state_dir, elements, in_force: None };
        let task = tokio::spawn(keeper.run(requests, finished));
        Ok(Self { asked, done, task })
    }

    /// Has the plan looked at again soon.
    pub(super) fn ask(&self) {
        self.asked.send_modify(|request| *request += 1);
    }

    /// Waits until everything asked for before is in force, or says why it is not.
    pub(super) async fn settled(&self) -> Result<(), DriverError> {
        let request = *self.asked.borrow();
        let mut done = self.done.clone();
        let stopped = |_| DriverError::Failed("the firewall's task has stopped".into());
        let outcome = {
            let done = done.wait_for(|done| done.request >= request).await.map_err(stopped)?;
            done.outcome.clone()
        };
        if outcome.is_err() {
            // Whoever waits for it next gets another try, not this answer again.
            self.ask();
        }
        outcome
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    table: String,
    plans: Arc<Plans>,
    plan: Arc<RwLock<Plan>>,
    state_dir: PathBuf,
    elements: Elements,
    /// What this process has put in force; `None` when it does not know.
    in_force: Option<Rules>,
}

impl Keeper {
    async fn run(mut self, mut requests: watch::Receiver<u64>, finished: watch::Sender<Done>) {
        let mut forget_at = Some(Instant::now() + INHERITANCE);
        let mut save_at = None;
        loop {
            tokio::select! {
                changed = requests.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let request = *requests.borrow_and_update();
                    let outcome = self.apply().await;
                    save_at = save_at.or_else(|| Some(Instant::now() + SAVE_AFTER));
                    finished.send_replace(Done { request, outcome });
                }
                () = at(forget_at) => {
                    forget_at = None;
                    if self.plans.forget_inherited() {
                        self.apply().await.ok();
                        save_at = Some(Instant::now());
                    }
                }
                () = at(save_at) => {
                    save_at = None;
                    self.save();
                }
            }
        }
    }

    fn save(&self) {
        let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = plans::save(&self.state_dir.join(PLAN_FILE), &plan) {
            tracing::warn!(%error, "the plan of the networks could not be kept for a restart");
        }
    }

    async fn apply(&mut self) -> Result<(), DriverError> {
        let wanted = {
            let plan = self.plan.read().unwrap_or_else(PoisonError::into_inner);
            Rules::of(&self.table, &plan)
        };
        if self.in_force.as_ref() == Some(&wanted) {
            return Ok(());
        }
        // Element changes build on what is there. If that is not what we think, replacing all is
        // the way back.
        if let Some(old) = self.in_force.take()
            && let Some(edits) = wanted.changing(&old)
        {
            match self.elements.change(wanted.table(), &edits) {
                Ok(()) => {
                    self.in_force = Some(wanted);
                    return Ok(());
                }
                Err(error) => tracing::info!(%error, "elements are not changed, but all rules"),
            }
        }
        let script = wanted.replacing();
        let mut attempt = 1;
        loop {
            match run_nft(&script).await {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => {
                    let error = self.give_up(&script, &error);
                    tracing::error!(%error, "the packet filter does not follow the plan");
                    return Err(error);
                }
                Err(error) => tracing::warn!(%error, attempt, "nft failed, trying again"),
            }
            attempt += 1;
            tokio::time::sleep(PAUSE_BETWEEN_ATTEMPTS).await;
        }
        self.in_force = Some(wanted);
        Ok(())
    }

    fn give_up(&self, script: &str, error: &str) -> DriverError {
        let refused = self.state_dir.join(REFUSED_RULES);
        let kept = std::fs::write(&refused, script)
            .map(|()| format!("; the rules are in {}", refused.display()))
            .unwrap_or_default();
        DriverError::Failed(format!(
            "the packet filter could not be set, the one before stays in force: {error}{kept}"
        ))
    }
}

/// Waits until then, or for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Runs one transaction.
pub(super) async fn run_nft(script: &str) -> Result<(), String> {
    nft(&["-f", "-"], script).await.map(drop)
}

/// Runs nft with `script` on its standard input and gives its standard output.
pub(super) async fn nft(arguments: &[&str], script: &str) -> Result<String, String> {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("nft cannot be run ({error}); install the package nftables"))?;
    let mut stdin = child.stdin.take().ok_or("nft has no standard input")?;
    let talk = async {
        // A script that is refused early closes the pipe: what nft says then tells more.
        stdin.write_all(script.as_bytes()).await.ok();
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(NFT_TIMEOUT, talk)
        .await
        .map_err(|_| format!("nft did not finish within {} s", NFT_TIMEOUT.as_secs()))?
        .map_err(|error| format!("nft: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().take(3).collect::<Vec<_>>().join(" ");
    Err(format!("nft: {} ({})", first.trim(), output.status))
}
