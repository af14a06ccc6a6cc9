//! Acting as a node of the lab, and while one dies.

use std::net::UdpSocket;
use std::time::Duration;

use peerglass::{PeerPort, PortChance, Purpose, Search, join};
use peerglass_consensus::Consensus;
use peerglass_consensus::testing::Liar;
use quinn::Runtime;
use tokio::time::sleep;

use super::{Lab, json, surroundings};

impl Lab {
    pub(crate) fn consensus(&self, node: usize) -> &Consensus {
        self.places[node].node.as_ref().unwrap().consensus()
    }

    /// A port with the key of `node`, beside its own.
    pub(crate) fn second_port(&self, node: usize) -> PeerPort {
        let socket = quinn::TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        PeerPort::new(&self.key(node), socket, PortChance::System).unwrap()
    }

    /// Somebody who speaks to node `at` as `member`, which goes on.
    pub(crate) async fn liar(&self, member: usize, at: usize) -> Liar {
        let port = self.second_port(member);
        let (key, to) = (self.key(at).peer_key(), self.consensus(at).node());
        let connection = port.dial(key, self.peer_address(at), Purpose::Raft).await.unwrap();
        Liar::greet(connection, self.consensus(member), to).await.unwrap()
    }

    /// Let a new node join, and kill `leader` after `delay`. The new place, and what its first attempt came to.
    pub(crate) async fn join_while_dying(
        &mut self,
        token: &str,
        leader: usize,
        delay: Duration,
    ) -> (usize, Result<(), String>) {
        let place = self.new_place();
        let settings = self.places[place].settings.clone();
        let surroundings = surroundings(&settings).await;
        let dying = self.places[leader].node.take().unwrap();
        let (joined, ()) = tokio::join!(join(&settings, &surroundings, token, Search::Named), async {
            sleep(delay).await;
            dying.consensus().stop().await;
        });
        (place, joined.map(|_| ()).map_err(|error| error.to_string()))
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
