//! The first words of a joiner to a member. The joiner has a token and no certificate yet; it believes
//! only a server whose certificate the token's authority signed, and says its secret to no other.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsFault, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stapes_core::ids::Fingerprint;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    client::ApiError,
    wire::envelope::{Envelope, Kind},
};

/// How long one member may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
const ANSWER_MAX: usize = 1 << 20;

/// Why a member did not let this node in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{address} cannot be reached: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("{address} does not answer in time")]
    Silent { address: String },
    #[error("{0:?} is no address like 10.0.0.1:8443")]
    Address(String),
    #[error("{address} is not a member of the token's cluster: {why}")]
    Impostor { address: String, why: String },
    #[error("{address} gave no answer of this API: {why}")]
    Odd { address: String, why: String },
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl JoinError {
    /// Whether another member may answer better.
    #[must_use]
    pub const fn is_of_one_member(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Address(_)
            | Self::Impostor { .. }
            | Self::Odd { .. } => true,
            Self::Refused(_) => false,
        }
    }
}

/// Asks the member at `address`; `authority` is the fingerprint in the token.
///
/// # Errors
/// When it cannot be reached, is another cluster's, or refuses.
pub async fn ask_to_join(
    address: &str,
    authority: &Fingerprint,
    question: &Value,
) -> Result<Value, JoinError> {
    let asked = tokio::time::timeout(ANSWERS_WITHIN, ask(address, authority, question));
    asked.await.map_err(|_| JoinError::Silent { address: address.to_owned() })?
}

async fn ask(address: &str, authority: &Fingerprint, question: &Value) -> Result<Value, JoinError> {
    let odd = |why: String| JoinError::Odd { address: address.to_owned(), why };
    let unreachable = |source| JoinError::Unreachable { address: address.to_owned(), source };
    let (host, _) =
        address.rsplit_once(':').ok_or_else(|| JoinError::Address(address.to_owned()))?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| JoinError::Address(address.to_owned()))?;
    let connector =
        TlsConnector::from(Arc::new(config(authority).map_err(|e| odd(e.to_string()))?));
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    let stream = connector.connect(name, stream).await.map_err(|error| {
        let why = error.to_string();
        JoinError::Impostor { address: address.to_owned(), why }
    })?;
    let broken = |error: hyper::Error| odd(error.to_string());
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(driver);
    let request = Request::post("/internal/join")
        .header(header::HOST, "stapes")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(question.to_string())))
        .map_err(|error| odd(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| odd(error.to_string()))?.to_bytes();
    let envelope: Envelope =
        serde_json::from_slice(&body).map_err(|error| odd(error.to_string()))?;
    match envelope.kind {
        Kind::Sync | Kind::Async => Ok(envelope.metadata),
        Kind::Error => Err(JoinError::Refused(ApiError {
            error_code: envelope.error_code,
            text: envelope.error,
            code: envelope.code,
            hint: envelope.hint,
            facts: envelope.facts,
        })),
    }
}

fn config(authority: &Fingerprint) -> Result<ClientConfig, TlsFault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Pinned { authority: authority.clone(), provider: provider.clone() };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Takes a chain that ends at the one authority whose fingerprint is known, and no other.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn is_authority(&self, certificate: &CertificateDer<'_>) -> bool {
        let hex: String =
            Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        hex == self.authority.as_str()
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsFault> {
        let authority = intermediates.iter().find(|certificate| self.is_authority(certificate));
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let verifier = verifier.build().map_err(|error| TlsFault::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsFault> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsFault> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
