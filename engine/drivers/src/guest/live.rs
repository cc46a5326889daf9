//! Moving a container while it runs: by CRIU (4.2 or newer), where the host has it. Where it has
//! not, everything else works, and [`Inner::preflight`] says what is missing.
//!
//! The shim does the work and holds the guest ([`stapes_shim::live`]): whatever becomes of this
//! driver, a held guest stays held, and adoption finds it so.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stapes_core::{
    ids::InstanceId,
    port::{
        DriverError,
        guest::{
            Checkpointed, Held, Mobility, Preflight, Release, Running, Stop, holds_no_guest,
            is_held, runs_as_another,
        },
        storage::RootLayers,
    },
    spec::GuestSpec,
};
use stapes_shim::{
    live::kept::Kept,
    protocol::{Checkpoint, Reply, Request},
    spec::Restore,
};

use super::{
    Inner, Known,
    conversation::Conversation,
    convert::{self, failed},
};

mod catch;
mod criu;
mod objections;
mod tasks;
mod unread;

pub(super) use catch::Catch;

/// Names the program `criu`, where it is not configured.
const CRIU: &str = "STAPES_CRIU";

/// The program, named or found.
pub(super) fn find_criu() -> Option<PathBuf> {
    criu::find(configured().as_deref())
}

pub(super) fn configured() -> Option<PathBuf> {
    std::env::var_os(CRIU).map(PathBuf::from)
}

/// How often a guest that was told something in the last moment is asked to stand still again.
const TRIES_MAX: usize = 3;
/// Nothing here takes longer, however much memory a guest has.
const WITHIN: Duration = Duration::from_secs(600);
const NO_CRIU: &str = "has no CRIU: install criu 4.2 or newer, or name one in STAPES_CRIU";

impl Inner {
    /// The program, if it can be used here; else why not. What was good once stays so.
    async fn criu(self: &Arc<Self>) -> Result<PathBuf, DriverError> {
        if let Some(good) = self.criu.get() {
            return Ok(good.clone());
        }
        let look = |inner: &Self| {
            let path =
                criu::find(inner.config.criu.as_deref()).ok_or_else(|| NO_CRIU.to_owned())?;
            match criu::objection(&path, &inner.config.shim) {
                None => Ok(path),
                Some(objection) => Err(objection),
            }
        };
        let found: Result<PathBuf, String> = self.blocking(look).await?;
        match found {
            Ok(path) => Ok(self.criu.get_or_init(|| path).clone()),
            Err(why) => Err(DriverError::Refused(format!("this host {why}"))),
        }
    }

    /// Trying it takes a while, which no guest need stand still for.
    pub(super) async fn try_criu(self: &Arc<Self>) {
        if let Err(error) = self.criu().await {
            tracing::debug!(%error, "a guest that comes alive cannot go on here");
        }
    }

