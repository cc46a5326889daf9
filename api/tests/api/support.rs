//! A daemon over pretend drivers: the real control, a log in memory, a node that does what its
//! tasks say on simulated guests, and the API on a unix socket in a temporary directory.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::FutureExt;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use stapes_api::{
    backend::{Drivers, Facts, Viewed},
    client::Client,
    server::{Api, Listener},
};
use stapes_control::Control;
use stapes_core::{
    ids::{Fingerprint, Sequence},
    port::{
        DriverError,
        guest::{Guests, SimulatedGuests, Stop},
        image::{ImageFacts, ImageFiles, ImageKind, Images, Upload},
        log::{EventLog, Followed, MemoryLog},
        network::MemoryNetworks,
        report::Reports,
        secret::PretendSealer,
        storage::{MemoryStorage, RootLayers},
    },
    record::Recorded,
    task::{Outcome, Subject, Task, Work},
};
use stapes_projections::{Options, Views};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The daemon and whoever speaks to it.
pub(crate) struct Daemon {
    pub(crate) client: Client,
    pub(crate) directory: TempDir,
    pub(crate) guests: Arc<SimulatedGuests>,
    pub(crate) control: Control,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Daemon {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::default());
        let secrets = Arc::new(PretendSealer::default());
        let control = Control::sealing(log.clone(), secrets.clone());
        let mut tasks = vec![tokio::spawn(control.clone().follow())];
        let start = stapes_core::furniture::node("pretend");
        let node = start.node;
        control.found(start).await.unwrap();
        let guests = Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now)));
        let reports = control.reports_of(node, "pretend");
        tasks.push(tokio::spawn(work(
            control.clone(),
            log.clone(),
            guests.clone(),
            Arc::new(reports),
        )));
        let images = directory.path().join("images");
        std::fs::create_dir(&images).unwrap();
        let drivers = Drivers {
            guests: guests.clone(),
            images: Arc::new(FileImages { directory: images }),
            storage: Arc::new(MemoryStorage::default()),
            networks: Arc::new(MemoryNetworks::new()),
            secrets,
        };
        let facts = Facts {
            server_name: "pretend".to_owned(),
            version: "6.0".to_owned(),
            directory: directory.path().to_owned(),
            storage_drivers: vec![("btrfs".to_owned(), "6".to_owned())],
            firewall: "nftables".to_owned(),
        };
        let views = Views::open(None, log.clone(), Options::default()).await.unwrap();
        tasks.push(tokio::spawn(views.clone().run().map(drop)));
        let viewed = Viewed::new(control.clone(), views, log);
        let api = Api::new(Arc::new(viewed), drivers, facts);
        let socket = directory.path().join("unix.socket");
        let listener = Listener::bind(&socket).await.unwrap();
        let router = api.router();
        tasks.push(tokio::spawn(async move {
            listener.serve(router, std::future::pending()).await.unwrap();
        }));
        Self { client: Client::unix(socket), directory, guests, control, tasks }
    }

    /// With a pool, a network, a profile that uses both, and an image `test`.
    pub(crate) async fn furnished() -> Self {
        let daemon = Self::start().await;
        let client = &daemon.client;
        let pool =
            serde_json::json!({"name": "default", "driver": "btrfs", "config": {"size": "1GiB"}});
        client.send(http("POST"), "/1.0/storage-pools", &pool).await.unwrap();
        let network = serde_json::json!({"name": "testbr0", "type": "bridge",
            "config": {"ipv4.address": "10.77.0.1/24", "ipv6.address": "none"}});
        client.send(http("POST"), "/1.0/networks", &network).await.unwrap();
        let profile = serde_json::json!({"devices": {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth0": {"type": "nic", "network": "testbr0"},
        }});
        client.send(http("PUT"), "/1.0/profiles/default", &profile).await.unwrap();
        let file = daemon.directory.path().join("test.tar");
        std::fs::write(&file, b"an image").unwrap();
        let options = stapes_api::client::UploadOptions {
            aliases: vec!["test".to_owned()],
            properties: vec![("os".to_owned(), "Test OS".to_owned())],
            ..Default::default()
        };
        let upload = client.upload_image(&file, None, &options).await.unwrap();
        upload.wait().await.unwrap();
        daemon
    }

    /// Makes an instance of the image `test` and waits for it.
    pub(crate) async fn launch(&self, name: &str) {
        let body = serde_json::json!({"name": name, "start": true,
            "source": {"type": "image", "alias": "test"}});
        self.client.run(http("POST"), "/1.0/instances", &body).await.unwrap();
    }
}

pub(crate) fn http(method: &str) -> axum::http::Method {
    method.parse().unwrap()
}

