//! Starting a guest: from its spec to a shim that says hello.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use chrono::Utc;
use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{Running, runs_as_another},
        storage::RootLayers,
    },
    spec::{DiskSource, GuestSpec},
};
use stapes_shim::{
    protocol::{Hello, Reply},
    record,
    spec::Spec,
    supervise, transport,
};

use super::{
    Inner, Known, Slot,
    conversation::{Conversation, waitable},
    convert::{self, failed},
    directory::Directory,
    locked, reap, spawn,
};

/// A shim that said hello: its process if it is our child, and the conversation in which it will
/// tell the guest's end.
pub(super) struct Born {
    pub(super) hello: Hello,
    pub(super) conversation: Conversation,
    pub(super) pidfd: OwnedFd,
}

impl Inner {
    pub(super) async fn start(
        self: &Arc<Self>,
        spec: &GuestSpec,
        root: &RootLayers,
    ) -> Result<Running, DriverError> {
        let instance = spec.instance;
        let slot = self.slot(instance);
        let _turn = slot.turn.lock().await;
        if let Some(known) = self.find(instance, &slot).await? {
            let running = self.running(instance, &known);
            return if running.incarnation == spec.incarnation {
                Ok(running)
            } else {
                Err(runs_as_another(instance, running.incarnation))
            };
        }
        let told = self.told(spec, root).await?;
        self.clear(instance).await?;
        self.begin(&slot, instance, told).await
    }

    /// What the shim is told, whichever way the guest begins.
    pub(super) async fn told(
        &self,
        spec: &GuestSpec,
        root: &RootLayers,
    ) -> Result<Spec, DriverError> {
        let disks = self.disks(spec).await?;
        convert::spec(spec, root, &disks, &self.layout, self.layers_by_path, Utc::now())
    }

    /// Begins a guest of which nothing is left. On an error there is nothing again.
    pub(super) async fn begin(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        told: Spec,
    ) -> Result<Running, DriverError> {
        let leaving = locked(&slot.state).leaving.take();
        if let Some(shim) = leaving {
            // Better two users of one root than none for ever.
            let _ = tokio::time::timeout(self.config.start_timeout, ended(&shim)).await;
        }
        let directory = Directory::make(&self.config.run_dir, instance)
            .map_err(failed("make the directory for the guest's records"))?;
        let directory = Arc::new(directory);
        match self.start_in(slot, instance, told, &directory).await {
            Ok(known) => Ok(self.running(instance, &known)),
            Err(error) => {
                // The error that is told is the first one; what cannot be removed now is found
                // by the next start or adoption.
                drop(directory);
                if let Err(left) = self.clear(instance).await {
                    tracing::warn!(%instance, error = %left, "a failed start left something");
                }
                Err(error)
            }
        }
    }

    async fn start_in(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        told: Spec,
        directory: &Arc<Directory>,
    ) -> Result<Known, DriverError> {
        record::write(&directory.fd, record::SPEC, &told, false)
            .map_err(failed("write the guest's spec"))?;
        // Not synced: after a restart of the host nothing of it runs, which the log knows without it.
        let born = self.bear(instance, &told, directory, false).await?;
        // The lock is the shim's now; what we keep is another descriptor without it.
        let kept = self.directory(instance)?;
        let kept = kept.ok_or_else(|| DriverError::NotFound("the guest's records".to_owned()))?;
        Ok(self.settle(slot, instance, born, &kept, told))
    }

    /// The guest runs: from now on it is known, and its end is watched for.
    pub(super) fn settle(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        instance: InstanceId,
        born: Born,
        directory: &Arc<Directory>,
        spec: Spec,
    ) -> Known {
        let Born { hello, conversation, pidfd } = born;
        for problem in &hello.problems {
            tracing::warn!(%instance, problem, "the guest runs, but");
        }
        let directory = Arc::clone(directory);
        let held = Arc::new(Mutex::new(hello.held.map(convert::held)));
        let (hello, spec, shim) = (Arc::new(hello), Arc::new(spec), Arc::new(pidfd));
        let known = Known { hello, directory, spec, held, shim };
        {
            let mut state = locked(&slot.state);
            state.known = Some(known.clone());
            state.stopping = false;
        }
        self.watch(Arc::clone(slot), instance, known.clone(), conversation);
        known
    }