    pub(super) async fn preflight(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<Preflight, DriverError> {
        let known = self.must_know(instance)?;
        let mut against = Vec::new();
        if let Err(error) = self.criu().await {
            against.push(error.to_string());
        }
        if known.spec.ids.is_none() {
            against.push("it is privileged (security.privileged=true)".to_owned());
        }
        if known.hello.rescued {
            let text = "its shim was killed and replaced, so that its console is not the one it \
                        began with; restart it";
            against.push(text.to_owned());
        }
        let pid = known.hello.pid;
        let look = move |inner: &Self| {
            let group = inner.layout.group(&instance.to_string());
            (group.is_frozen(), objections::find(pid, &group.unified()))
        };
        let deaf = unread::read_by(pid).await;
        let (frozen, found) = self.blocking(look).await?;
        if frozen {
            against.push("it is frozen; unfreeze it".to_owned());
        }
        let found = found.map_err(failed("look at the guest's processes"))?;
        against.extend(found.against);
        let deaf = deaf.into_iter();
        against.extend(deaf.map(|what| format!("{what} does not read what the kernel tells it")));
        if against.is_empty() {
            let reasons = found.remarks.into_iter().collect();
            return Ok(Preflight { verdict: Mobility::Live, reasons });
        }
        Ok(Preflight { verdict: Mobility::NearLive, reasons: against })
    }

    pub(super) async fn checkpoint(
        self: &Arc<Self>,
        instance: InstanceId,
        into: &Path,
    ) -> Result<Checkpointed, DriverError> {
        let slot = self.slot(instance);
        let _turn = slot.turn.lock().await;
        let known = self.find(instance, &slot).await?;
        let known = known.ok_or_else(|| not_found(instance))?;
        let images = std::path::absolute(into).map_err(failed("name the checkpoint"))?;
        match known.held() {
            Some(Held::Restored) => return Err(is_held(instance, Held::Restored)),
            Some(Held::Checkpointed) => {}
            None => {
                if self.running(instance, &known).frozen {
                    let text = format!("{instance} is frozen; unfreeze it to move it");
                    return Err(DriverError::Refused(text));
                }
                self.criu().await?;
                make_empty(&images)?;
            }
        }
        let criu = self.criu().await?;
        let request = Request::Checkpoint(Checkpoint { criu, images: images.clone() });
        let mut tries = 0;
        let answer = loop {
            if known.held().is_none() {
                unread::read_by(known.hello.pid).await;
            }
            let answer = self.ask(&known, &request, "checkpoint the guest").await;
            tries += 1;
            match answer {
                Err(DriverError::Refused(why)) if tries < TRIES_MAX && unread::is_why(&why) => {
                    tracing::info!(%instance, why, "once more");
                    make_empty(&images)?;
                }
                answer => break answer,
            }
        };
        if answer.is_err() && known.held().is_none() {
            // Whatever is in it is no checkpoint.
            let _ = fs::remove_dir_all(&images);
        }
        let Reply::Checkpointed(done) = answer? else {
            return Err(DriverError::Failed("the shim did not say what it did".to_owned()));
        };
        known.set_held(Some(Held::Checkpointed));
        Ok(convert::checkpointed(&done))
    }

    pub(super) async fn release(
        self: &Arc<Self>,
        instance: InstanceId,
        how: Release,
    ) -> Result<(), DriverError> {
        match how {
            Release::Kill => self.stop(instance, Stop::Force).await.map(drop),
            Release::Resume => {
                self.let_go(instance, &Request::Resume, Held::Restored, "resume the guest").await
            }
        }
    }

    pub(super) async fn activate(
        self: &Arc<Self>,
        instance: InstanceId,
    ) -> Result<(), DriverError> {
        let activate = "activate the guest";
        self.let_go(instance, &Request::Activate, Held::Checkpointed, activate).await?;
        self.hand_on(instance);
        Ok(())
    }

    /// Lets a held guest go on; `wrong` is how it must not be held.
    async fn let_go(
        self: &Arc<Self>,
        instance: InstanceId,
        request: &Request,
        wrong: Held,
        doing: &str,
    ) -> Result<(), DriverError> {
        let slot = self.slot(instance);
        let _turn = slot.turn.lock().await;
        let known = self.find(instance, &slot).await?;
        let known = known.ok_or_else(|| not_found(instance))?;
        if known.held() == Some(wrong) {
            return Err(is_held(instance, wrong));
        }
        self.ask(&known, request, doing).await?;
        known.set_held(None);
        Ok(())
    }

    pub(super) async fn restore(
        self: &Arc<Self>,
        spec: &GuestSpec,
        root: &RootLayers,
        from: &Path,
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
        let mut told = self.told(spec, root).await?;
        let images = std::path::absolute(from).map_err(failed("name the checkpoint"))?;
        let kept = Kept::read(&images).map_err(failed("read the checkpoint"))?;
        let why = match kept {
            None => Some("there is no checkpoint".to_owned()),
            Some(kept) => kept.mismatch(&told.instance, told.ids),
        };
        if let Some(why) = why {
            return Err(holds_no_guest(instance, from, &why));
        }
        told.restore = Some(Restore { images, criu: self.criu().await? });
        self.clear(instance).await?;
        self.begin(&slot, instance, told).await
    }

    /// Asks the guest's shim something that it answers when it is done.
    pub(super) async fn ask(
        &self,
        known: &Known,
        request: &Request,
        doing: &str,
    ) -> Result<Reply, DriverError> {
        let conversation = Conversation::with(&known.directory.fd).await.map_err(failed(doing))?;
        conversation.tell(request, &[]).await.map_err(failed(doing))?;
        let heard = tokio::time::timeout(WITHIN, conversation.hear()).await;
        let Ok(heard) = heard else {
            let seconds = WITHIN.as_secs();
            return Err(DriverError::Failed(format!("{doing}: it took more than {seconds} s")));
        };
        match heard.map_err(failed(doing))? {
            Some((Reply::Refused { text, errno }, _)) => {
                Err(convert::refusal("the guest runs on", &text, errno))
            }
            Some((reply, _)) => Ok(reply),
            None => Err(DriverError::Refused(format!(
                "{doing}: its shim does not know how, or was killed; a guest that was started by \
                 an older stapes can do it after its next start"
            ))),
        }
    }
}

fn not_found(instance: InstanceId) -> DriverError {
    DriverError::NotFound(format!("running guest {instance}"))
}

/// A new directory, or one that holds nothing but an attempt that failed.
fn make_empty(images: &Path) -> Result<(), DriverError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let words = "make the directory for the checkpoint";
    match fs::read_dir(images) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(words)(error)),
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed(words))?.file_name();
                if !is_of_checkpoints(&name.to_string_lossy()) {
                    let (images, name) = (images.display(), name.display());
                    let text = format!("{images} holds {name}, which is no checkpoint's");
                    return Err(DriverError::Refused(text));
                }
            }
            fs::remove_dir_all(images).map_err(failed(words))?;
        }
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(images).map_err(failed(words))
}

fn is_of_checkpoints(name: &str) -> bool {
    let kinds = [".img", ".log", ".new"];
    kinds.iter().any(|kind| name.ends_with(kind))
        || ["stapes", "stats-", ".criu."].iter().any(|kind| name.starts_with(kind))
}