/// Does what tasks say, one after the other.
async fn work(
    control: Control,
    log: Arc<dyn EventLog>,
    guests: Arc<SimulatedGuests>,
    reports: Arc<dyn Reports>,
) {
    let mut changes = control.changes();
    let mut follower = log.follow(Sequence(0)).await.unwrap();
    while let Some(followed) = follower.next().await {
        let Ok(Followed::Records(records)) = followed else { continue };
        for stored in &records {
            let recorded = Recorded::read(stored).unwrap();
            let Some(task) = recorded.task().cloned() else { continue };
            // Control follows the log too, and must know of a task before its report.
            while control.world().sequence < recorded.sequence {
                changes.changed().await.unwrap();
            }
            let outcome = perform(&guests, &task).await;
            reports.report(task.report(outcome)).await.unwrap();
        }
    }
}

async fn perform(guests: &SimulatedGuests, task: &Task) -> Outcome {
    let Subject::Instance(instance) = task.subject else { return Outcome::Done };
    let done = |result: Result<(), DriverError>| match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error.into()),
    };
    match &task.work {
        Work::Start { spec, .. } => {
            let root = RootLayers::Plain { root: PathBuf::from("/pretend") };
            match guests.start(spec, &root).await {
                Ok(running) => Outcome::Started(running),
                Err(error) => Outcome::Failed(error.into()),
            }
        }
        Work::Stop { force, timeout } => {
            let how = if *force { Stop::Force } else { Stop::Clean { timeout: *timeout } };
            match guests.stop(instance, how).await {
                Ok(cause) => Outcome::Stopped { cause, at: chrono::Utc::now() },
                Err(error) => Outcome::Failed(error.into()),
            }
        }
        Work::Freeze => done(guests.freeze(instance).await),
        Work::Unfreeze => done(guests.unfreeze(instance).await),
        Work::DeleteInstance { .. } => done(guests.stop(instance, Stop::Force).await.map(drop)),
        _ => Outcome::Done,
    }
}

/// An image store that believes what it gets, but keeps and hashes real files.
#[derive(Debug)]
struct FileImages {
    directory: PathBuf,
}

impl FileImages {
    fn path(&self, image: &Fingerprint, part: &str) -> PathBuf {
        self.directory.join(format!("{image}.{part}"))
    }
}

#[async_trait]
impl Images for FileImages {
    async fn render(
        &self,
        _image: &Fingerprint,
        _context: &stapes_core::template::TemplateContext,
    ) -> Result<Vec<stapes_core::template::RenderedFile>, DriverError> {
        Ok(Vec::new())
    }

    fn staging(&self) -> PathBuf {
        self.directory.clone()
    }

    async fn ingest(
        &self,
        upload: Upload,
        expected: Option<&Fingerprint>,
    ) -> Result<ImageFacts, DriverError> {
        let failed = |error: std::io::Error| DriverError::Failed(error.to_string());
        let (metadata, root, filename) = match upload {
            Upload::Unified { file, filename } => (file, None, filename),
            Upload::Split { metadata, root, filename, .. } => (metadata, Some(root), filename),
        };
        let mut hash = Sha256::new();
        let mut size_bytes = 0;
        for file in std::iter::once(&metadata).chain(&root) {
            let bytes = std::fs::read(file).map_err(failed)?;
            size_bytes += bytes.len() as u64;
            hash.update(&bytes);
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let fingerprint = Fingerprint::new(hex).unwrap();
        if expected.is_some_and(|expected| *expected != fingerprint) {
            return Err(DriverError::Refused("Image fingerprint doesn't match".to_owned()));
        }
        std::fs::rename(&metadata, self.path(&fingerprint, "metadata")).map_err(failed)?;
        if let Some(root) = &root {
            std::fs::rename(root, self.path(&fingerprint, "root")).map_err(failed)?;
        }
        Ok(ImageFacts {
            fingerprint,
            size_bytes,
            kind: ImageKind::Container,
            architecture: "x86_64".to_owned(),
            created_at: chrono::DateTime::UNIX_EPOCH,
            expires_at: None,
            properties: std::collections::BTreeMap::new(),
            split: root.is_some(),
            filename: filename.unwrap_or_else(|| "image.tar".to_owned()),
        })
    }

    async fn files(&self, image: &Fingerprint) -> Result<ImageFiles, DriverError> {
        let root = Some(self.path(image, "root")).filter(|root| root.exists());
        Ok(ImageFiles { metadata: self.path(image, "metadata"), root })
    }

    async fn remove(&self, _image: &Fingerprint) -> Result<(), DriverError> {
        Ok(())
    }

    async fn publish(
        &self,
        _root: PathBuf,
        _properties: std::collections::BTreeMap<String, String>,
    ) -> Result<ImageFacts, DriverError> {
        Err(DriverError::Refused("nothing to publish here".to_owned()))
    }
}