    /// Starts a shim and waits for its first word. On an error there is no shim.
    pub(super) async fn bear(
        &self,
        instance: InstanceId,
        told: &Spec,
        directory: &Directory,
        rescue: bool,
    ) -> Result<Born, DriverError> {
        let words = "start the shim";
        let (ours, theirs) = transport::pair().map_err(failed(words))?;
        let conversation = Conversation::over(ours).map_err(failed(words))?;
        let log = directory.log().map_err(failed(words))?;
        let program = self.programs.shim(told.ids.is_none()).map_err(failed(words))?;
        let name = CString::new(instance.to_string()).unwrap_or_default();
        let rescue =
            CString::new(if rescue { supervise::RESCUE } else { "--start" }).unwrap_or_default();
        let pidfd = spawn::spawn(
            program,
            &[c"stapes-shim", &rescue, &name],
            [theirs.as_fd(), directory.fd.as_fd(), log.as_fd()],
            self.shims.as_fd(),
        )
        .map_err(failed(words))?;
        drop(theirs);
        match self.first_word(&conversation, told).await {
            Ok(hello) => Ok(Born { hello, conversation, pidfd }),
            Err(error) => {
                end(&pidfd).await;
                Err(error)
            }
        }
    }

    async fn first_word(
        &self,
        conversation: &Conversation,
        told: &Spec,
    ) -> Result<Hello, DriverError> {
        let (limit, words) = match told.restore {
            None => (self.config.start_timeout, "the guest cannot start"),
            Some(_) => (self.config.restore_timeout, "the guest cannot go on here"),
        };
        let Ok(heard) = tokio::time::timeout(limit, conversation.hear()).await else {
            let seconds = limit.as_secs();
            return Err(DriverError::Failed(format!("the guest did not start in {seconds} s")));
        };
        match heard.map_err(failed("hear from the shim"))? {
            Some((Reply::Hello(hello), _)) => Ok(hello),
            Some((Reply::Refused { text, errno }, _)) => Err(convert::refusal(words, &text, errno)),
            Some((other, _)) => Err(DriverError::Failed(format!("the shim began with {other:?}"))),
            None => Err(DriverError::Failed("the shim was killed while it started".to_owned())),
        }
    }

    /// Where the guest's disks are on this host.
    async fn disks(&self, spec: &GuestSpec) -> Result<Vec<PathBuf>, DriverError> {
        let mut paths = Vec::with_capacity(spec.disks.len());
        for disk in &spec.disks {
            paths.push(match (&disk.source, &self.config.storage) {
                (DiskSource::Host(path), _) => path.clone(),
                (DiskSource::Volume { pool, volume }, Some(storage)) => {
                    storage.volume_path(*pool, *volume).await?
                }
                (DiskSource::Volume { volume, .. }, None) => {
                    return Err(DriverError::Refused(format!(
                        "disk {}: volume {volume} cannot be found, there is no storage here",
                        disk.name
                    )));
                }
            });
        }
        Ok(paths)
    }
}

/// Kills the shim and waits for its end. It is single-threaded and waits for nothing that is not
/// killable, so that this takes no time.
pub(super) async fn end(pidfd: &OwnedFd) {
    // One that has ended already is fine.
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    ended(pidfd).await;
}

/// Waits until the process has ended, and reaps it if it is our child.
pub(super) async fn ended(pidfd: &OwnedFd) {
    let Ok(copy) = pidfd.try_clone() else { return };
    if let Ok(waiting) = waitable(copy, tokio::io::Interest::READABLE) {
        let _ = waiting.readable().await;
    }
    let _ = reap(pidfd);
}
