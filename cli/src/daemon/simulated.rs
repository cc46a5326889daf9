//! `--simulated`: the shipped log, decisions, executor and API over pretend guests, without root.

use std::sync::Arc;

use stapes_control::{Control, Request, SubmitError};
use stapes_core::{
    command::Command,
    config::Config,
    furniture::{ETH0, ROOT, default_profile, devices, network, pool},
    ids::Fingerprint,
    image::Import,
    port::{
        guest::SimulatedGuests,
        image::{ImageFacts, ImageKind},
        network::MemoryNetworks,
        peer::Nobody,
        storage::MemoryStorage,
    },
    record::Actor,
};
use stapes_drivers::{
    exchange::Exchange,
    image::{ImageConfig, ImageStore, Owners},
};

use super::{
    cluster::ClusterKeys,
    directory::Directory,
    host::{Drivers, HostError, beside},
};

/// # Errors
/// When the image store cannot be made.
pub(crate) fn drivers(
    directory: &Directory,
    secrets: Arc<ClusterKeys>,
) -> Result<Drivers, HostError> {
    let mut images = ImageConfig::new(directory.images(), beside("stapes-unpack")?);
    images.owners = Owners::Mine;
    let images = Arc::new(ImageStore::new(images)?);
    let (storage, checkpoints) = (Arc::new(MemoryStorage::default()), directory.checkpoints());
    let exchange =
        Exchange::new(storage.clone(), images.clone(), secrets.own(), checkpoints.clone());
    Ok(Drivers {
        guests: Arc::new(SimulatedGuests::new(Arc::new(chrono::Utc::now))),
        storage,
        networks: Arc::new(MemoryNetworks::new()),
        images,
        peers: Arc::new(Nobody),
        exchange: Arc::new(exchange),
        checkpoints,
        secrets,
        host: None,
    })
}

/// A new pretend installation has what `stapes init --auto` makes, and an image `demo`.
///
/// # Errors
/// When the log cannot take it.
pub(crate) async fn furnish(control: &Control) -> Result<(), SubmitError> {
    if !control.world().pools.is_empty() {
        return Ok(());
    }
    for command in furniture() {
        let accepted = control.submit(command, Request::by(Actor::system())).await?;
        control.until(|world| !world.operations.contains_key(&accepted.operation)).await?;
    }
    Ok(())
}

fn furniture() -> [Command; 4] {
    let text = str::to_owned;
    let facts = ImageFacts {
        fingerprint: Fingerprint::new("de30".repeat(16)).expect("64 digits"),
        size_bytes: 4 << 20,
        kind: ImageKind::Container,
        architecture: text(std::env::consts::ARCH),
        created_at: chrono::DateTime::UNIX_EPOCH,
        expires_at: None,
        properties: [(text("os"), text("Demo")), (text("description"), text("A pretend guest"))]
            .into(),
        split: false,
        filename: text("demo.tar"),
    };
    [
        pool("btrfs", &[("size", "30GiB")]),
        network(&[]),
        default_profile(devices(&[ROOT, ETH0])),
        Command::ImportImage(Box::new(Import {
            project: text("default"),
            facts,
            properties: Config::new(),
            public: false,
            auto_update: false,
            profiles: Vec::new(),
            aliases: vec![(text("demo"), text("A pretend guest, in no time"))],
            node: None,
        })),
    ]
}
