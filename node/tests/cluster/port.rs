//! What the peer port takes from whoever claims an address (PP-03, PP-04).

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use peerglass::{NodeKey, Purpose};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::task::JoinSet;

use super::lab::{Lab, port_of, socket};

/// Sends and never hears, like somebody who sends under another one's address.
#[derive(Debug)]
struct Deaf(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Deaf {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit)
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Handshakes begun under an address whose owner never began one take few of its places: a node at that very
/// address is let in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_under_a_claimed_address_keep_its_owner_from_nothing() {
    let mut lab = Lab::start(1).await;
    let (at, key) = (lab.peer_address(0), lab.key(0).peer_key());
    let port = port_of(&NodeKey::from_seed([3; 32]), Arc::new(Deaf(socket())));
    // More than an address may have connections, again and again: each is given up after a second.
    let done = Arc::new(AtomicBool::new(false));
    let mut dials = JoinSet::new();
    for _ in 0..100 {
        let (port, done) = (port.clone(), Arc::clone(&done));
        dials.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                // It cannot succeed.
                let _ = port.dial(key, at, Purpose::Join).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let joined = lab.join(0, "{}").await;
    lab.create(joined, "a member").await;
    done.store(true, Ordering::Relaxed);
    dials.join_all().await;
    lab.stop().await;
}
