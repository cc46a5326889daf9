//! Reports into facts: a node's answer is a command like any other, under an id that follows from
//! its task, so that repeating it changes nothing.

use std::collections::BTreeSet;

use async_trait::async_trait;
use stapes_core::{
    agent::is_wanted,
    command::Command,
    decision::Context,
    ids::{CommitId, InstanceId, NodeId, OperationId},
    port::{
        guest::{ExitCause, Exited, Running},
        report::{ReportError, Reports},
    },
    record::{Actor, Protocol},
    task::{Observation, Outcome, Report, Task},
};

use crate::control::{Control, SubmitError, now};

/// Where one node's reports go.
#[derive(Clone, Debug)]
pub struct NodeReports {
    control: Control,
    node: NodeId,
    /// The node's name, for the timeline.
    actor: Actor,
    /// Its host started anew since the log heard of it last.
    rebooted: bool,
}

impl Control {
    /// Where the reports of `node` go.
    #[must_use]
    pub fn reports_of(&self, node: NodeId, name: &str) -> NodeReports {
        let actor = Actor { protocol: Protocol::Node, name: name.to_owned() };
        NodeReports { control: self.clone(), node, actor, rebooted: false }
    }
}

impl NodeReports {
    /// Of a host that was, or was not, started anew since the log heard of the node last: then what
    /// ran on it is known to have ended, even if the host's disk tells nothing of it.
    #[must_use]
    pub fn after_reboot(self, rebooted: bool) -> Self {
        Self { rebooted, ..self }
    }

    async fn decide(
        &self,
        command: Command,
        parts: &[&str],
        context: Causes,
    ) -> Result<(), ReportError> {
        let commit = CommitId::derive(parts);
        let operation =
            context.operation.unwrap_or_else(|| OperationId::derive(&[&commit.to_string()]));
        let actor = self.actor.clone();
        let context = Context {
            commit,
            operation,
            time: now(),
            actor,
            reason: None,
            caused_by: context.task.map(Into::into),
        };
        // The node may be ahead: a report must not be judged by a world without its task.
        let submitted = match self.control.catch_up().await {
            Ok(()) => self.control.submit_in(command, context).await,
            Err(error) => Err(error),
        };
        match submitted {
            Ok(_) => Ok(()),
            Err(SubmitError::Rejected(rejection)) => {
                Err(ReportError::Refused(rejection.to_string()))
            }
            Err(error) => Err(ReportError::Unavailable(error.to_string())),
        }
    }

    async fn observe_exit(&self, exited: Exited) -> Result<(), ReportError> {
        let (instance, at) =
            (exited.instance.to_string(), exited.at.timestamp_micros().to_string());
        self.decide(Command::ObserveExit(exited), &["exit", &instance, &at], Causes::default())
            .await
    }

    async fn observe_overheld(&self, held: Running) -> Result<(), ReportError> {
        // What was too early to act on is told again, so the id must be new as well.
        let (instance, look) = (held.instance.to_string(), uuid::Uuid::now_v7().to_string());
        let command = Command::ObserveOverheld { node: self.node, held };
        self.decide(command, &["overheld", &instance, &look], Causes::default()).await
    }

    /// Every instance that the log has on this node is compared with what the node found, and every
    /// guest that runs here with where the log has it.
    async fn observe_adopted(
        &self,
        running: &[Running],
        exited: &[Exited],
    ) -> Result<(), ReportError> {
        let mut known: BTreeSet<InstanceId> = {
            let world = self.control.world();
            let here = world.instances.values().filter(|instance| instance.node == self.node);
            here.map(|instance| instance.id).collect()
        };
        known.extend(running.iter().map(|running| running.instance));
        let node = self.node;
        // Each start of the daemon looks anew, so the id must be new as well.
        let look = uuid::Uuid::now_v7().to_string();
        for instance in known {
            let running = running.iter().find(|running| running.instance == instance).copied();
            let exited = exited
                .iter()
                .filter(|exited| exited.instance == instance)
                .max_by_key(|exited| exited.at);
            let exited = exited.copied().or_else(|| self.ended_with_host(instance));
            let command = Command::ObserveAdopted { node, instance, running, exited };
            self.decide(command, &["adopted", &look, &instance.to_string()], Causes::default())
                .await?;
        }
        Ok(())
    }

    fn ended_with_host(&self, instance: InstanceId) -> Option<Exited> {
        let world = self.control.world();
        let known = world.instances.get(&instance).filter(|_| self.rebooted)?;
        let cause = ExitCause::HostReboot;
        Some(Exited { instance, incarnation: known.guest, cause, at: now() })
    }
}

/// What led to a report.
#[derive(Default)]
struct Causes {
    operation: Option<OperationId>,
    task: Option<stapes_core::ids::TaskId>,
}

#[async_trait]
impl Reports for NodeReports {
    async fn report(&self, report: Report) -> Result<(), ReportError> {
        let causes = Causes { operation: Some(report.operation), task: Some(report.task) };
        let task = report.task.to_string();
        // A task that failed may be repeated and succeed: that is another answer.
        let kind = match report.outcome {
            Outcome::Failed(_) => "failed",
            Outcome::Done
            | Outcome::Started(_)
            | Outcome::Stopped { .. }
            | Outcome::Assessed(_)
            | Outcome::Received { .. }
            | Outcome::Checkpointed { .. }
            | Outcome::Restored { .. } => "done",
        };
        self.decide(Command::Report(Box::new(report)), &["report", &task, kind], causes).await
    }

    async fn observe(&self, observation: Observation) -> Result<(), ReportError> {
        match observation {
            Observation::Exited(exited) => self.observe_exit(exited).await,
            Observation::Adopted { running, exited } => {
                self.observe_adopted(&running, &exited).await
            }
            Observation::Overheld(held) => self.observe_overheld(held).await,
        }
    }

    async fn is_wanted(&self, task: &Task) -> Result<bool, ReportError> {
        // Who is alone has heard all there is: nobody else decides what runs elsewhere.
        if self.control.world().nodes.len() > 1 {
            let read = self.control.catch_up().await;
            read.map_err(|error| ReportError::Unavailable(error.to_string()))?;
        }
        Ok(is_wanted(&self.control.world(), task))
    }
}
