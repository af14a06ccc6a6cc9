//! Callers that are what they should be but for one thing.

use std::net::UdpSocket;

use quinn::Runtime;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;

use super::*;
use crate::peers::key::NodeKey;
use crate::peers::port::{PeerPort, PortChance, Purpose};
use crate::peers::{certificate, tls};

/// Whoever has no certificate to show.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

/// Who a node believes to be called by, if it speaks on.
#[allow(clippy::disallowed_methods, reason = "a test is its own surroundings")]
async fn greeted(change: impl FnOnce(&mut ClientConfig)) -> Option<PeerKey> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let socket = quinn::TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let port = PeerPort::new(&key(1), socket, PortChance::System).unwrap().with_tcp(listener);
    let provider = tls::fast_ciphers(rustls::crypto::ring::default_provider());
    let own = certificate::make(&key(2)).unwrap();
    let mut tls = tls::client(provider, &own, key(1).peer_key(), Purpose::Chunks.alpn()).unwrap();
    change(&mut tls);
    let greet = async {
        let (stream, _) = port.accept_tcp().await.unwrap();
        port.greet_tcp(stream).await.ok().map(|(_, key)| key)
    };
    tokio::join!(greet, dial(at, tls)).0
}

#[tokio::test]
async fn only_a_caller_with_a_key_and_the_right_purpose_is_greeted() {
    assert_eq!(greeted(|_| {}).await, Some(key(2).peer_key()));
    assert_eq!(greeted(|tls| tls.client_auth_cert_resolver = Arc::new(Nobody)).await, None);
    for alpns in [vec![], vec![&b"h2"[..]], vec![Purpose::Raft.alpn()], vec![Purpose::Join.alpn()]] {
        let alpns: Vec<_> = alpns.into_iter().map(<[u8]>::to_vec).collect();
        assert_eq!(greeted(|tls| tls.alpn_protocols.clone_from(&alpns)).await, None, "{alpns:?}");
    }
}
