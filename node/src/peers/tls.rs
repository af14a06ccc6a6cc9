//! TLS between nodes, the same over UDP and over TCP: version 1.3 only, and each side shows its key.

use std::sync::Arc;

use peerglass_catalog::PeerKey;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, Error, ServerConfig};

use super::certificate::Certified;
use super::verifier::PeerVerifier;

/// With the ciphers in the order that is fastest for many small packets.
pub(super) fn fast_ciphers(provider: CryptoProvider) -> Arc<CryptoProvider> {
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    Arc::new(CryptoProvider { cipher_suites, ..provider })
}

/// For who is called: anybody who proves to have a key, for one of these purposes.
pub(super) fn server(
    provider: Arc<CryptoProvider>,
    certified: &Certified,
    alpns: &[&[u8]],
) -> Result<ServerConfig, Error> {
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(PeerVerifier::anybody())
        .with_cert_resolver(resolver(certified)?);
    tls.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

/// For who calls: `peer` and nobody else.
pub(super) fn client(
    provider: Arc<CryptoProvider>,
    certified: &Certified,
    peer: PeerKey,
    alpn: &[u8],
) -> Result<ClientConfig, Error> {
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // rustls calls every verifier of one's own so
        .with_custom_certificate_verifier(PeerVerifier::only(peer))
        .with_client_cert_resolver(resolver(certified)?);
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// rustls itself would refuse the certificate, because libp2p's extension is critical and not its own.
fn resolver(certified: &Certified) -> Result<Arc<SingleCertAndKey>, Error> {
    let key = rustls::crypto::ring::sign::any_eddsa_type(&certified.key)?;
    Ok(Arc::new(CertifiedKey::new(vec![certified.certificate.clone()], key).into()))
}
