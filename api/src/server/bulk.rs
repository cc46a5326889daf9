//! Many commands under one operation: `PUT /1.0/instances`.
//!
//! Each command is an operation of its own on the log; the one that the client waits for only
//! stands for them all and lives in this process, like the wait itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use serde_json::json;
use stapes_core::{
    command::Command,
    ids::OperationId,
    operation::{Operation, Status},
};

use super::{Api, hub::Sent, peer::Caller, show};
use crate::wire::{self, StatusCode, Time, operation::Operation as Shown};

/// Commands under way at the same time.
const AT_ONCE: usize = 32;
/// How long the outcome can still be asked for.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Those under way, and those that ended a moment ago.
#[derive(Debug, Default)]
pub(super) struct Bulks(Mutex<BTreeMap<OperationId, tokio::sync::watch::Receiver<Shown>>>);

impl Bulks {
    pub(super) fn get(&self, id: OperationId) -> Option<tokio::sync::watch::Receiver<Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        let bulks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bulks.values().map(|bulk| bulk.borrow().clone()).collect()
    }

    /// Shows `shown` until `work` ended, and how it ended for a while after.
    pub(super) fn run(
        &self,
        api: &Api,
        id: OperationId,
        shown: Shown,
        work: impl Future<Output = Vec<String>> + Send + 'static,
    ) {
        let (sender, receiver) = tokio::sync::watch::channel(shown);
        self.lock().insert(id, receiver);
        let api = api.clone();
        tokio::spawn(async move {
            let failures = work.await;
            let ended = ended(sender.borrow().clone(), &failures);
            sender.send_replace(ended.clone());
            api.hub.send(sent(&ended));
            tokio::time::sleep(KEPT_FOR).await;
            api.bulks.lock().remove(&id);
        });
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<OperationId, tokio::sync::watch::Receiver<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One operation for many commands.
pub(super) struct Bulk;

impl Bulk {
    pub(super) async fn begin(
        api: &Api,
        caller: &Caller,
        action: &str,
        commands: Vec<Command>,
    ) -> Shown {
        let id = OperationId(uuid::Uuid::new_v4());
        let now = Time(chrono::Utc::now());
        let shown = Shown {
            id: id.to_string(),
            class: "task".to_owned(),
            description: format!("Changing the state of {} instances ({action})", commands.len()),
            created_at: now,
            updated_at: now,
            status: StatusCode::RUNNING.name().to_owned(),
            status_code: StatusCode::RUNNING,
            location: show::NO_MEMBER.to_owned(),
            ..Shown::default()
        };
        let (own, caller) = (api.clone(), caller.clone());
        api.bulks.run(api, id, shown.clone(), async move { run(&own, &caller, commands).await });
        shown
    }
}

/// Why those failed that did.
async fn run(api: &Api, caller: &Caller, commands: Vec<Command>) -> Vec<String> {
    let one = |command| async move {
        let accepted = api.submit(command, caller).await.map_err(|fault| fault.text)?;
        match api.wait_for(accepted.operation, None).await {
            Some(Operation { status: Status::Failed(error), .. }) => Err(error),
            Some(_) | None => Ok(()),
        }
    };
    let results = futures::stream::iter(commands).map(one).buffer_unordered(AT_ONCE);
    results.filter_map(|result| std::future::ready(result.err())).collect().await
}

fn ended(running: Shown, failures: &[String]) -> Shown {
    let code = if failures.is_empty() { StatusCode::SUCCESS } else { StatusCode::FAILURE };
    Shown {
        status: code.name().to_owned(),
        status_code: code,
        updated_at: Time(chrono::Utc::now()),
        err: failures.join("; "),
        ..running
    }
}

/// The end, for whoever waits for it on the events socket.
fn sent(shown: &Shown) -> Sent {
    let event = wire::event::Event {
        kind: "operation".to_owned(),
        timestamp: shown.updated_at,
        metadata: json!(shown),
        location: show::NO_MEMBER.to_owned(),
        ..wire::event::Event::default()
    };
    let text: Arc<str> = serde_json::to_string(&event).unwrap_or_default().into();
    Sent { kind: "operation", project: None, text }
}
