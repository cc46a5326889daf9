//! Who a node of a cluster is: the cluster's certificate authority, the node's key and certificate.
//!
//! ```text
//!  founder: found ──► <dir>/cluster/{ca.crt, ca.key, node.crt, node.key}
//!  joiner:  request ─(signing request)─► admit, at a member that holds ca.key
//!           install ◄─(admission)───────┘   after the token's fingerprint proved the authority
//! ```
//!
//! One authority a cluster signs one certificate a node, and the same certificate serves the API,
//! the log's servers and their clients: a member is whoever holds a certificate of the authority
//! *and* is a member in the log. A certificate alone proves which node speaks, never that it may.
//!
//! A node's key never leaves it. The authority's key goes to another member only when asked for
//! ([`AuthorityKey::Shared`]): who holds it can make any node's certificate, and when the last holder
//! is lost nobody can be admitted any more, so a cluster wants it in few places and not in one.
//!
//! The directory appears whole or not at all: it is made as `cluster.new` and renamed.

mod authority;
mod certificate;
mod files;
mod token;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};
use stapes_core::ids::{Fingerprint, NodeId};
use uuid::Uuid;

use self::{
    authority::Authority,
    certificate::{AuthorityCertificate, request_of},
    files::Directory,
};
pub use self::{
    certificate::NodeCertificate,
    files::IdentityFiles,
    token::{JoinToken, Secret, SecretHash, TokenError, hash_secret},
};

/// What a node's certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub cluster: Uuid,
    pub node: NodeId,
    /// IP addresses and host names under which others reach the node, without ports.
    pub hosts: Vec<String>,
}

/// What a joiner needs to become a member, besides the key that it has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// The authority's key, PEM, when the new member is to admit others too.
    pub authority_key: Option<String>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("certificate", &self.certificate)
            .field("authority_key", &self.authority_key.as_ref().map(|_| "(secret)"))
            .finish_non_exhaustive()
    }
}

/// Whether an admitted node gets the authority's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityKey {
    Kept,
    Shared,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{0} is there: this node has an identity in a cluster already, and nothing was changed; to \
         leave that cluster remove the node from it first"
    )]
    AlreadyMember(PathBuf),
    #[error("{0} is not there: this node is in no cluster; found one or join one first")]
    NotAMember(PathBuf),
    #[error(
        "this node does not hold the cluster authority's key, so it can sign no certificate: ask a \
         member that has {0}"
    )]
    NoAuthorityKey(PathBuf),
    #[error(
        "{0:?} cannot stand in a node's certificate: give IP addresses or host names, without ports, \
         none under .stapes"
    )]
    BadHost(String),
    #[error("not a request for node {node}'s certificate: {reason}")]
    BadRequest { node: NodeId, reason: String },
    /// What came as an answer to a join is not what was asked for; nothing was installed.
    #[error("the admission is not for this node, and was not installed: {0}")]
    BadAdmission(String),
    #[error("{path} is damaged: {reason}; restore it, or remove the node and join again")]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("{what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The identity of this node in its cluster, as its directory holds it.
#[derive(Debug)]
pub struct ClusterIdentity {
    directory: Directory,
    authority: AuthorityCertificate,
    /// With the authority's key: this node can sign.
    signer: Option<Authority>,
    certificate: NodeCertificate,
}

impl ClusterIdentity {
    /// Makes a cluster's authority and the certificate of its first node, below `dir`.
    ///
    /// # Errors
    /// When this node has an identity already, when a host cannot stand in a certificate, or when
    /// the files cannot be written.
    pub fn found(dir: &Path, member: &Member, now: DateTime<Utc>) -> Result<Self, IdentityError> {
        let directory = Directory::new(dir);
        let fresh = directory.begin()?;
        let authority = Authority::generate(member.cluster, now)?;
        let key = KeyPair::generate()?;
        let certificate = authority.sign(&key, member, now)?;
        fresh.write(IdentityFiles::AUTHORITY_KEY, &authority.key_pem())?;
        fresh.write(IdentityFiles::AUTHORITY, authority.certificate().pem())?;
        fresh.write(IdentityFiles::KEY, &key.serialize_pem())?;
        fresh.write(IdentityFiles::CERTIFICATE, &certificate)?;
        fresh.finish()?;
        Self::open(dir)
    }

    /// What a joiner sends to a member: a signing request (PEM) for a key that is made here, kept
    /// here, and made once however often this is asked.
    ///
    /// # Errors
    /// When this node has an identity already, or when the key cannot be written.
    pub fn request(dir: &Path, node: NodeId) -> Result<String, IdentityError> {
        let fresh = Directory::new(dir).begin()?;
        let key = match fresh.read(IdentityFiles::KEY)? {
            Some(pem) => KeyPair::from_pem(&pem)?,
            None => {
                let key = KeyPair::generate()?;
                fresh.write(IdentityFiles::KEY, &key.serialize_pem())?;
                key
            }
        };
        request_of(&key, node)
    }

