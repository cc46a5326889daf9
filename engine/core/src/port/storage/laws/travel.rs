//! Snapshots and images go from one storage to another through pipes, whole or not at all.
//!
//! One storage plays both sides here: a stream is received as a snapshot of another volume.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
};

use super::{Law, STEPS_MAX, image, not_found};
use crate::{
    ids::{SnapshotId, VolumeId},
    port::DriverError,
    spec::RootSource,
};

/// More than a pipe and all buffers on the way hold.
const LARGE_BYTES: usize = 4 << 20;

impl Law<'_> {
    pub(super) async fn roots_travel(&self) {
        self.a_volume_travels_in_rounds().await;
        self.interrupted_arrivals_converge().await;
        self.broken_streams_leave_nothing().await;
        self.a_gone_reader_stops_the_sender().await;
        self.an_unpacked_image_travels().await;
    }

    async fn a_volume_travels_in_rounds(&self) {
        let [here, there] = ["here", "there"].map(|name| VolumeId::derive(&["travel", name]));
        let rounds = [1, 2].map(|round: u8| SnapshotId::derive(&["round", &round.to_string()]));
        self.create_from_image(here).await;
        self.write(here, "kept", b"kept").await;
        self.write(here, "changed", b"old").await;
        self.snapshot(here, rounds[0]).await;
        self.travel(here, there, rounds[0], None).await;
        // It is listed, and is no root yet.
        assert!(self.volumes().await.contains(&there));
        not_found(self.storage.root_layers(self.pool, there, None).await);
        not_found(self.storage.create_snapshot(self.pool, there, rounds[1]).await);
        self.write(here, "changed", b"new").await;
        self.write(here, "large", &vec![7; LARGE_BYTES]).await;
        self.snapshot(here, rounds[1]).await;
        self.travel(here, there, rounds[1], Some(rounds[0])).await;
        let mut found = self.storage.snapshots(self.pool, there).await.expect("snapshots");
        found.sort();
        let mut expected = rounds.to_vec();
        expected.sort();
        assert_eq!(found, expected);
        let arrived = |round| RootSource::Volume {
            volume: there,
            snapshot: Some(round),
            image: Some(image()),
        };
        self.create(there, &arrived(rounds[1])).await;
        self.expect(there, "kept", Some(b"kept")).await;
        self.expect(there, "changed", Some(b"new")).await;
        self.expect(there, "large", Some(&vec![7; LARGE_BYTES])).await;
        self.write(there, "kept", b"own").await;
        self.expect(here, "kept", Some(b"kept")).await;
        // The source may go; what arrived is of its own.
        self.delete(here).await;
        let at = self.request();
        for _ in 0..2 {
            let source = arrived(rounds[0]);
            let replaced = self.storage.replace_root(self.pool, there, &source, None, at).await;
            replaced.expect("the root is replaced");
            self.expect(there, "changed", Some(b"old")).await;
            self.expect(there, "large", None).await;
        }
        for round in rounds {
            let gone = self.storage.delete_snapshot(self.pool, there, round).await;
            gone.expect("the snapshot is deleted");
        }
        self.expect(there, "changed", Some(b"old")).await;
        let at = self.request();
        not_found(self.storage.restore_snapshot(self.pool, there, rounds[1], at).await);
        self.delete(there).await;
        assert_eq!(self.volumes().await, []);
    }

    /// Each arrival is killed after its first step, its second ... and repeated each time.
    async fn interrupted_arrivals_converge(&self) {
        let [here, there] = ["here", "there"].map(|name| VolumeId::derive(&["killed", name]));
        let rounds = [1, 2].map(|round: u8| SnapshotId::derive(&["killed", &round.to_string()]));
        self.create_from_image(here).await;
        self.write(here, "a", b"one").await;
        self.snapshot(here, rounds[0]).await;
        self.write(here, "a", b"two").await;
        self.snapshot(here, rounds[1]).await;
        let [first, second] = [
            self.capture(here, rounds[0], None).await,
            self.capture(here, rounds[1], Some(rounds[0])).await,
        ];
        self.delete(here).await;
        let (storage, pool) = (self.storage, self.pool);
        for (stream, round, parent) in
            [(first, rounds[0], None), (second, rounds[1], Some(rounds[0]))]
        {
            self.persist(async || {
                let from = feed(stream.clone());
                storage.receive(pool, there, round, parent, from).await.map(|_| ())
            })
            .await;
        }
        let arrived =
            |round| RootSource::Volume { volume: there, snapshot: Some(round), image: None };
        let [one, two] = rounds.map(arrived);
        self.persist(|| storage.create_root(pool, there, &two, None)).await;
        self.expect(there, "a", Some(b"two")).await;
        let at = self.request();
        self.persist(|| storage.replace_root(pool, there, &one, None, at)).await;
        self.expect(there, "a", Some(b"one")).await;
        self.persist(|| storage.delete_volume(pool, there)).await;
        assert_eq!(self.volumes().await, []);
    }

    async fn broken_streams_leave_nothing(&self) {
        let [here, there] = ["here", "there"].map(|name| VolumeId::derive(&["broken", name]));
        let [one, two] = ["1", "2"].map(|name| SnapshotId::derive(&["broken", name]));
        let (storage, pool) = (self.storage, self.pool);
        self.create_from_image(here).await;
        self.write(here, "a", b"content").await;
        self.snapshot(here, one).await;
        self.snapshot(here, two).await;
        let whole = self.capture(here, one, None).await;
        let cuts = [0, 4, 20, whole.len() / 4, whole.len() / 2, whole.len() - 1];
        for cut in cuts {
            let from = feed(whole[..cut].to_vec());
            let answer = storage.receive(pool, there, one, None, from).await;
            assert!(matches!(answer, Err(DriverError::Failed(_))), "{cut}: {answer:?}");
        }
        // Of another snapshot, of nobody, and on a parent that is not there.
        refused(storage.receive(pool, there, two, None, feed(whole)).await);
        refused(storage.receive(pool, there, one, None, feed(vec![b'x'; 4096])).await);
        let delta = self.capture(here, two, Some(one)).await;
        let answer = storage.receive(pool, there, two, Some(one), feed(delta)).await;
        let unfit = matches!(answer, Err(DriverError::Refused(_) | DriverError::NotFound(_)));
        assert!(unfit || answer.is_ok(), "a pool without differences sends all: {answer:?}");
        if unfit {
            assert_eq!(self.volumes().await, [here]);
        }
        let source = RootSource::Volume { volume: there, snapshot: Some(one), image: None };
        not_found(storage.create_root(pool, there, &source, None).await);
        not_found(storage.send(pool, there, one, None, sink()).await);
        not_found(storage.send(pool, here, one, Some(SnapshotId::derive(&["no"])), sink()).await);
        self.delete(there).await;
        self.delete(here).await;
    }

    async fn a_gone_reader_stops_the_sender(&self) {
        let volume = VolumeId::derive(&["unread"]);
        let snapshot = SnapshotId::derive(&["unread"]);
        self.create_from_image(volume).await;
        self.write(volume, "large", &vec![7; LARGE_BYTES]).await;
        self.snapshot(volume, snapshot).await;
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        let mut reader = File::from(OwnedFd::from(reader));
        let send = self.storage.send(self.pool, volume, snapshot, None, writer.into());
        let read = tokio::task::spawn_blocking(move || {
            let mut some = [0; 1000];
            reader.read_exact(&mut some).map(drop)
        });
        let (sent, read) = tokio::join!(send, read);
        read.expect("it does not panic").expect("something came");
        assert!(matches!(sent, Err(DriverError::Failed(_))), "{sent:?}");
        self.delete(volume).await;
    }

    async fn an_unpacked_image_travels(&self) {
        let (storage, pool, image) = (self.storage, self.pool, image());
        let volume = VolumeId::derive(&["travelled image"]);
        storage.ensure_image(pool, &image).await.expect("the image is unpacked");
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        let (sent, stream) =
            tokio::join!(storage.send_image(pool, &image, writer.into()), drain(reader.into()));
        assert_eq!(sent, Ok(stream.len() as u64));
        storage.remove_image(pool, &image).await.expect("the image is removed");
        assert_eq!(storage.has_image(pool, &image).await, Ok(false));
        not_found(storage.send_image(pool, &image, sink()).await);
        let half = feed(stream[..stream.len() / 2].to_vec());
        let answer = storage.receive_image(pool, &image, half).await;
        assert!(matches!(answer, Err(DriverError::Failed(_))), "{answer:?}");
        refused(storage.receive_image(pool, &image, feed(vec![b'x'; 4096])).await);
        assert_eq!(storage.has_image(pool, &image).await, Ok(false));
        self.persist(async || {
            storage.receive_image(pool, &image, feed(stream.clone())).await.map(|_| ())
        })
        .await;
        assert_eq!(storage.has_image(pool, &image).await, Ok(true));
        self.create(volume, &RootSource::Image(image.clone())).await;
        self.expect(volume, super::IMAGE_FILE, Some(image.as_str().as_bytes())).await;
        self.delete(volume).await;
    }

    /// Sends and receives at once. The second time nothing is read.
    async fn travel(
        &self,
        here: VolumeId,
        there: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
    ) {
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        let (sent, received) = tokio::join!(
            self.storage.send(self.pool, here, snapshot, parent, writer.into()),
            self.storage.receive(self.pool, there, snapshot, parent, reader.into()),
        );
        let received = received.expect("it arrives");
        assert_eq!(sent, Ok(received));
        let again =
            self.storage.receive(self.pool, there, snapshot, parent, feed(Vec::new())).await;
        assert_eq!(again, Ok(0));
    }

    async fn capture(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
        parent: Option<SnapshotId>,
    ) -> Vec<u8> {
        let (reader, writer) = std::io::pipe().expect("there are pipes");
        let (sent, stream) = tokio::join!(
            self.storage.send(self.pool, volume, snapshot, parent, writer.into()),
            drain(reader.into()),
        );
        assert_eq!(sent, Ok(stream.len() as u64));
        assert!(stream.len() > STEPS_MAX as usize);
        stream
    }
}

/// A pipe out of which these bytes come, and then the end.
fn feed(bytes: Vec<u8>) -> OwnedFd {
    let (reader, mut writer) = std::io::pipe().expect("there are pipes");
    // Whoever reads may stop early.
    tokio::task::spawn_blocking(move || drop(writer.write_all(&bytes)));
    reader.into()
}

async fn drain(from: OwnedFd) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        File::from(from).read_to_end(&mut bytes).map(|_| bytes)
    };
    let read = tokio::task::spawn_blocking(read).await.expect("it does not panic");
    read.expect("a pipe can be read")
}

/// A pipe that nobody reads.
fn sink() -> OwnedFd {
    std::io::pipe().expect("there are pipes").1.into()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, DriverError>) {
    assert!(matches!(answer, Err(DriverError::Refused(_))), "{answer:?}");
}
