//! A UDP socket of a simulated host, as quinn wants it.
//!
//! turmoil delivers a datagram after a fixed delay and knows only whole links that are up or down.
//! Everything else a network does to a datagram happens here, before it is handed over: loss,
//! doubling, damage, a largest size, jitter that keeps the order, and a link of limited speed whose
//! queue drops what comes too fast.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use turmoil::net::UdpSocket;

use super::weather::{Conditions, Weather};
use crate::chronicle::Chronicle;
use crate::dice::Dice;

/// Largest datagram that gets through, as on Ethernet with some room for tunnels.
const DATAGRAM_BYTES_MAX: usize = 1_400;
/// What waits longer for a slow link is dropped: a queue of about 50 ms, like that of a switch.
const QUEUE_MAX: Duration = Duration::from_millis(50);
/// Datagrams on their way to one node; beyond it they are dropped.
const ON_THE_WAY_MAX: usize = 4_096;

/// One life's socket. Dropping it frees the port and forgets what is on its way.
pub(crate) struct SimSocket {
    io: Arc<UdpSocket>,
    /// The wait for the next datagram. While it is pending it holds turmoil's lock on the socket.
    waiting: Mutex<Option<BoxFuture<'static, io::Result<()>>>>,
    ways: Mutex<Ways>,
    weather: Weather,
    chronicle: Chronicle,
}

/// The ways to the other nodes, and who walks them.
struct Ways {
    dice: Dice,
    by_peer: BTreeMap<SocketAddr, Way>,
    tasks: JoinSet<()>,
}

/// What is on its way to one node, in order.
struct Way {
    queue: mpsc::Sender<(Instant, Bytes)>,
    /// How many wait in `queue`.
    waiting: Arc<AtomicUsize>,
    /// When the last one arrives.
    last: Instant,
    /// When the link is free again.
    free_at: Instant,
}

impl SimSocket {
    /// Bind `port` on the host that runs now.
    pub(crate) async fn bind(
        port: u16,
        dice: Dice,
        weather: Weather,
        chronicle: Chronicle,
    ) -> io::Result<Self> {
        let io = Arc::new(UdpSocket::bind(("0.0.0.0", port)).await?);
        let ways = Ways { dice, by_peer: BTreeMap::new(), tasks: JoinSet::new() };
        Ok(Self { io, waiting: Mutex::new(None), ways: Mutex::new(ways), weather, chronicle })
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let conditions = self.weather.get();
        let mut ways = locked(&self.ways);
        if datagram.len() > DATAGRAM_BYTES_MAX {
            self.chronicle.count("datagram larger than the network carries");
            return;
        }
        if ways.dice.chance(conditions.lost) {
            self.chronicle.count("F-N1 datagram lost");
            return;
        }
        let datagram = if ways.dice.chance(conditions.corrupted) {
            self.chronicle.count("F-N8 datagram corrupted");
            damaged(datagram, &mut ways.dice)
        } else {
            Bytes::copy_from_slice(datagram)
        };
        if ways.dice.chance(conditions.doubled) {
            self.chronicle.count("F-N2 datagram doubled");
            self.forward(&mut ways, conditions, to, datagram.clone());
        }
        self.forward(&mut ways, conditions, to, datagram);
    }

    fn forward(&self, ways: &mut Ways, conditions: Conditions, to: SocketAddr, datagram: Bytes) {
        let now = Instant::now();
        let Ways { dice, by_peer, tasks } = ways;
        let way = by_peer.entry(to).or_insert_with(|| self.open_way(to, now, tasks));
        let mut due = now;
        let bytes = datagram.len() as u64;
        if let Some(micros) = (bytes * 1_000).checked_div(conditions.bytes_per_ms) {
            let start = way.free_at.max(now);
            if start - now > QUEUE_MAX {
                self.chronicle.count("F-N7 datagram dropped by a slow link");
                return;
            }
            way.free_at = start + Duration::from_micros(micros);
            due = way.free_at;
        }
        if conditions.jitter_ms_max > 0 {
            due += Duration::from_millis(dice.below(conditions.jitter_ms_max + 1));
            self.chronicle.count("F-N3 datagram delayed");
        }
        way.last = way.last.max(due);
        if way.last <= now && way.waiting.load(Ordering::Relaxed) == 0 {
            hand_over(&self.io, to, &datagram, &self.chronicle);
        } else if way.queue.try_send((way.last, datagram)).is_ok() {
            way.waiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.chronicle.count("datagram dropped: too many on their way");
        }
    }

    fn open_way(&self, to: SocketAddr, now: Instant, tasks: &mut JoinSet<()>) -> Way {
        let (queue, mut arriving) = mpsc::channel::<(Instant, Bytes)>(ON_THE_WAY_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (io, left, chronicle) = (Arc::clone(&self.io), Arc::clone(&waiting), self.chronicle.clone());
        tasks.spawn(async move {
            while let Some((due, datagram)) = arriving.recv().await {
                sleep_until(due).await;
                left.fetch_sub(1, Ordering::Relaxed);
                hand_over(&io, to, &datagram, &chronicle);
            }
        });
        Way { queue, waiting, last: now, free_at: now }
    }
}

/// Give the datagram to turmoil, which delivers it or, if the link is cut, does not.
fn hand_over(io: &UdpSocket, to: SocketAddr, datagram: &[u8], chronicle: &Chronicle) {
    chronicle.datagram(to.ip(), datagram);
    // Nobody at that address: a datagram gets lost, and nobody tells.
    let _ = io.try_send_to(datagram, to);
}

fn damaged(datagram: &[u8], dice: &mut Dice) -> Bytes {
    let mut bytes = BytesMut::from(datagram);
    if !bytes.is_empty() {
        let at = dice.index(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
    bytes.freeze()
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit.contents.chunks(segment).for_each(|datagram| self.send(transmit.destination, datagram));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = locked(&self.waiting);
        loop {
            if let Some(readable) = waiting.as_mut() {
                let readable = ready!(readable.as_mut().poll(cx));
                *waiting = None;
                readable?;
            }
            let mut received = 0;
            for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
                let Ok((len, addr)) = self.io.try_recv_from(buf) else { break };
                *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                received += 1;
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
            let io = Arc::clone(&self.io);
            *waiting = Some(Box::pin(async move { io.readable().await }));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// As on Linux: the kernel is told not to fragment, so quinn looks for the largest size itself.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSocket").finish_non_exhaustive()
    }
}

/// A simulated socket always takes another datagram; what is too much is lost, not refused.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
