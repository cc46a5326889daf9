//! Looking at what is left of a guest: who runs, what ended, what nobody owns.

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use stapes_core::{ids::InstanceId, port::DriverError};
use stapes_shim::{
    protocol::{Cause, Exit, Hello, Reply, Request},
    record,
    spec::Spec,
    sys,
};

use super::{
    Inner, Known, Slot,
    conversation::Conversation,
    convert::{self, failed},
    directory::Directory,
    locked,
    start::Born,
};

/// A shim that holds its directory answers within this, or something is wrong.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What a directory tells.
enum Seen {
    Runs(Born),
    /// Its init runs, its shim is gone.
    Orphaned,
    Ended(Exit),
    /// It was never started to the end.
    Nothing,
}

impl Inner {
    /// The guest, if it runs: known already, or found. Under the slot's turn.
    pub(super) async fn find(
        self: &Arc<Self>,
        instance: InstanceId,
        slot: &Arc<Slot>,
    ) -> Result<Option<Known>, DriverError> {
        let known = locked(&slot.state).known.clone();
        if known.is_some() {
            return Ok(known);
        }
        match self.directory(instance)? {
            Some(directory) => Ok(self.meet(instance, slot, directory).await?.ok()),
            None => Ok(None),
        }
    }

    pub(super) fn directory(
        &self,
        instance: InstanceId,
    ) -> Result<Option<Arc<Directory>>, DriverError> {
        let found = Directory::find(&self.config.run_dir, instance);
        Ok(found.map_err(failed("open the guest's records"))?.map(Arc::new))
    }

    /// Whoever is in the directory: the guest that runs, or how it ended, if it ever ran. Under
    /// the slot's turn.
    pub(super) async fn meet(
        self: &Arc<Self>,
        instance: InstanceId,
        slot: &Arc<Slot>,
        directory: Arc<Directory>,
    ) -> Result<Result<Known, Option<Exit>>, DriverError> {
        match self.look(&directory).await? {
            Seen::Runs(born) => {
                let spec = spec_in(&directory)?;
                Ok(Ok(self.settle(slot, instance, born, &directory, spec)))
            }
            Seen::Orphaned => {
                match self.rescue(slot, instance, &directory).await {
                    Ok(Some(known)) => return Ok(Ok(known)),
                    Ok(None) => {}
                    // Nobody could stop it or ask it anything: it may not run on.
                    Err(error) => {
                        tracing::warn!(%instance, %error, "the guest cannot be taken over");
                    }
                }
                let hello = state_in(&directory)?;
                match hello {
                    Some(hello) => {
                        let exit = self.bury(instance, &directory, &hello, None).await?;
                        Ok(Err(Some(exit)))
                    }
                    None => Ok(Err(None)),
                }
            }
            Seen::Ended(exit) => {
                self.destroy_group(instance).await?;
                Ok(Err(Some(exit)))
            }
            Seen::Nothing => {
                drop(directory);
                self.clear(instance).await?;
                Ok(Err(None))
            }
        }
    }

