//! Certificates in libp2p's format: self-signed, with the node's key and its signature inside.
//!
//! The format is the libp2p specification's (`tls/tls.md`): extension 1.3.6.1.4.1.53594.1.1 holds the
//! node's public key and its signature over the certificate's own key. The certificate's key is Ed25519
//! and derived from the node's key: its signatures have one length, so a simulation repeats to the
//! packet, and a restarted node shows the same certificate.

use libp2p_tls::certificate;
use peerglass_catalog::PeerKey;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::key::NodeKey;

/// libp2p's extension.
const EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
/// What the node signs is this and then the certificate's key.
const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";
/// PKCS#8 of an Ed25519 key (RFC 8410): these bytes and then the 32 bytes of the secret.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A certificate and the key that goes with it.
pub(super) struct Certified {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
}

/// Why no certificate could be made. Nothing outside the program decides it.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificate cannot be put together.
    #[error("cannot make the node's certificate: {0}")]
    Generate(#[from] rcgen::Error),
    /// The key does not sign.
    #[error("cannot sign the node's certificate: {0}")]
    Sign(#[from] libp2p_identity::SigningError),
}

/// The certificate of the node with `key`.
pub(super) fn make(key: &NodeKey) -> Result<Certified, CertificateError> {
    let pkcs8 = [&PKCS8_HEAD[..], &key.derive("peerglass 2026-11-24 certificate key")].concat();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)?;
    let identity = key.libp2p();
    let signature = identity.sign(&[SIGNED_PREFIX, &pair.public_key_der()].concat())?;
    let signed = yasna::encode_der(&(identity.public().encode_protobuf(), signature));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let mut extension = CustomExtension::from_oid_content(&EXTENSION, signed);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    // Drawn at random if left open.
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1]));
    let certificate = params.self_signed(&pair)?.der().clone();
    Ok(Certified { certificate, key: pkcs8 })
}

/// Whose certificate this is, if it is in libp2p's format and really signed by that key.
pub(super) fn owner(certificate: &CertificateDer<'_>) -> Option<PeerKey> {
    let parsed = certificate::parse(certificate).ok()?;
    parsed.peer_id().to_string().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libp2p's own parser checks the format and both signatures.
    #[test]
    fn a_certificate_names_the_key_that_made_it_and_a_changed_one_nobody() {
        let key = NodeKey::from_seed([3; 32]);
        let made = make(&key).unwrap();
        assert_eq!(owner(&made.certificate), Some(key.peer_key()));
        assert_eq!(make(&key).unwrap().certificate, made.certificate, "the same after a restart");
        for at in 0..made.certificate.len() {
            let mut changed = made.certificate.to_vec();
            changed[at] ^= 1;
            assert_ne!(owner(&CertificateDer::from(changed)), Some(NodeKey::from_seed([4; 32]).peer_key()));
        }
        assert_eq!(owner(&CertificateDer::from(vec![0x30, 0x82])), None);
    }
}
