//! The port's laws on the real drivers.

use stapes_core::port::storage::laws;

use crate::host::{Host, Kind};

#[tokio::test]
async fn btrfs_obeys_the_laws() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Btrfs);
    laws::all(&host).await;
    host.ground.assert_empty();
}

#[tokio::test]
async fn dir_obeys_the_laws() {
    let _alone = crate::host::alone().await;
    let host = Host::new(Kind::Dir);
    laws::all(&host).await;
    host.ground.assert_empty();
}