    /// Takes what a member answered to [`Self::request`]. `trusted` is the fingerprint of the
    /// authority as the join token told it; nothing is believed before it agrees.
    ///
    /// # Errors
    /// When the answer does not fit the token, this node or its key; nothing is installed then, and
    /// the join can be tried again.
    pub fn install(
        dir: &Path,
        member: &Member,
        admission: &Admission,
        trusted: &Fingerprint,
    ) -> Result<Self, IdentityError> {
        let directory = Directory::new(dir);
        let fresh = directory.begin()?;
        let bad = IdentityError::BadAdmission;
        let key = fresh.read(IdentityFiles::KEY)?.ok_or_else(|| {
            bad("this node asked for no certificate: join again from the start".to_owned())
        })?;
        let authority = AuthorityCertificate::parse(&admission.authority).map_err(bad)?;
        if authority.fingerprint() != trusted {
            return Err(bad(format!(
                "the cluster's authority has the fingerprint {}, and the join token says {trusted}",
                authority.fingerprint()
            )));
        }
        let certificate =
            authority.verify(&admission.certificate, member.cluster, &key).map_err(bad)?;
        if certificate.node() != member.node {
            let told = certificate.node();
            return Err(bad(format!("it is for node {told}, and this is {}", member.node)));
        }
        if let Some(authority_key) = &admission.authority_key {
            Authority::from_pem(&authority, authority_key).map_err(bad)?;
            fresh.write(IdentityFiles::AUTHORITY_KEY, authority_key)?;
        }
        fresh.write(IdentityFiles::AUTHORITY, authority.pem())?;
        fresh.write(IdentityFiles::CERTIFICATE, certificate.pem())?;
        fresh.finish()?;
        Self::open(dir)
    }

    /// Reads the identity below `dir`, and checks that its parts belong together.
    ///
    /// # Errors
    /// [`IdentityError::NotAMember`] when there is none; otherwise what is wrong with it.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let directory = Directory::new(dir);
        let files = directory.files();
        if !directory.exists() {
            return Err(IdentityError::NotAMember(files.dir.clone()));
        }
        let authority = AuthorityCertificate::parse(&directory.read(&files.authority)?)
            .map_err(damaged(&files.authority))?;
        let key = directory.read(&files.key)?;
        let pem = directory.read(&files.certificate)?;
        let certificate = NodeCertificate::parse(&pem).map_err(damaged(&files.certificate))?;
        let certificate = authority
            .verify(&pem, certificate.cluster(), &key)
            .map_err(damaged(&files.certificate))?;
        let signer = match directory.find(&files.authority_key)? {
            Some(pem) => {
                Some(Authority::from_pem(&authority, &pem).map_err(damaged(&files.authority_key))?)
            }
            None => None,
        };
        Ok(Self { directory, authority, signer, certificate })
    }

    /// Signs the certificate of a node that the log lets in. Of the request only the key counts:
    /// what the certificate says comes from `member`, so that nobody can ask for another's name.
    ///
    /// # Errors
    /// When this node cannot sign, when the request is not this member's, or when a host of it
    /// cannot stand in a certificate.
    pub fn admit(
        &self,
        request: &str,
        member: &Member,
        authority_key: AuthorityKey,
        now: DateTime<Utc>,
    ) -> Result<Admission, IdentityError> {
        let signer = self
            .signer
            .as_ref()
            .ok_or_else(|| IdentityError::NoAuthorityKey(self.files().authority_key))?;
        Ok(Admission {
            authority: self.authority.pem().to_owned(),
            certificate: signer.sign_request(request, member, now)?,
            authority_key: match authority_key {
                AuthorityKey::Kept => None,
                AuthorityKey::Shared => Some(signer.key_pem()),
            },
        })
    }

    /// A request for a new certificate on this node's key: its hosts changed, or it ends soon.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn request_renewal(&self) -> Result<String, IdentityError> {
        let key = self.directory.read(&self.files().key)?;
        request_of(&KeyPair::from_pem(&key)?, self.node())
    }

    /// Takes the answer to [`Self::request_renewal`]; the old certificate stays when it is wrong.
    ///
    /// # Errors
    /// When the certificate is not this node's, or cannot be written.
    pub fn renew(&mut self, certificate: &str) -> Result<(), IdentityError> {
        let files = self.files();
        let key = self.directory.read(&files.key)?;
        let renewed = self
            .authority
            .verify(certificate, self.cluster(), &key)
            .map_err(IdentityError::BadAdmission)?;
        if renewed.node() != self.node() {
            let reason = format!("it is for node {}, and this is {}", renewed.node(), self.node());
            return Err(IdentityError::BadAdmission(reason));
        }
        self.directory.replace(&files.certificate, renewed.pem())?;
        self.certificate = renewed;
        Ok(())
    }

    #[must_use]
    pub fn cluster(&self) -> Uuid {
        self.certificate.cluster()
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.certificate.node()
    }

    #[must_use]
    pub fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        self.authority.pem()
    }

    /// What a join token holds, so that the joiner knows the cluster when it sees it.
    #[must_use]
    pub fn authority_fingerprint(&self) -> &Fingerprint {
        self.authority.fingerprint()
    }

    /// Whether this node can admit others.
    #[must_use]
    pub fn signs(&self) -> bool {
        self.signer.is_some()
    }

    #[must_use]
    pub fn files(&self) -> IdentityFiles {
        self.directory.files()
    }
}

fn damaged(path: &Path) -> impl FnOnce(String) -> IdentityError {
    let path = path.to_owned();
    move |reason| IdentityError::Damaged { path, reason }
}

#[cfg(test)]
mod tests;
