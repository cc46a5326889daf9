//! The listener for everybody: what handlers learn of a client.

use std::{net::SocketAddr, sync::Arc};

use axum::{Extension, Router, routing::get};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sha2::{Digest, Sha256};
use stapes_api::tls::{PeerCertificate, TlsConfig, TlsFiles, TlsListener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use crate::certificates::{Authority, node};

async fn tell(
    certificate: Option<Extension<PeerCertificate>>,
    Extension(_): Extension<SocketAddr>,
) -> String {
    match certificate {
        None => "nobody".into(),
        Some(Extension(PeerCertificate { fingerprint, node, der })) => {
            let hex: String = Sha256::digest(&*der).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(fingerprint.as_str(), hex);
            format!("{} {fingerprint}", node.map_or_else(|| "user".into(), |it| it.to_string()))
        }
    }
}

/// The body of an answer to a client with these files, or with none.
async fn ask(authority: &Authority, address: SocketAddr, files: Option<&TlsFiles>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match files {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: stapes\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn handlers_learn_who_asks() {
    let authority = Authority::new();
    let listener = TlsListener::bind("127.0.0.1:0", authority.tls(node(1))).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Router::new().route("/", get(tell));
    let served = tokio::spawn(listener.serve(router, async { drop(stopped.await) }));
    assert_eq!(ask(&authority, address, None).await, "nobody");
    let user = ask(&authority, address, Some(&authority.self_signed())).await;
    assert!(user.starts_with("user "), "whatever it claims: {user}");
    let member = ask(&authority, address, Some(&authority.files(node(2)))).await;
    assert!(member.starts_with(&node(2).to_string()), "{member}");
    stop.send(()).unwrap();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[test]
fn files_that_do_not_fit_are_told() {
    let authority = Authority::new();
    let good = authority.files(node(1));
    let missing = TlsFiles { key: good.key.with_extension("none"), ..good.clone() };
    let error = TlsConfig::load(&missing).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    let other = authority.files(node(2));
    let mixed = TlsFiles { key: other.key, ..good.clone() };
    let error = TlsConfig::load(&mixed).unwrap_err();
    assert!(error.to_string().contains("do not fit"), "{error}");
    let empty = TlsFiles { authority: Some(good.key.clone()), ..good };
    let error = TlsConfig::load(&empty).unwrap_err();
    assert!(error.to_string().contains("holds no certificate"), "{error}");
}
