//! Nodes for tests: an authority, certificates, addresses on loopback, and servers that are gone when
//! the test is, however it ends.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{Client, ConnectOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PublicKeyData, SanType,
};
use sha2::{Digest, Sha256};
use stapes_core::{
    ids::{CommitId, Fingerprint, NodeId, Revision, Sequence, StreamId, StreamKind},
    port::log::{AppendError, Commit, EventLog, Expected, Part},
};
use stapes_nats::{
    Authentication, ConnectConfig, Connection, JetStreamLog, LogConfig, TlsFiles,
    managed::{Beginning, ManagedConfig, ManagedServer, Peer, Role},
};
use tokio::time::Instant;
use uuid::Uuid;

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A cluster on this machine.
pub(crate) struct Farm {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) cluster: Uuid,
    authority: Issuer<'static, KeyPair>,
    nodes: Vec<Site>,
}

/// Where a node is.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) node: NodeId,
    client: SocketAddr,
    route: SocketAddr,
    key: Fingerprint,
    pub(crate) dir: PathBuf,
}

impl Farm {
    pub(crate) fn new(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = issuer("the authority");
        fs::write(dir.path().join("ca.crt"), &authority.1).unwrap();
        let ports = free_ports(nodes * 2);
        let cluster = Uuid::new_v4();
        let site = |number: usize| {
            let dir = dir.path().join(format!("n{}", number + 1));
            fs::create_dir(&dir).unwrap();
            let node = NodeId(Uuid::new_v4());
            let key = certify(&dir, &authority.0, node);
            Site { node, client: ports[number * 2], route: ports[number * 2 + 1], key, dir }
        };
        let nodes = (0..nodes).map(site).collect();
        Self { cluster, authority: authority.0, nodes, dir }
    }

    pub(crate) fn site(&self, number: usize) -> &Site {
        &self.nodes[number - 1]
    }

    /// The configuration of a node that knows the first `known` nodes.
    pub(crate) fn config(&self, number: usize, known: usize) -> ManagedConfig {
        let own = self.site(number);
        let others = self.nodes[..known].iter().filter(|site| site.node != own.node);
        ManagedConfig {
            dir: own.dir.join("nats"),
            binary: PathBuf::from("nats-server"),
            cluster: self.cluster,
            node: own.node,
            client: own.client,
            route: own.route,
            peers: others
                .map(|site| Peer {
                    node: site.node,
                    client: site.client,
                    route: site.route,
                    public_key: Some(site.key.clone()),
                })
                .collect(),
            tls: self.tls(&own.dir),
            public_key: Some(own.key.clone()),
            nodes: self.nodes[..known].iter().map(|site| site.node).collect(),
            role: Role::Keeper,
            beginning: if number == 1 { Beginning::Found } else { Beginning::Join },
            max_store_bytes: 1 << 30,
        }
    }

    pub(crate) fn tls(&self, dir: &Path) -> TlsFiles {
        TlsFiles {
            ca: self.dir.path().join("ca.crt"),
            certificate: dir.join("node.crt"),
            key: dir.join("node.key"),
        }
    }

    /// A certificate for `node` in a directory of its own, from this cluster's authority.
    pub(crate) fn certified(&self, name: &str, node: NodeId) -> TlsFiles {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        certify(&dir, &self.authority, node);
        self.tls(&dir)
    }

    /// The same, from another authority.
    pub(crate) fn forged(&self, name: &str, node: NodeId) -> TlsFiles {
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        certify(&dir, &issuer("the authority").0, node);
        self.tls(&dir)
    }

    pub(crate) fn stream(&self) -> String {
        format!("STAPES_{}", self.cluster.simple())
    }

    pub(crate) fn subject(&self, rest: &str) -> String {
        format!("e.{}.{rest}", self.cluster.simple())
    }
}

