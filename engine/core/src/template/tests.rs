//! What an instance owes its image's templates, from decision to decision.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{TemplateContext, Trigger};
use crate::{
    command::{Command, decide},
    decision::Context,
    furniture::{config, furnished, instance, network, pool, target},
    ids::{CommitId, OperationId},
    instance::{Create, Source},
    port::guest::{ExitCause, Running},
    record::Actor,
    task::{Failure, FailureKind, Outcome, Subject, Task, Work},
    world::World,
};

/// A world in which every task succeeds at once, but a start when it is told to fail.
#[derive(Default)]
struct Node {
    world: World,
    commits: u128,
    starts_fail: bool,
    /// Of the last start.
    told: Option<TemplateContext>,
}

impl Node {
    fn founded() -> Self {
        let mut node = Self::default();
        for command in furnished("one", pool("dir", &[]), network(&[])) {
            node.does(&command);
        }
        node
    }

    fn does(&mut self, command: &Command) {
        self.commits += 1;
        let id = Uuid::from_u128(self.commits);
        let context = Context {
            commit: CommitId(id),
            operation: OperationId(id),
            time: now(),
            actor: Actor::system(),
            reason: None,
            caused_by: None,
        };
        let decision = decide(&self.world, &context, command).unwrap();
        for (stream, events) in &decision.events {
            events.iter().for_each(|event| self.world.evolve(*stream, event, now()));
        }
        for task in decision.tasks {
            let outcome = self.perform(&task);
            self.does(&Command::Report(Box::new(task.report(outcome))));
        }
    }

    fn perform(&mut self, task: &Task) -> Outcome {
        match (&task.work, &task.subject) {
            (Work::Start { spec, .. }, Subject::Instance(instance)) => {
                self.told.clone_from(&spec.template);
                if self.starts_fail {
                    let (kind, message) = (FailureKind::Failed, "no".to_owned());
                    return Outcome::Failed(Failure { kind, message });
                }
                let (instance, incarnation) = (*instance, task.incarnation);
                Outcome::Started(Running {
                    instance,
                    incarnation,
                    pid: 1,
                    started_at: now(),
                    frozen: false,
                    held: None,
                })
            }
            (Work::Stop { .. }, _) => Outcome::Stopped { cause: ExitCause::Forced, at: now() },
            _ => Outcome::Done,
        }
    }

    fn start(&mut self, name: &str) -> Option<Trigger> {
        self.does(&Command::StartInstance { target: target(name) });
        self.told.as_ref().and_then(|told| told.due)
    }

    fn stop(&mut self, name: &str) {
        let timeout = std::time::Duration::ZERO;
        self.does(&Command::StopInstance { target: target(name), force: true, timeout });
    }

    fn create(&mut self, name: &str, source: Source) {
        let config = config(&[
            ("user.colour", "green"),
            ("environment.TOKEN", "x"),
            ("user.user-data", "y"),
        ]);
        let wanted = Create { config, source, ..instance(name) };
        self.does(&Command::CreateInstance(Box::new(wanted)));
    }
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn image() -> Source {
    Source::Image("test".to_owned())
}

#[test]
fn creation_copy_rename_and_rebuild_are_due_once() {
    let mut node = Node::founded();
    node.create("a", image());
    node.starts_fail = true;
    assert_eq!(node.start("a"), Some(Trigger::Create));
    node.starts_fail = false;
    assert_eq!(node.start("a"), Some(Trigger::Create), "a start that failed owes it still");
    node.stop("a");
    assert_eq!(node.start("a"), None);
    node.stop("a");
    node.does(&Command::RenameInstance { target: target("a"), to: "b".to_owned() });
    assert_eq!(node.start("b"), Some(Trigger::Rename));
    assert_eq!(node.told.as_ref().unwrap().instance["name"], "b");
    node.stop("b");
    let (project, name) = ("default".to_owned(), "b".to_owned());
    node.create("c", Source::Copy { project, name, snapshot: None, instance_only: false });
    node.does(&Command::RenameInstance { target: target("c"), to: "d".to_owned() });
    assert_eq!(node.start("d"), Some(Trigger::Copy), "a rename is no news to a new copy");
    assert_eq!(node.start("b"), None);
    node.stop("b");
    let image = Some("test".to_owned());
    node.does(&Command::RebuildInstance { target: target("b"), image });
    assert_eq!(node.start("b"), Some(Trigger::Create));
}

#[test]
fn templates_see_no_secrets_and_an_empty_instance_has_none() {
    let mut node = Node::founded();
    node.create("a", image());
    node.start("a");
    let told = node.told.take().unwrap();
    assert_eq!(told.config.get("user.colour").map(String::as_str), Some("green"));
    assert!(!told.config.keys().any(|key| crate::config::is_secret(key)), "{told:?}");
    assert_eq!(told.devices["root"]["path"], "/");
    node.create("e", Source::Empty);
    node.start("e");
    assert_eq!(node.told, None);
}
