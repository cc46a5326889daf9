//! Watching a guest for its end, and its shim for an end of its own.

use std::sync::Arc;

use stapes_core::ids::InstanceId;
use stapes_shim::{
    protocol::{Exit, Reply},
    record,
};

use super::{Inner, Known, Slot, conversation::Conversation, convert, locked, start::ended};

impl Inner {
    /// Watches until the guest has ended or the driver is dropped.
    pub(super) fn watch(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        instance: InstanceId,
        known: Known,
        conversation: Conversation,
    ) {
        let over = self.over.clone();
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            let told = tokio::select! {
                told = last_word(&conversation) => told,
                () = over.cancelled() => return,
            };
            if told.is_none() {
                // Hung up without a word: its records are read when it is surely gone.
                ended(&known.shim).await;
            }
            let Some(inner) = weak.upgrade() else { return };
            inner.ended(&slot, instance, &known, told).await;
            drop(inner);
            ended(&known.shim).await;
        });
    }

    async fn ended(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        known: &Known,
        told: Option<Exit>,
    ) {
        let is_it = || {
            let state = locked(&slot.state);
            let current = state.known.as_ref();
            current.is_some_and(|current| Arc::ptr_eq(&current.hello, &known.hello))
        };
        let Some(exit) = told else {
            let _turn = slot.turn.lock().await;
            if is_it() {
                tracing::warn!(%instance, "the guest's shim was killed");
                self.shim_was_killed(slot, instance, known).await;
            }
            return;
        };
        {
            let mut state = locked(&slot.state);
            let current = state.known.as_ref();
            let is_it = current.is_some_and(|current| Arc::ptr_eq(&current.hello, &known.hello));
            if !is_it {
                return;
            }
            if state.stopping {
                state.ended = Some(exit);
                return;
            }
            state.known = None;
        }
        self.tell(instance, &exit).await;
    }

    /// The guest has ended by itself.
    pub(super) async fn tell(&self, instance: InstanceId, exit: &Exit) {
        let exited = convert::exited(instance, exit);
        tracing::info!(%instance, cause = ?exited.cause, "the guest has ended");
        // Nobody listens any more: the record on the disk tells the next daemon.
        let _ = self.exits.send(exited).await;
    }

    /// A shim is gone that did not say how its guest ended. Under the slot's turn.
    async fn shim_was_killed(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        known: &Known,
    ) {
        locked(&slot.state).known = None;
        let written: Option<Exit> =
            record::read(&known.directory.fd, record::EXIT).unwrap_or_default();
        let exit = match written {
            Some(exit) => Some(exit),
            None => match self.rescue(slot, instance, &known.directory).await {
                Ok(Some(_)) => return,
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(%instance, %error, "the guest cannot be taken over");
                    None
                }
            },
        };
        match self.bury(instance, &known.directory, &known.hello, exit).await {
            Ok(exit) => self.tell(instance, &exit).await,
            Err(error) => tracing::warn!(%instance, %error, "the guest's remains are not removed"),
        }
    }
}

/// How the guest ended; nothing when the shim hung up before that.
async fn last_word(conversation: &Conversation) -> Option<Exit> {
    loop {
        match conversation.hear().await {
            Ok(Some((Reply::Exited(exit), _))) => return Some(exit),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
