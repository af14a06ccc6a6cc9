//! Plain quinn over simulated datagrams: the ground everything about clusters stands on.

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig};
use quinn::{TransportConfig, VarInt};
use tokio::time::{sleep, timeout};

use super::*;
use crate::network::{PEER_PORT, host, tls};

const HOSTS: usize = 3;

struct SeededIds(Dice);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.number().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A certificate whose signatures have one length, so that the lengths of datagrams repeat.
fn certificate() -> (rustls::pki_types::CertificateDer<'static>, rustls::pki_types::PrivateKeyDer<'static>) {
    // RFC 8410: sixteen fixed bytes, then the seed.
    let head = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    let pkcs8 = [&head[..], &[7; 32]].concat();
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["node".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), der.into())
}

/// Address tokens hold a time.
struct NoTime;

impl quinn::TimeSource for NoTime {
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(VarInt::from_u32(3_000).into()));
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    Arc::new(transport)
}

fn endpoint(socket: SimSocket, seed: u64, node: usize, life: u64) -> Endpoint {
    let provider = tls::provider();
    let (certificate, key) = certificate();
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    // Tickets hold a time.
    server.send_tls13_tickets = 0;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[node as u8; 64]);
    let mut dice = Dice::new(seed, &format!("quinn {node} {life}"));
    let mut rng = [0; 32];
    rng[..8].copy_from_slice(&dice.number().to_le_bytes());
    let ids = dice.number();
    let mut settings = EndpointConfig::new(Arc::new(reset_key));
    settings.rng_seed(Some(rng)).cid_generator(move || Box::new(SeededIds(Dice::new(ids, "ids"))));
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&[node as u8; 64]);
    let tls = Arc::new(QuicServerConfig::try_from(server).unwrap());
    let mut server = ServerConfig::new(tls, Arc::new(token_key));
    server.transport_config(transport()).time_source(Arc::new(NoTime));
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint =
        Endpoint::new_with_abstract_socket(settings, Some(server), Arc::new(socket), runtime).unwrap();
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    client.transport_config(transport());
    let first_ids = Mutex::new(dice);
    client.initial_dst_cid_provider(Arc::new(move || {
        let mut dice = locked(&first_ids);
        let bytes = [dice.number(), dice.number(), dice.number()].map(u64::to_le_bytes).concat();
        ConnectionId::new(&bytes[..20])
    }));
    endpoint.set_default_client_config(client);
    endpoint
}

/// Answer every stream with what it brought.
async fn echo(endpoint: Endpoint) {
    let mut tasks = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        tasks.spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut answer, mut question)) = connection.accept_bi().await {
                let Ok(bytes) = question.read_to_end(1 << 20).await else { continue };
                let _ = answer.write_all(&bytes).await;
                let _ = answer.finish();
            }
        });
    }
}

/// Ask `peer` again and again, on one connection while it lasts.
async fn ask(endpoint: Endpoint, name: String, peer: usize, chronicle: Chronicle) {
    let note = |event: &str| chronicle.note(&name, format_args!("{event} node{peer}"));
    let address = SocketAddr::new(turmoil::lookup(host(peer)), PEER_PORT);
    for round in 0_usize.. {
        let connecting = endpoint.connect(address, "node").unwrap();
        let Ok(Ok(connection)) = timeout(Duration::from_secs(1), connecting).await else {
            note("cannot reach");
            continue;
        };
        while connection.close_reason().is_none() {
            let question = vec![1; if round == 0 { 200_000 } else { 100 }];
            let talk = async {
                let (mut send, mut receive) = connection.open_bi().await.ok()?;
                send.write_all(&question).await.ok()?;
                send.finish().ok()?;
                receive.read_to_end(1 << 20).await.ok()
            };
            match timeout(Duration::from_millis(300), talk).await {
                Ok(Some(answer)) if answer == question => note("answered by"),
                Ok(Some(_)) => note("wrong answer from"),
                Ok(None) => note("broken by"),
                Err(_) => note("no answer from"),
            }
            sleep(Duration::from_millis(50)).await;
        }
        note("lost");
    }
}

async fn live(node: usize, seed: u64, life: u64, weather: Weather, chronicle: Chronicle) -> turmoil::Result {
    let dice = Dice::new(seed, &format!("socket {node} {life}"));
    let socket = SimSocket::bind(PEER_PORT, dice, weather, chronicle.clone()).await?;
    let endpoint = endpoint(socket, seed, node, life);
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(endpoint.clone()));
    for peer in (0..HOSTS).filter(|peer| *peer != node) {
        tasks.spawn(ask(endpoint.clone(), host(node), peer, chronicle.clone()));
    }
    tasks.join_next().await;
    Ok(())
}

/// Eight seconds of three hosts: everything is lossy, node 0 is cut off for a second, node 1 loses
/// power and comes back.
fn play(seed: u64) -> Vec<String> {
    tls::begin(seed);
    let chronicle = Chronicle::default();
    let weather = Weather::default();
    let lossy = Conditions { lost: 10, doubled: 10, corrupted: 5, jitter_ms_max: 3, bytes_per_ms: 12_500 };
    weather.set(lossy);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(60))
        .min_message_latency(Duration::from_millis(2))
        .max_message_latency(Duration::from_millis(2))
        .udp_capacity(4_096)
        .build();
    for node in 0..HOSTS {
        let (weather, chronicle, lives) = (weather.clone(), chronicle.clone(), AtomicUsize::new(0));
        sim.host(host(node), move || {
            let life = lives.fetch_add(1, Ordering::Relaxed) as u64;
            live(node, seed, life, weather.clone(), chronicle.clone())
        });
    }
    let mut links = crate::network::Links::whole(HOSTS, Default::default());
    for millis in 0..8_000 {
        chronicle.set_time(sim.elapsed());
        sim.step().unwrap();
        match millis {
            1_000 => links.set(&sim, crate::network::links::between(&[0].into(), &[1, 2].into())),
            2_000 => links.set(&sim, [].into()),
            4_000 => {
                links.silence(&sim, 1, &[]);
                sim.crash("node1");
                links.restore(&sim, 1, &[]);
            }
            4_700 => sim.bounce("node1"),
            _ => {}
        }
    }
    drop(sim);
    chronicle.close().0
}

/// Everything about clusters rests on this: real QUIC over the simulated network, played twice,
/// sends the same datagrams at the same times and sees the same answers.
#[test]
fn quinn_repeats() {
    let on_a_fresh_thread = |seed| std::thread::scope(|scope| scope.spawn(|| play(seed)).join().unwrap());
    let (first, second, other) = (on_a_fresh_thread(1), on_a_fresh_thread(1), on_a_fresh_thread(2));

    let differ = first.iter().zip(&second).find(|(first, second)| first != second);
    assert_eq!(differ, None);
    assert_ne!(first.last(), other.last(), "another seed sends other datagrams");
    let count = |what: &str| first.iter().filter(|event| event.contains(what)).count();
    assert_eq!(count("wrong answer"), 0, "damaged datagrams are noticed");
    assert!(count("answered by") > 200, "{} answers", count("answered by"));
    assert!(count("no answer") > 0 && count("lost") > 0, "the cut and the crash are felt");
}
