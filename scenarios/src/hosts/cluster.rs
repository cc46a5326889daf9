//! Three machines made one cluster by the shipped commands, and what tests ask of it.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use super::{Hosts, UPLINK};
use crate::real::{busybox_image, stapes};

/// How long the cluster may take for what it does by itself.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

impl Hosts {
    /// Starts every daemon and makes them one cluster with a log on all: the first is initialised,
    /// founds it and hands out tokens, the others join.
    ///
    /// # Panics
    /// When one of the commands fails.
    pub async fn form_cluster(&mut self) {
        for host in &mut self.hosts {
            host.start().await;
        }
        self.hosts[0].stapes(&["init", "--auto"]);
        if !self.hosts[0].is_simulated() {
            let uplink = format!("bridge.external_interfaces={UPLINK}");
            self.hosts[0].stapes(&["network", "set", "stapesbr0", &uplink]);
        }
        let listens = self.hosts[0].listens();
        self.hosts[0].stapes(&["cluster", "enable", "n1", "--address", &listens]);
        for number in 1..self.hosts.len() {
            self.hosts[0].serves().await;
            let name = self.hosts[number].name.clone();
            let token = self.hosts[0].stapes(&["cluster", "token", &name]);
            let listens = self.hosts[number].listens();
            let joined = ["cluster", "join", token.trim(), "--address", &listens];
            self.hosts[number].stapes(&joined);
            self.hosts[number].serves().await;
        }
        for host in &mut self.hosts {
            host.serves().await;
        }
    }

    /// Waits until the log is kept by all machines: from then on any one may be missed.
    pub async fn log_is_on_all(&self) {
        let wanted = self.hosts.len() as u64;
        self.wait_for("the log is on all machines", async || {
            let cluster: serde_json::Value =
                self.hosts[0].client().get("/1.0/cluster").await.unwrap_or_default();
            cluster["health"]["replicas"] == wanted
                && cluster["health"]["servers_answering"] == wanted
        })
        .await;
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// When it does not become so in time; with what the daemons said.
    pub async fn wait_for(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let since = Instant::now();
        while !is_so().await {
            let said =
                || self.hosts.iter().map(|host| format!("{}:\n{}\n", host.name, host.said()));
            assert!(
                since.elapsed() < SETTLED_WITHIN,
                "not in time: {what}\n{}",
                said().collect::<String>()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Imports an image from its file under an alias.
    pub fn import(&self, at: usize, file: &std::path::Path, alias: &str) {
        let file = file.to_str().expect("a plain path");
        self.hosts[at].stapes(&["image", "import", file, "--alias", alias]);
    }
}

/// A busybox guest's image.
#[must_use]
pub fn busybox() -> PathBuf {
    busybox_image()
}

/// A Debian 12 guest's image: from `STAPES_TEST_CACHE`, or built there once.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn debian() -> PathBuf {
    let cache = std::env::var_os("STAPES_TEST_CACHE").map_or_else(
        || busybox_image().parent().expect("it lies in a directory").to_owned(),
        PathBuf::from,
    );
    let file = cache.join("stapes-debian-12.tar.zst");
    if !file.exists() {
        let staging = tempfile::tempdir_in(&cache).expect("a directory to build in");
        let mut build = Command::new(stapes());
        build.args(["image", "build", "debian/12", "--output"]).arg(staging.path());
        super::namespace::done(&mut build);
        let made = std::fs::read_dir(staging.path()).expect("it is there").next();
        let made = made.expect("an image was made").expect("it can be read").path();
        std::fs::rename(made, &file).expect("it is named");
    }
    file
}
