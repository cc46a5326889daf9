//! The shim's part in moving its guest: who asks, and who is told when.

use super::Shim;
use crate::{
    fault::{Doing as _, Fault, Result},
    live::{self, Hold, Step},
    protocol::{Checkpoint, Held, Reply, Request},
    record,
};

/// What a conversation waits for beside a program's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Awaited {
    #[default]
    Nothing,
    Checkpoint,
    Resumption,
    Activation,
}

type Answer = Option<(Reply, Option<std::os::fd::OwnedFd>)>;

impl Shim {
    /// Answers what moving is about, and refuses what a guest that stands still cannot do;
    /// nothing when it is about something else.
    pub(super) fn answer_moving(
        &mut self,
        number: usize,
        request: &Request,
    ) -> Result<Option<Answer>> {
        match request {
            Request::Checkpoint(wanted) => self.checkpoint(number, wanted).map(Some),
            Request::Resume => self.resume(number).map(Some),
            Request::Activate => self.activate(number).map(Some),
            Request::Exec(_) | Request::Shutdown if self.hold.is_some() => {
                Err(Fault::because("reach the guest", "it stands still, for it is being moved"))
            }
            Request::Hello
            | Request::Watch
            | Request::Exec(_)
            | Request::Signal(_)
            | Request::Resize { .. }
            | Request::Console { .. }
            | Request::ConsoleLog
            | Request::Shutdown
            | Request::Lease(_)
            | Request::Kill => Ok(None),
        }
    }

    fn subject(&self) -> live::Subject<'_> {
        live::Subject {
            spec: &self.spec,
            directory: &self.directory,
            guest: &self.guest,
            console: self.console.terminal(),
        }
    }

    fn checkpoint(&mut self, number: usize, wanted: &Checkpoint) -> Result<Answer> {
        let words = "checkpoint the guest";
        let Checkpoint { criu, images } = wanted;
        match &self.hold {
            Some(hold) => {
                if let Some(done) = hold.checkpointed(images) {
                    return Ok(Some((Reply::Checkpointed(done.clone()), None)));
                }
                if !hold.is_dumping_into(images) {
                    return Err(Fault::because(words, "it is being moved already"));
                }
            }
            None => {
                if let Some(objection) = live::objection(&self.spec) {
                    return Err(objection);
                }
                if self.conversations.iter().any(|one| one.pidfd().is_some()) {
                    let why = "a program runs in it that was executed from outside";
                    return Err(Fault::because(words, why));
                }
                self.hold = Some(live::checkpoint(&self.subject(), criu, images.clone())?);
            }
        }
        self.conversations[number].await_word(Awaited::Checkpoint);
        Ok(None)
    }

    fn resume(&mut self, number: usize) -> Result<Answer> {
        let Some(mut hold) = self.hold.take() else { return Ok(Some((Reply::Done, None))) };
        let resumed = hold.resume(&self.subject());
        self.hold = Some(hold);
        if resumed? {
            self.let_go()?;
            return Ok(Some((Reply::Done, None)));
        }
        self.conversations[number].await_word(Awaited::Resumption);
        Ok(None)
    }

    fn activate(&mut self, number: usize) -> Result<Answer> {
        let Some(mut hold) = self.hold.take() else { return Ok(Some((Reply::Done, None))) };
        let activated = hold.activate(&self.subject());
        self.hold = Some(hold);
        activated?;
        self.conversations[number].await_word(Awaited::Activation);
        Ok(None)
    }

    /// CRIU, or its hook, has something to say.
    pub(super) fn turn_of_hold(&mut self) {
        let Some(mut hold) = self.hold.take() else { return };
        self.console.take();
        let (subject, started_at_us) = (self.subject(), self.hello.started_at_us);
        let step = hold.turn(&subject, |images| {
            live::keep(&subject, started_at_us, |file| self.console.copy(file), images)
        });
        let hold = self.hold.insert(hold);
        let (awaited, reply) = match step {
            Step::Nothing => return,
            Step::Dumped(checkpointed) => {
                if let Err(fault) = hold.write(&self.directory) {
                    // It goes on; only a shim that took over would not know that it stands still.
                    super::log(&fault.to_string());
                }
                self.hello.held = Some(Held::Checkpointed);
                (Awaited::Checkpoint, Reply::Checkpointed(checkpointed))
            }
            Step::NotDumped(fault) => {
                let fault = self.let_go().err().unwrap_or(fault);
                (Awaited::Checkpoint, Reply::Refused { text: fault.to_string(), errno: 0 })
            }
            Step::Resumed => (Awaited::Resumption, self.gone_on()),
            Step::Activated => (Awaited::Activation, self.gone_on()),
            Step::Lost => {
                super::log("CRIU was killed, and the guest cannot go on without it");
                // Its end is seen as any other.
                let _ = self.spec.cgroups.group(&self.spec.instance).kill();
                return;
            }
        };
        for conversation in &mut self.conversations {
            if conversation.hears(awaited) {
                conversation.tell(&reply, None);
            }
        }
    }

    fn gone_on(&mut self) -> Reply {
        match self.let_go() {
            Ok(()) => Reply::Done,
            Err(fault) => Reply::Refused { text: fault.to_string(), errno: fault.errno() },
        }
    }

    /// It is as any other guest from now on.
    fn let_go(&mut self) -> Result<()> {
        self.hold = None;
        self.hello.held = None;
        Hold::forget(&self.directory);
        record::write(&self.directory, record::STATE, &self.hello, false).doing("write the state")
    }
}
