//! Two members meet over loopback, where there is no multicast, and a stranger does not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use peerglass::{Circle, Discovery, Finding, Introduction, Neighbourhood, News, NodeKey};
use peerglass_catalog::NodeId;
use peerglass_consensus::ClusterId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long anything may take that has to come about by itself.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long nothing may come about. Members meet within a second.
const SILENCE: Duration = Duration::from_secs(4);

/// A peer port whose neighbour is free as well, because libp2p listens there.
fn free_ports() -> SocketAddr {
    loop {
        let peer_port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let above = peer_port.port().checked_add(1);
        if above.is_some_and(|port| UdpSocket::bind((peer_port.ip(), port)).is_ok()) {
            return peer_port;
        }
    }
}

struct Side {
    key: NodeKey,
    peer_port: SocketAddr,
    circle: watch::Sender<Circle>,
    found: mpsc::Receiver<Finding>,
}

impl Side {
    fn start(seed: u8, bootstrap: &[SocketAddr], tasks: &mut JoinSet<()>) -> Self {
        let (key, peer_port) = (NodeKey::from_seed([seed; 32]), free_ports());
        let discovery = Box::new(Neighbourhood {
            key: key.clone(),
            listen: (peer_port.ip(), peer_port.port() + 1).into(),
            peer_port,
            mdns: false,
            bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
        });
        let me = Introduction {
            cluster: ClusterId { id: 1, incarnation: 1 },
            address: format!("node-{seed}.example:{}", peer_port.port()),
        };
        let (circle, watched) = watch::channel(Circle::default());
        let (found, findings) = mpsc::channel(64);
        tasks.spawn(discovery.run(me, watched, found));
        Self { key, peer_port, circle, found: findings }
    }

    /// Know `other` as a member, at an address where nobody is.
    fn admit(&self, other: &Self, members_at: u64) {
        let members = BTreeMap::from([(other.key.peer_key(), "127.0.0.1:9".to_owned())]);
        let address = format!("127.0.0.1:{}", self.peer_port.port());
        let news = News { members_at, leader: Some(NodeId(1)), address };
        self.circle.send_replace(Circle { members, news });
    }
}

#[tokio::test]
async fn members_meet_through_a_bootstrap_address_and_tell_their_news() {
    let mut tasks = JoinSet::new();
    let mut first = Side::start(1, &[], &mut tasks);
    let mut second = Side::start(2, &[first.peer_port], &mut tasks);
    first.admit(&second, 7);
    second.admit(&first, 8);
    for (side, other, name, members_at) in [
        (&mut first, second.key.peer_key(), "node-2.", 8),
        (&mut second, NodeKey::from_seed([1; 32]).peer_key(), "node-1.", 7),
    ] {
        let (mut seen, mut told) = (false, false);
        while !(seen && told) {
            match timeout(PATIENCE, side.found.recv()).await.expect("they meet").unwrap() {
                Finding::Seen { key, address } => {
                    assert_eq!(key, other);
                    seen |= address.starts_with(name);
                }
                Finding::News { key, news } => {
                    assert_eq!((key, news.members_at), (other, members_at));
                    told = true;
                }
                Finding::Gone { key } => panic!("{key} is there"),
            }
        }
    }
}

/// The same, only that the first does not know the second: it must tell it nothing.
#[tokio::test]
async fn a_stranger_learns_nothing() {
    let mut tasks = JoinSet::new();
    let first = Side::start(3, &[], &mut tasks);
    let mut stranger = Side::start(4, &[first.peer_port], &mut tasks);
    let member = Side::start(5, &[], &mut tasks);
    first.admit(&member, 7);
    stranger.admit(&first, 8);
    assert!(timeout(SILENCE, stranger.found.recv()).await.is_err());
}
