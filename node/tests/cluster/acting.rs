//! Acting as a node of the lab, and while one dies.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use peerglass::{NodeKey, PeerPort, PortChance, Purpose, Search, join};
use peerglass_consensus::Consensus;
use peerglass_consensus::testing::Liar;
use quinn::{AsyncUdpSocket, Runtime};
use tokio::time::{Instant, sleep};

use super::{Lab, PATIENCE, json, surroundings};

/// Any free UDP port of this machine.
pub(crate) fn socket() -> Arc<dyn AsyncUdpSocket> {
    quinn::TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

pub(crate) fn port_of(key: &NodeKey, socket: Arc<dyn AsyncUdpSocket>) -> PeerPort {
    PeerPort::new(key, socket, PortChance::System).unwrap()
}

impl Lab {
    pub(crate) fn consensus(&self, node: usize) -> &Consensus {
        self.places[node].node.as_ref().unwrap().consensus()
    }

    /// How the log names a node's key.
    pub(crate) fn name(&self, node: usize) -> String {
        self.key(node).peer_key().to_string()
    }

    /// Have the node use QUIC alone from now on.
    pub(crate) async fn without_tcp(&mut self, node: usize) {
        self.kill(node).await;
        self.places[node].settings.cluster.tcp = false;
        self.restart(node).await;
        self.get_patiently(node, "/v2/images").await;
    }

    /// A port with the key of `node`, beside its own.
    pub(crate) fn second_port(&self, node: usize) -> PeerPort {
        port_of(&self.key(node), socket())
    }

    /// Somebody who speaks to node `at` as `member`, which goes on.
    pub(crate) async fn liar(&self, member: usize, at: usize) -> Liar {
        let port = self.second_port(member);
        let (key, to) = (self.key(at).peer_key(), self.consensus(at).node());
        let connection = port.dial(key, self.peer_address(at), Purpose::Raft).await.unwrap();
        Liar::greet(connection, self.consensus(member), to).await.unwrap()
    }

    /// Let a new node join, and kill `leader` after `delay`; it asks again with the same token until it is in.
    pub(crate) async fn join_while_dying(&mut self, token: &str, leader: usize, delay: Duration) -> usize {
        let place = self.new_place();
        let settings = self.places[place].settings.clone();
        let surroundings = surroundings(&settings).await;
        let dying = self.places[leader].node.take().unwrap();
        let (mut joined, ()) = tokio::join!(join(&settings, &surroundings, token, Search::Named), async {
            sleep(delay).await;
            dying.consensus().stop().await;
            drop(dying);
        });
        let began = Instant::now();
        while let Err(error) = joined {
            assert!(began.elapsed() < PATIENCE, "{error}");
            sleep(Duration::from_millis(100)).await;
            joined = join(&settings, &surroundings, token, Search::Named).await;
        }
        place
    }

    /// How many images node `at` lists.
    pub(crate) async fn images(&self, at: usize) -> usize {
        json(&self.get_patiently(at, "/v2/images").await)["images"].as_array().unwrap().len()
    }

    /// Delete the image that was created last.
    pub(crate) async fn delete_last(&self, at: usize) {
        let page = json(&self.get_patiently(at, "/v2/images?limit=1").await);
        let id = page["images"][0]["id"].as_str().unwrap();
        assert_eq!(self.call(at, "DELETE", &format!("/v2/images/{id}"), &[], b"").await.status, 204);
    }
}
