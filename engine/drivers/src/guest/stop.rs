//! Stopping a guest: asked or killed, and nothing left of it.

use std::{sync::Arc, time::Duration};

use stapes_core::{
    ids::InstanceId,
    lease::Boottime,
    port::{
        DriverError,
        guest::{ExitCause, Stop, did_not_stop, is_held},
    },
};
use stapes_shim::protocol::{Exit, Reply, Request};

use super::{
    Inner, Known, Slot,
    conversation::Conversation,
    convert::{self, failed},
    locked, look,
};

/// Everything in a guest is dead within this, or the shim is bypassed.
const DEAD_WITHIN: Duration = Duration::from_secs(20);

/// How the shim answered a stop.
enum Answer {
    Exited(Exit),
    /// It hung up without a word.
    Gone,
    TimedOut,
}

impl Inner {
    /// Its shim minds the clock from now on.
    pub(super) async fn lease(
        &self,
        instance: InstanceId,
        until: Option<Boottime>,
    ) -> Result<(), DriverError> {
        let known = self.must_know(instance)?;
        let until = until.map(|until| (until.0.as_secs(), until.0.subsec_nanos()));
        self.ask(&known, &Request::Lease(until), "tell the guest's shim of its lease").await?;
        Ok(())
    }

    pub(super) async fn stop(
        self: &Arc<Self>,
        instance: InstanceId,
        how: Stop,
    ) -> Result<ExitCause, DriverError> {
        let slot = self.slot(instance);
        let _turn = slot.turn.lock().await;
        locked(&slot.state).catches.clear();
        let Some(known) = self.find(instance, &slot).await? else {
            return self.stopped_already(instance, how).await;
        };
        if let (Stop::Clean { .. }, Some(held)) = (how, known.held()) {
            return Err(is_held(instance, held));
        }
        {
            let mut state = locked(&slot.state);
            state.stopping = true;
            state.ended = None;
        }
        let (request, limit) = match how {
            Stop::Clean { timeout } => (Request::Shutdown, timeout),
            Stop::Force => (Request::Kill, DEAD_WITHIN),
        };
        let answer = ask(&known, &request, limit).await;
        let answer = self.close_stop(&slot, answer);
        let cause = match (answer, how) {
            (Answer::Exited(exit), _) => convert::cause(exit.cause),
            (Answer::TimedOut, Stop::Clean { timeout }) => {
                return Err(did_not_stop(instance, timeout));
            }
            (Answer::Gone, Stop::Clean { .. }) => {
                // The watcher has a new shim take the guest over.
                let text = "the guest's shim was killed while the guest shut down; try again";
                return Err(DriverError::Failed(text.to_owned()));
            }
            (Answer::Gone | Answer::TimedOut, Stop::Force) => {
                self.kill_without_shim(instance, &known).await?;
                ExitCause::Forced
            }
        };
        {
            let mut state = locked(&slot.state);
            state.known = None;
            state.leaving = Some(known.shim);
        }
        self.clear(instance).await?;
        Ok(cause)
    }

    /// From now on an end is news again; one that came at the last moment is the answer.
    fn close_stop(&self, slot: &Slot, answer: Answer) -> Answer {
        let mut state = locked(&slot.state);
        state.stopping = false;
        match (state.ended.take(), answer) {
            (Some(exit), Answer::Gone | Answer::TimedOut) => Answer::Exited(exit),
            (_, answer) => answer,
        }
    }

    async fn stopped_already(
        self: &Arc<Self>,
        instance: InstanceId,
        how: Stop,
    ) -> Result<ExitCause, DriverError> {
        let exit = match self.directory(instance)? {
            Some(directory) => look::exit_in(&directory)?,
            None => None,
        };
        self.clear(instance).await?;
        Ok(exit.map_or_else(|| how.usual_cause(), |exit| convert::cause(exit.cause)))
    }

    /// The shim does not do it: it may be stopped, or gone.
    async fn kill_without_shim(
        self: &Arc<Self>,
        instance: InstanceId,
        known: &Known,
    ) -> Result<(), DriverError> {
        if let Ok(conversation) = Conversation::with(&known.directory.fd).await
            && let Ok(pidfd) = conversation.peer()
        {
            let kill = rustix::process::Signal::KILL;
            rustix::process::pidfd_send_signal(&pidfd, kill)
                .map_err(|errno| failed("kill the shim")(errno.into()))?;
        }
        self.destroy_group(instance).await
    }
}

async fn ask(known: &Known, request: &Request, limit: Duration) -> Answer {
    let conversation = async {
        let conversation = Conversation::with(&known.directory.fd).await.ok()?;
        conversation.tell(request, &[]).await.ok()?;
        while let Ok(Some((reply, _))) = conversation.hear().await {
            if let Reply::Exited(exit) = reply {
                return Some(exit);
            }
        }
        None
    };
    match tokio::time::timeout(limit, conversation).await {
        Ok(Some(exit)) => Answer::Exited(exit),
        Ok(None) => Answer::Gone,
        Err(_) => Answer::TimedOut,
    }
}