impl Drop for Farm {
    /// Kills what still runs by the records that it left, servers and their companions.
    fn drop(&mut self) {
        for site in &self.nodes {
            for record in ["nats/process.json", "nats/companion/process.json"] {
                if let Some(pid) = recorded(&site.dir.join(record)) {
                    kill(pid);
                }
            }
        }
    }
}

/// The process of a node's server, by its record, if it still runs on that configuration.
pub(crate) fn recorded(record: &Path) -> Option<i32> {
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(record).ok()?).ok()?;
    let pid = i32::try_from(json["pid"].as_i64()?).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = String::from_utf8_lossy(&line).contains(json["config"].as_str()?);
    ours.then_some(pid)
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

impl Site {
    pub(crate) fn pid(&self) -> i32 {
        recorded(&self.dir.join("nats/process.json")).expect("the server runs")
    }
}

fn issuer(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Writes a key and its certificate; returns the key's fingerprint.
fn certify(dir: &Path, authority: &Issuer<'static, KeyPair>, node: NodeId) -> Fingerprint {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.to_string());
    let name = format!("node-{node}.stapes");
    let loopback = SanType::IpAddress([127, 0, 0, 1].into());
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap()), loopback];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let pem = params.signed_by(&key, authority).unwrap().pem();
    fs::write(dir.join("node.crt"), pem).unwrap();
    fs::write(dir.join("node.key"), key.serialize_pem()).unwrap();
    let digest = Sha256::digest(key.subject_public_key_info());
    Fingerprint::new(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()).unwrap()
}

/// Ports that nobody uses, held together while they are chosen so that they differ.
fn free_ports(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// Connects as the configuration says.
pub(crate) async fn connect(config: &ConnectConfig) -> Result<Client, async_nats::ConnectError> {
    let mut options = ConnectOptions::new().name(&config.name).require_tls(true);
    if let Authentication::Nkey(path) = &config.authentication {
        options = options.nkey(fs::read_to_string(path).unwrap());
    }
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(files) = &config.tls {
        options = options
            .add_root_certificates(files.ca.clone())
            .add_client_certificate(files.certificate.clone(), files.key.clone());
    }
    options.connect(config.servers.clone()).await
}

/// The log as this node has it, with the rights of a node.
pub(crate) async fn log(farm: &Farm, server: &ManagedServer) -> JetStreamLog {
    opened(farm, server.connection()).await
}

/// The log as it is made and changed.
pub(crate) async fn kept_log(farm: &Farm, server: &ManagedServer) -> JetStreamLog {
    opened(farm, server.keeper_connection()).await
}

async fn opened(farm: &Farm, config: ConnectConfig) -> JetStreamLog {
    let connection = Connection::open(config).await.unwrap();
    JetStreamLog::open(connection, LogConfig::new(farm.cluster, 1)).await.unwrap()
}

fn commit(number: u64) -> Commit {
    let stream = StreamId::new(StreamKind::Instance, Uuid::from_u128(1));
    let expected = Expected::Exact(Revision(number));
    let payload = number.to_string().into();
    let id = CommitId::derive(&["managed", &number.to_string()]);
    Commit { id, parts: vec![Part { stream, expected, payload }] }
}

/// Appends numbered commits, each until it is acknowledged; by its id it is stored once.
pub(crate) async fn append(log: &JetStreamLog, numbers: Range<u64>) {
    for number in numbers {
        let until = Instant::now() + SOON;
        while let Err(error) = log.append(commit(number)).await {
            let waits =
                matches!(error, AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_));
            assert!(waits && Instant::now() < until, "commit {number}: {error}");
        }
    }
}

/// All commits are there, once each and in order.
pub(crate) async fn check(log: &JetStreamLog, count: u64) {
    assert_eq!(log.head().await.unwrap(), Sequence(count));
    let records = log.read(Sequence(1), usize::MAX).await.unwrap();
    let wanted: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    let found: Vec<_> =
        records.iter().map(|record| String::from_utf8_lossy(&record.payload)).collect();
    assert_eq!(found, wanted);
}
