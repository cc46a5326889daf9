//! The driver keeps the laws of its port, on both kinds of roots.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use stapes_core::{
    port::{
        guest::{
            Guests,
            laws::{self, Ground},
        },
        storage::RootLayers,
    },
    spec::GuestSpec,
};

use crate::host::{Host, Kind, has_criu};

struct Real {
    host: Host,
    kind: Kind,
}

#[async_trait]
impl Ground for Real {
    async fn guests(&mut self) -> Arc<dyn Guests> {
        self.host = Host::new(self.kind);
        self.host.driver()
    }

    async fn restarted(&mut self) -> Arc<dyn Guests> {
        self.host.driver()
    }

    fn images(&mut self) -> PathBuf {
        self.host.directory.path().join("images")
    }

    fn not_live(&self) -> Option<&str> {
        (!has_criu()).then_some("there is no CRIU")
    }

    async fn guest(&mut self) -> (GuestSpec, RootLayers) {
        self.host.busybox()
    }
}

#[tokio::test]
async fn containers_on_a_plain_root_keep_the_laws() {
    let kind = Kind::Plain;
    laws::all(&mut Real { host: Host::new(kind), kind }).await;
}

#[tokio::test]
async fn containers_on_an_overlay_keep_the_laws() {
    let kind = Kind::Overlay;
    laws::all(&mut Real { host: Host::new(kind), kind }).await;
}
