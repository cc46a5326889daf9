//! Certificates as they are read: what they say, and whether the authority signed it.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};
use stapes_core::ids::{Fingerprint, NodeId};
use uuid::Uuid;
use x509_parser::{certificate::X509Certificate, pem::Pem, prelude::FromDer, x509::X509Name};

use super::IdentityError;

/// The name of a node among the cluster's certificates; the log's servers know their users by it.
pub(super) fn node_host(node: NodeId) -> String {
    format!("node-{node}.stapes")
}

/// A request that says which node it is for; everything else is up to who signs.
pub(super) fn request_of(key: &KeyPair, node: NodeId) -> Result<String, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.to_string());
    Ok(params.serialize_request(key)?.pem()?)
}

/// The certificate of a node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCertificate {
    cluster: Uuid,
    node: NodeId,
    fingerprint: Fingerprint,
    public_key_fingerprint: Fingerprint,
    pem: String,
}

impl NodeCertificate {
    /// Reads what the certificate says. That says nothing about who signed it.
    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        let der = der_of(pem)?;
        Self::from_der(&der).map(|found| Self { pem: pem.to_owned(), ..found })
    }

    fn from_der(der: &[u8]) -> Result<Self, String> {
        let certificate = parse(der)?;
        let subject = certificate.subject();
        let read = |found: Option<&str>, what: &str| {
            found
                .and_then(|text| Uuid::parse_str(text).ok())
                .ok_or_else(|| format!("its subject does not name a {what}"))
        };
        Ok(Self {
            cluster: read(organization(subject), "cluster")?,
            node: NodeId(read(common_name(subject), "node")?),
            fingerprint: fingerprint(der),
            public_key_fingerprint: fingerprint(certificate.public_key().raw),
            pem: String::new(),
        })
    }

    #[must_use]
    pub fn cluster(&self) -> Uuid {
        self.cluster
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The sha256 of the certificate, as the dialect shows certificates.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The sha256 of the public key: what outlives a renewal, and what the log's servers pin.
    #[must_use]
    pub fn public_key_fingerprint(&self) -> &Fingerprint {
        &self.public_key_fingerprint
    }

    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// The certificate of a cluster's authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthorityCertificate {
    der: Vec<u8>,
    public_key: Vec<u8>,
    fingerprint: Fingerprint,
    pem: String,
}

impl AuthorityCertificate {
    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        let der = der_of(pem)?;
        let certificate = parse(&der)?;
        if !certificate.is_ca() {
            return Err("it is not the certificate of an authority".to_owned());
        }
        let public_key = certificate.public_key().raw.to_vec();
        Ok(Self { public_key, fingerprint: fingerprint(&der), pem: pem.to_owned(), der })
    }

    /// The node certificate in `pem`, if this authority signed it for `key` in `cluster`.
    pub(super) fn verify(
        &self,
        pem: &str,
        cluster: Uuid,
        key: &str,
    ) -> Result<NodeCertificate, String> {
        let read = NodeCertificate::parse(pem)?;
        let der = der_of(pem)?;
        let (certificate, authority) = (parse(&der)?, parse(&self.der)?);
        certificate
            .verify_signature(Some(authority.public_key()))
            .map_err(|_| "another authority signed it, or it was changed".to_owned())?;
        if read.cluster != cluster {
            return Err(format!("it is for cluster {}, not {cluster}", read.cluster));
        }
        let key = KeyPair::from_pem(key).map_err(|error| format!("the node's key: {error}"))?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return Err("it was made for another key".to_owned());
        }
        Ok(read)
    }

    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}

fn der_of(pem: &str) -> Result<Vec<u8>, String> {
    let block = Pem::iter_from_buffer(pem.as_bytes()).next();
    match block {
        Some(Ok(block)) if block.label == "CERTIFICATE" => Ok(block.contents),
        Some(_) | None => Err("it does not begin with a certificate in PEM".to_owned()),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("something follows the certificate".to_owned()),
        Err(error) => Err(format!("not a certificate: {error}")),
    }
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().next().and_then(|value| value.as_str().ok())
}

fn organization<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_organization().next().and_then(|value| value.as_str().ok())
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Fingerprint::new(hex).expect("a sha256 is 64 hexadecimal digits")
}
