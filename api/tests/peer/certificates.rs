//! A cluster's authority and certificates of nodes, in files as a node has them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use stapes_api::tls::{TlsConfig, TlsFiles};
use stapes_core::ids::NodeId;
use tempfile::TempDir;

pub(crate) struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(DnType::CommonName, "stapes cluster");
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.crt"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// The node's files, which trust this authority.
    pub(crate) fn files(&self, node: NodeId) -> TlsFiles {
        self.files_that_trust(node, &self.file())
    }

    pub(crate) fn files_that_trust(&self, node: NodeId, authority: &Path) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let names = vec![format!("node-{node}.stapes"), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer);
        self.write(&node.to_string(), &certificate.unwrap().pem(), &key, Some(authority))
    }

    /// A remote user's: nobody signed it but its owner.
    pub(crate) fn self_signed(&self) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        // It may claim what it likes.
        let names = vec![format!("node-{}.stapes", node(1))];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        self.write("user", &certificate.pem(), &key, Some(&self.file()))
    }

    fn write(
        &self,
        name: &str,
        certificate: &str,
        key: &KeyPair,
        authority: Option<&Path>,
    ) -> TlsFiles {
        let at = |ending: &str| self.directory.path().join(format!("{name}.{ending}"));
        std::fs::write(at("crt"), certificate).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        TlsFiles {
            certificate: at("crt"),
            key: at("key"),
            authority: authority.map(Path::to_owned),
        }
    }

    pub(crate) fn tls(&self, node: NodeId) -> TlsConfig {
        TlsConfig::load(&self.files(node)).unwrap()
    }
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::derive(&["peer", &number.to_string()])
}
