//! TLS of a node: its certificate, the cluster's authority, and who is at the other end.
//!
//! A client may show any certificate or none: remote users have self-signed ones that the trust store
//! knows by fingerprint, members have one that the cluster's authority signed. The handshake proves
//! that the client holds the key; [`PeerCertificate`] says what that means, and handlers decide.
//! Servers are checked the usual way, by the authority and the node's name in the certificate.
//!
//! TLS 1.3 only, as the dialect's clients speak. rustls because it is safe Rust and the ecosystem's
//! choice, with ring as everywhere in this program.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::WebPkiServerVerifier,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest, Sha256};
use stapes_core::ids::{Fingerprint, NodeId};

mod listener;
mod stall;
mod verify;

pub use listener::TlsListener;
pub use stall::Impatient;
pub(crate) use stall::STALL;

/// Of a node's name in its certificate: `node-<uuid>.stapes`.
const NODE_PREFIX: &str = "node-";
const NODE_SUFFIX: &str = ".stapes";
/// What both sides say they will speak.
const ALPN: &[u8] = b"http/1.1";

/// Where the parts are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, then those that lead to the authority if any do.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The cluster authority's certificate; a node without a cluster has none.
    pub authority: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: pem::Error },
    #[error("{0} holds no certificate in PEM")]
    Empty(PathBuf),
    #[error("the certificate and the key do not fit TLS: {0}")]
    Unfit(#[from] rustls::Error),
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
}

/// What a node needs to be a server and a client. Cheap to clone.
#[derive(Clone)]
pub struct TlsConfig {
    server: Arc<ServerConfig>,
    authority: Option<Authority>,
}

/// What the cluster's authority makes possible.
#[derive(Clone)]
struct Authority {
    /// Who chains to it.
    members: Arc<dyn ClientCertVerifier>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("cluster", &self.authority.is_some()).finish()
    }
}

/// The certificate that the other side of a connection showed, and proved to hold the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The sha256 of the certificate, as the dialect shows it.
    pub fingerprint: Fingerprint,
    /// Which node it is, when the cluster's authority says so. It may have left the cluster since.
    pub node: Option<NodeId>,
    pub der: Arc<[u8]>,
}

impl TlsConfig {
    /// # Errors
    /// When a file is missing or does not hold what it must, or they do not fit each other.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key);
        let key = key.map_err(|source| TlsError::Unreadable { path: files.key.clone(), source })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = match &files.authority {
            Some(path) => {
                Some(Authority::new(&provider, certificates(path)?, &chain, key.clone_key())?)
            }
            None => None,
        };
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verify::AnyClient::new(provider)))
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { server: Arc::new(server), authority })
    }

    fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let (first, rest) = chain.split_first()?;
        let node = self.authority.as_ref().and_then(|authority| {
            let signed = authority.members.verify_client_cert(first, rest, UnixTime::now());
            signed.ok().and_then(|_| node_of(first))
        });
        Some(PeerCertificate { fingerprint: fingerprint(first), node, der: first.to_vec().into() })
    }

    /// For connections to other nodes; `None` without a cluster.
    pub(crate) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.authority.as_ref().map(|authority| authority.client.clone())
    }
}

impl Authority {
    fn new(
        provider: &Arc<CryptoProvider>,
        authority: Vec<CertificateDer<'static>>,
        chain: &[CertificateDer<'static>],
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in authority {
            roots.add(certificate)?;
        }
        let roots = Arc::new(roots);
        let members =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let servers =
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(chain.to_vec(), key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection proves again who is there: a session of before a removal is worth nothing.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { members, client: Arc::new(client) })
    }
}

/// The name that a node's certificate must have.
pub(crate) fn name_of(node: NodeId) -> ServerName<'static> {
    let name = format!("{NODE_PREFIX}{node}{NODE_SUFFIX}");
    ServerName::try_from(name).expect("a uuid between two words is a host name")
}

/// The node that the certificate names.
fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate
        .valid_dns_names()
        .find_map(|name| name.strip_prefix(NODE_PREFIX)?.strip_suffix(NODE_SUFFIX)?.parse().ok())
}

fn fingerprint(der: &[u8]) -> Fingerprint {
    let hex: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
    Fingerprint::new(hex).expect("a sha256 is 64 hexadecimal digits")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(found) }
}

/// What rustls had against the other side, if that is why a connection failed.
pub(crate) fn refusal(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}
