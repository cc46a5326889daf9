//! What a snapshot keeps comes back, and so does an image: whole, and once for a request.

use super::{IMAGE_FILE, Law, STEPS_MAX, image, not_found};
use crate::{
    ids::{SnapshotId, VolumeId},
    spec::RootSource,
};

impl Law<'_> {
    pub(super) async fn contents_come_back(&self) {
        self.snapshots_keep_and_bring_back().await;
        self.a_replaced_root_keeps_its_snapshots().await;
        self.a_request_replaces_content_once().await;
        self.an_interrupted_restore_is_old_or_new().await;
    }

    async fn snapshots_keep_and_bring_back(&self) {
        let volume = VolumeId::derive(&["snapshots"]);
        let [one, two] = [SnapshotId::derive(&["1"]), SnapshotId::derive(&["2"])];
        self.create_from_image(volume).await;
        self.write(volume, "a", b"one").await;
        self.snapshot(volume, one).await;
        self.write(volume, "a", b"two").await;
        self.write(volume, "b", b"new").await;
        // Taking it again must not take what is there now.
        self.snapshot(volume, one).await;
        self.snapshot(volume, two).await;
        self.restore(volume, one).await;
        self.expect(volume, "a", Some(b"one")).await;
        self.expect(volume, "b", None).await;
        self.expect(volume, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
        // A restored volume can be written, and the snapshot does not notice.
        self.write(volume, "a", b"three").await;
        self.restore(volume, two).await;
        self.expect(volume, "a", Some(b"two")).await;
        self.expect(volume, "b", Some(b"new")).await;
        self.restore(volume, one).await;
        self.expect(volume, "a", Some(b"one")).await;
        for _ in 0..2 {
            let gone = self.storage.delete_snapshot(self.pool, volume, one).await;
            gone.expect("the snapshot is deleted");
        }
        let request = self.request();
        not_found(self.storage.restore_snapshot(self.pool, volume, one, request).await);
        self.expect(volume, "a", Some(b"one")).await;
        // Deleting the volume takes the snapshots along: they are not there for a successor.
        self.delete(volume).await;
        self.create(volume, &RootSource::Empty).await;
        not_found(self.storage.restore_snapshot(self.pool, volume, two, request).await);
        self.delete(volume).await;
    }

    async fn a_replaced_root_keeps_its_snapshots(&self) {
        let [volume, other] = ["replaced", "replacement"].map(|name| VolumeId::derive(&[name]));
        let snapshot = SnapshotId::derive(&["before"]);
        self.create_from_image(volume).await;
        self.write(volume, "mine", b"old").await;
        self.snapshot(volume, snapshot).await;
        self.create(other, &RootSource::Empty).await;
        self.write(other, "mine", b"new").await;
        let copy = RootSource::Volume { volume: other, snapshot: None, image: None };
        for (source, mine) in [(copy, Some(&b"new"[..])), (RootSource::Image(image()), None)] {
            let at = self.request();
            for _ in 0..2 {
                let replaced = self.storage.replace_root(self.pool, volume, &source, None, at);
                replaced.await.expect("the root is replaced");
            }
            self.expect(volume, "mine", mine).await;
        }
        self.restore(volume, snapshot).await;
        self.expect(volume, "mine", Some(b"old")).await;
        self.delete(volume).await;
        self.delete(other).await;
    }

    /// What comes again after the guest went on must not throw away what it wrote.
    async fn a_request_replaces_content_once(&self) {
        let [volume, copy] = [VolumeId::derive(&["once"]), VolumeId::derive(&["once", "copy"])];
        let snapshot = SnapshotId::derive(&["once"]);
        let (storage, pool) = (self.storage, self.pool);
        self.create_from_image(volume).await;
        self.write(volume, "a", b"then").await;
        self.snapshot(volume, snapshot).await;
        let source = RootSource::Volume { volume, snapshot: Some(snapshot), image: None };
        let requests = [self.request(), self.request()];
        for (at, content) in requests.into_iter().zip([b"one", b"two"]) {
            let back = storage.restore_snapshot(pool, volume, snapshot, at).await;
            back.expect("the snapshot is restored");
            self.expect(volume, "a", Some(b"then")).await;
            self.write(volume, "a", content).await;
            for late in requests.into_iter().filter(|late| *late <= at) {
                let back = storage.restore_snapshot(pool, volume, snapshot, late).await;
                back.expect("it was done");
                let replaced = storage.replace_root(pool, volume, &source, None, late).await;
                replaced.expect("it was done");
            }
            self.expect(volume, "a", Some(content)).await;
        }
        // A copy is another's: what was asked for there says nothing here.
        self.create(copy, &RootSource::Volume { volume, snapshot: None, image: None }).await;
        self.snapshot(copy, snapshot).await;
        self.write(copy, "a", b"new").await;
        let back = storage.restore_snapshot(pool, copy, snapshot, requests[0]).await;
        back.expect("the snapshot is restored");
        self.expect(copy, "a", Some(b"two")).await;
        self.delete(copy).await;
        self.delete(volume).await;
    }

    /// However early or late a restore is killed, there is a volume with one content or the other.
    async fn an_interrupted_restore_is_old_or_new(&self) {
        let volume = VolumeId::derive(&["restore"]);
        let snapshot = SnapshotId::derive(&["restore"]);
        self.create_from_image(volume).await;
        self.write(volume, "a", b"new").await;
        self.snapshot(volume, snapshot).await;
        let mut through = false;
        for steps in 0..STEPS_MAX {
            self.write(volume, "a", b"old").await;
            self.subject.interrupt_after(Some(steps));
            let at = self.request();
            through = self.storage.restore_snapshot(self.pool, volume, snapshot, at).await.is_ok();
            self.subject.interrupt_after(None);
            let content = self.subject.read(volume, "a").await.expect("the file is there");
            assert!(content == b"old" && !through || content == b"new", "{steps}: {content:?}");
            self.expect(volume, IMAGE_FILE, Some(image().as_str().as_bytes())).await;
            if through {
                break;
            }
        }
        assert!(through, "not through after {STEPS_MAX} steps");
        self.delete(volume).await;
    }

    pub(super) async fn snapshot(&self, volume: VolumeId, snapshot: SnapshotId) {
        for _ in 0..2 {
            let made = self.storage.create_snapshot(self.pool, volume, snapshot).await;
            made.expect("the snapshot is taken");
        }
    }

    pub(super) async fn restore(&self, volume: VolumeId, snapshot: SnapshotId) {
        let at = self.request();
        for _ in 0..2 {
            let back = self.storage.restore_snapshot(self.pool, volume, snapshot, at).await;
            back.expect("the snapshot is restored");
        }
    }
}