    async fn look(&self, directory: &Directory) -> Result<Seen, DriverError> {
        if let Some(exit) = exit_in(directory)? {
            return Ok(Seen::Ended(exit));
        }
        let deadline = Instant::now() + ANSWERS_WITHIN;
        // A shim that starts its guest answers when it has; one that ends lets go of the lock.
        while !directory.lock().map_err(failed("lock the guest's records"))? {
            if let Some(born) = greet(&directory.fd, deadline).await {
                return Ok(Seen::Runs(born));
            }
            if Instant::now() > deadline {
                let seconds = ANSWERS_WITHIN.as_secs();
                let text = format!("the guest's shim does not answer within {seconds} s");
                return Err(DriverError::Failed(text));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        // It may have written this after we looked first.
        if let Some(exit) = exit_in(directory)? {
            return Ok(Seen::Ended(exit));
        }
        let Some(hello) = state_in(directory)? else { return Ok(Seen::Nothing) };
        if alive(&hello) {
            return Ok(Seen::Orphaned);
        }
        let same_boot = sys::boot_id().is_ok_and(|boot| boot == hello.boot);
        let exit = lost(&hello, if same_boot { Cause::Unknown } else { Cause::HostReboot });
        record::write(&directory.fd, record::EXIT, &exit, true)
            .map_err(failed("write the guest's end"))?;
        Ok(Seen::Ended(exit))
    }

    /// A new shim for a guest whose own is gone; `None` when its init is gone, too.
    pub(super) async fn rescue(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        directory: &Arc<Directory>,
    ) -> Result<Option<Known>, DriverError> {
        let spec = spec_in(directory)?;
        let Some(hello) = state_in(directory)? else { return Ok(None) };
        if !alive(&hello) {
            return Ok(None);
        }
        // The lock goes along with this descriptor; what we keep is another one without it.
        let carried = self.directory(instance)?;
        let carried = carried.ok_or_else(|| DriverError::NotFound(instance.to_string()))?;
        drop_lock(directory);
        if !carried.lock().map_err(failed("lock the guest's records"))? {
            return Err(DriverError::Failed("another shim holds the guest".to_owned()));
        }
        let born = self.bear(instance, &spec, &carried, true).await?;
        drop(carried);
        tracing::info!(%instance, "a new shim has taken the guest over");
        Ok(Some(self.settle(slot, instance, born, directory, spec)))
    }

    /// Removes what is left of a guest that runs no more; `exit` is what its shim wrote, if it
    /// did. Answers how it ended.
    pub(super) async fn bury(
        self: &Arc<Self>,
        instance: InstanceId,
        directory: &Directory,
        hello: &Hello,
        exit: Option<Exit>,
    ) -> Result<Exit, DriverError> {
        self.destroy_group(instance).await?;
        if let Some(exit) = exit {
            return Ok(exit);
        }
        let exit = lost(hello, Cause::Unknown);
        record::write(&directory.fd, record::EXIT, &exit, true)
            .map_err(failed("write the guest's end"))?;
        Ok(exit)
    }

    pub(super) async fn destroy_group(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<(), DriverError> {
        self.destroy_group_named(instance.to_string()).await
    }

    pub(super) async fn destroy_group_named(
        self: &Arc<Self>,
        name: String,
    ) -> Result<(), DriverError> {
        self.blocking(move |inner| {
            let group = inner.layout.group(&name);
            if group.exists() { group.destroy() } else { Ok(()) }
        })
        .await?
        .map_err(convert::fault)
    }

    /// Leaves nothing of an instance that does not run.
    pub(super) async fn clear(self: &Arc<Self>, instance: InstanceId) -> Result<(), DriverError> {
        self.destroy_group(instance).await?;
        if let Some(directory) = self.directory(instance)? {
            self.blocking(move |_| directory.remove())
                .await?
                .map_err(failed("remove the guest's records"))?;
        }
        Ok(())
    }
}

/// Says hello to the shim that holds the directory; nothing when it does not answer.
async fn greet(directory: &OwnedFd, deadline: Instant) -> Option<Born> {
    let greeting = async {
        let conversation = Conversation::with(directory).await.ok()?;
        conversation.tell(&Request::Hello, &[]).await.ok()?;
        let (Reply::Hello(hello), _) = conversation.hear().await.ok()?? else { return None };
        conversation.tell(&Request::Watch, &[]).await.ok()?;
        let pidfd = conversation.peer().ok()?;
        Some(Born { hello, conversation, pidfd })
    };
    tokio::time::timeout_at(deadline.into(), greeting).await.ok().flatten()
}

/// Whether the init that said hello lives: its pid, begun at the same tick of the same boot.
fn alive(hello: &Hello) -> bool {
    sys::boot_id().is_ok_and(|boot| boot == hello.boot)
        && sys::process::is_running(hello.pid, hello.start_ticks)
}

fn lost(hello: &Hello, cause: Cause) -> Exit {
    Exit { epoch: hello.epoch, generation: hello.generation, cause, at_us: sys::now_us() }
}

fn drop_lock(directory: &Directory) {
    // Without a lock there is nothing to drop.
    let _ = rustix::fs::flock(&directory.fd, rustix::fs::FlockOperation::Unlock);
}

pub(super) fn exit_in(directory: &Directory) -> Result<Option<Exit>, DriverError> {
    record::read(&directory.fd, record::EXIT).map_err(failed("read the guest's end"))
}

fn state_in(directory: &Directory) -> Result<Option<Hello>, DriverError> {
    record::read(&directory.fd, record::STATE).map_err(failed("read the guest's state"))
}

fn spec_in(directory: &Directory) -> Result<Spec, DriverError> {
    let spec =
        record::read(&directory.fd, record::SPEC).map_err(failed("read the guest's spec"))?;
    spec.ok_or_else(|| DriverError::Failed("the guest's spec is gone".to_owned()))
}
