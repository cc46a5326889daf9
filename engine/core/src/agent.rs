//! The judgement on a task: the node's own, to perform it, answer it again or drop it, and the log's,
//! whether it still wants it.

use std::cmp::Ordering;

use crate::{
    port::guest::Running,
    spec::Incarnation,
    task::{Failure, FailureKind, Outcome, Subject, Task, Work},
    world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New: do it, then report what came of it.
    Perform,
    /// Seen: do nothing, report again what came of it.
    Answer,
    /// Overtaken by a newer request: say nothing.
    Drop,
}

/// Judges a task by the incarnation it is about and by that of the last one performed on the same
/// subject; `None` when none was, or nobody remembers.
#[must_use]
pub fn judge(task: Incarnation, performed: Option<Incarnation>) -> Verdict {
    match performed.map_or(Ordering::Greater, |performed| task.cmp(&performed)) {
        Ordering::Greater => Verdict::Perform,
        Ordering::Equal => Verdict::Answer,
        Ordering::Less => Verdict::Drop,
    }
}

/// Whether the log is asked, before such work is performed, if it [still wants it](is_wanted). All
/// other work may be repeated at any time: what came after it comes again after it.
#[must_use]
pub const fn asks_first(work: &Work) -> bool {
    work.lets_run() || work.prepares() || work.removes()
}

/// Whether the log, by what `world` has of it, still wants the task. A node that was cut off, or lost
/// power, may find a task again before it finds what became of it since: then no guest may be let
/// run, and nothing prepared or removed, that the log went on from.
#[must_use]
pub fn is_wanted(world: &World, task: &Task) -> bool {
    let work = &task.work;
    match &task.subject {
        Subject::Instance(id) if work.lets_run() || work.prepares() => {
            world.instances.get(id).is_some_and(|instance| {
                match instance.incarnation.cmp(&task.incarnation) {
                    // The task is newer than what is known here.
                    Ordering::Less => true,
                    Ordering::Equal => instance.job.is_some(),
                    Ordering::Greater => false,
                }
            })
        }
        Subject::Instance(id) if work.removes() => {
            let known = world.instances.get(id);
            let here = known.filter(|instance| instance.node == task.node);
            here.is_none_or(|instance| instance.incarnation <= task.incarnation)
        }
        Subject::Image(fingerprint) if work.removes() => {
            !world.images.values().any(|image| image.facts.fingerprint == *fingerprint)
        }
        Subject::Instance(_)
        | Subject::Network(_)
        | Subject::Pool(_)
        | Subject::Volume(_)
        | Subject::Image(_) => true,
    }
}

/// What is true now of a task that was performed with this outcome: a guest that was started may be
/// gone since, and then its start must not be reported.
#[must_use]
pub fn answer(task: Incarnation, outcome: Outcome, running: Option<Running>) -> Outcome {
    match outcome {
        Outcome::Started(_) => match running.filter(|running| running.incarnation == task) {
            Some(running) => Outcome::Started(running),
            None => gone(),
        },
        Outcome::Restored { bytes, .. } => {
            match running.filter(|running| running.incarnation == task) {
                Some(running) => Outcome::Restored { running, bytes },
                None => gone(),
            }
        }
        Outcome::Done
        | Outcome::Stopped { .. }
        | Outcome::Failed(_)
        | Outcome::Assessed(_)
        | Outcome::Received { .. }
        | Outcome::Checkpointed { .. } => outcome,
    }
}

fn gone() -> Outcome {
    Outcome::Failed(Failure {
        kind: FailureKind::Failed,
        message: "the guest ended before its start was reported".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Generation};

    #[test]
    fn a_new_owner_overtakes_every_generation_of_the_old_one() {
        let at = |epoch, generation| Incarnation {
            epoch: Epoch(epoch),
            generation: Generation(generation),
        };
        assert_eq!(judge(at(0, 1), None), Verdict::Perform);
        assert_eq!(judge(at(0, 2), Some(at(0, 1))), Verdict::Perform);
        assert_eq!(judge(at(0, 2), Some(at(0, 2))), Verdict::Answer);
        assert_eq!(judge(at(0, 9), Some(at(1, 1))), Verdict::Drop);
    }
}
