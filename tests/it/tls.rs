//! A private certificate authority.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Ends TLS before a plain server on this machine, under one of its names, with a certificate of a
/// private authority; the answer is the address and the authority's certificate.
pub(crate) async fn with_tls(host: &str, plain: &str) -> (String, String) {
    let certified = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certified.cert.der().clone()], key)
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let plain = plain.trim_start_matches("http://").to_owned();
    let address = format!("https://{host}:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(stream).await?;
                let mut server = TcpStream::connect(plain).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (address, certified.cert.pem())
}
