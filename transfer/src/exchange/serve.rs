//! Answering what other nodes ask over one connection.
//!
//! # What it promises
//!
//! * No byte leaves unverified: each blob is read, opened if it is compressed, and compared with its name first. It
//!   leaves as it is stored, unless plain bytes are wanted.
//! * At most [`REQUESTS_MAX`] requests of a connection are answered at once and at most
//!   [`READ_AHEAD_PER_PEER`] mebibytes of the answers to one node are in memory; others wait in the connection.
//! * Whatever the other side sends, it gets an answer or a reset stream, within a bounded time.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::ask::REQUEST_TIME_MAX;
use super::hold;
use super::lies::{self, Lie};
use super::pulls::Purpose;
use super::read_ahead::READ_AHEAD_PER_PEER;
use super::wire::{self, Answer, Breach, Request};
use super::{keep, survey, tell};
use crate::connection::{Broken, Calls, Connection, REQUESTS_MAX, Receiving, Sending};
use crate::error::{DiskFailure, DownloadError};
use crate::form::Parcel;
use crate::segment::SEGMENT_BYTES;
use crate::store::BlobReader;
use crate::traffic::Distance;
use crate::transfer::Inner;

/// Answers of one connection that wait for their turn or are being sent: more than a plan asks one peer for.
const TURNS_PER_CONNECTION: usize = 16;
/// How long a request may take to arrive: it is one packet, or a few dozen.
const REQUEST_ARRIVES: Duration = Duration::from_secs(10);
/// How long an answer may wait without one byte being taken. Longer than the other side is patient, for
/// the many streams of a slow link.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("it sent {0}")]
    Breach(#[from] Breach),
    #[error("it neither sends nor receives")]
    Silent,
    #[error("the connection broke: {0}")]
    Lost(#[source] Broken),
    #[error(transparent)]
    Disk(DiskFailure),
    #[error("this node is stopping")]
    Stopped,
    /// As it should be: whoever followed has what it wanted.
    #[error("nobody follows any more")]
    Unheard,
}

/// Answer the requests of one connection until it ends or the node stops. After `until` it ends as soon as nothing is
/// being answered: whoever still follows something here asks for more of it.
pub(crate) async fn connection(
    transfer: Arc<Inner>,
    calls: Calls,
    peer: NodeId,
    until: impl Future<Output = ()>,
) {
    let mut ending = transfer.ending.subscribe();
    let mut until = std::pin::pin!(until);
    let mut ends = false;
    let read_ahead = transfer.read_ahead.of(peer);
    let places = Semaphore::new(TURNS_PER_CONNECTION);
    let back = calls.back();
    let mut answers = FuturesUnordered::new();
    // `None` once it has ended: answers that nobody gets need no socket.
    let mut calls = Some(calls);
    while !answers.is_empty() || (calls.is_some() && !ends) {
        let (has_room, open) = (answers.len() < REQUESTS_MAX, calls.is_some());
        let next = async {
            match &mut calls {
                Some(calls) => calls.next(has_room).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            () = &mut until, if open && !ends => ends = true,
            Some(()) = answers.next() => {}
            call = next => match call {
                Some((send, receive)) => {
                    let served = Served { transfer: &transfer, back: back.as_ref(), peer, read_ahead: &read_ahead, places: &places };
                    answers.push(served.serve(send, receive));
                }
                None => calls = None,
            },
        }
    }
}

/// What answering one request works with.
struct Served<'a> {
    transfer: &'a Arc<Inner>,
    /// How to ask back.
    back: Option<&'a Connection>,
    peer: NodeId,
    read_ahead: &'a Semaphore,
    /// To wait for one's turn.
    places: &'a Semaphore,
}

impl Served<'_> {
    async fn serve(self, mut send: Sending, mut receive: Receiving) {
        if let Err(error) = self.answer(&mut send, &mut receive).await {
            tracing::debug!(peer = self.peer.0, %error, "a request was not answered");
        }
    }

    async fn answer(&self, send: &mut Sending, receive: &mut Receiving) -> Result<(), ServeError> {
        let request =
            timeout(REQUEST_ARRIVES, read_request(receive)).await.map_err(|_| ServeError::Silent)??;
        match request {
            Request::Holds { root } => {
                let ledger = Arc::clone(&self.transfer.store.ledger);
                let asked = self.transfer.workers.run(move || ledger.holds_whole(&root)).await;
                let holds =
                    asked.map_err(ServeError::Disk)?.map_err(|fault| ServeError::Disk(fault.into()))?;
                let holds = holds || self.transfer.lies.now(Lie::OF_HAVING).is_some();
                say(send, Answer::Holds(holds)).await?;
            }
            Request::Blobs { waits: false, .. } if self.transfer.outbox.is_busy() => {
                send_all(send, vec![Bytes::copy_from_slice(&wire::BUSY.to_be_bytes())]).await?;
            }
            Request::Blobs { root, digests, waits: _, plain } => {
                let sent = timeout(REQUEST_TIME_MAX, self.blobs(send, root, digests, plain)).await;
                return sent.map_err(|_| ServeError::Silent)?;
            }
            Request::Hold { root } => self.hold(send, root, Purpose::Hold).await?,
            Request::Ahead { root } => self.hold(send, root, Purpose::Ahead).await?,
            Request::Keeps { root, at } => {
                let keeps = keep::keeps(self.transfer, root, at).await;
                say(send, Answer::Holds(keeps)).await?;
            }
            Request::Share { root } => {
                let share = survey::here(self.transfer, root).await;
                let share = share.map_err(|error| ServeError::Disk(DiskFailure::Content(Box::new(error))))?;
                say(send, Answer::Share(share)).await?;
            }
            Request::Follow { root } => tell::tell(self.transfer, send, root, self.peer).await?,
        }
        send.finish().map_err(ServeError::Lost)
    }

    /// Send blobs, when it is their turn, and wait until they have arrived.
    async fn blobs(
        &self,
        send: &mut Sending,
        root: ManifestRoot,
        digests: Vec<Digest>,
        plain: bool,
    ) -> Result<(), ServeError> {
        self.transfer.store.ledger.used(&root);
        let reader = move |transfer: &Inner| {
            let mut reader = BlobReader::new(transfer.store.clone());
            if let Some(pull) = transfer.pulls.of(&root) {
                reader.read_beside(Arc::clone(&pull.progress));
            }
            reader
        };
        // In plain bytes: it is what others count, and how long it takes to verify them.
        let finder = reader(self.transfer);
        let sizes = move || {
            let size = |digest: Digest| match finder.plain_len(&digest) {
                Ok(len) => Ok((digest, len)),
                Err(DownloadError::Disk(failure)) => Err(failure),
                Err(_) => Ok((digest, 0)),
            };
            digests.into_iter().map(size).collect::<Result<Vec<_>, _>>()
        };
        let sizes =
            self.transfer.workers.run(sizes).await.map_err(ServeError::Disk)?.map_err(ServeError::Disk)?;
        // Before it counts as something to send: one peer that waits for much must not make others wait.
        let _place = self.places.acquire().await.map_err(|_| ServeError::Stopped)?;
        let bytes = sizes.iter().map(|(_, size)| *size as u64).sum();
        let mut turn = self.transfer.outbox.turn(bytes).await;
        let began = Instant::now();
        let mut rest = &sizes[..];
        while let Some((first, _)) = rest.split_first() {
            let mut bytes = first.1;
            let more = rest[1..].iter().take_while(|(_, size)| {
                bytes += size;
                bytes <= SEGMENT_BYTES
            });
            let (batch, after) = rest.split_at(1 + more.count());
            rest = after;
            turn.wait(began, self.batch(send, reader(self.transfer), batch.to_vec(), plain)).await?;
        }
        send.finish().map_err(ServeError::Lost)?;
        // Only what has arrived leaves room for others. Whether it has is the other side's business.
        let _ = turn.wait(began, timeout(TAKEN_WITHIN, send.taken())).await;
        Ok(())
    }

    /// Read, verify and send a few blobs.
    async fn batch(
        &self,
        send: &mut Sending,
        mut reader: BlobReader,
        batch: Vec<(Digest, usize)>,
        plain: bool,
    ) -> Result<(), ServeError> {
        let bytes: usize = batch.iter().map(|(_, size)| size).sum();
        let units = bytes.div_ceil(1 << 20).clamp(1, READ_AHEAD_PER_PEER) as u32;
        let here = self.read_ahead.acquire_many(units).await.map_err(|_| ServeError::Stopped)?;
        let anywhere =
            self.transfer.read_ahead.anybody.acquire_many(units).await.map_err(|_| ServeError::Stopped)?;
        let read = move || {
            let mut blobs = Vec::with_capacity(batch.len() * 2);
            for (digest, size) in &batch {
                let read = match plain {
                    _ if *size == 0 => None,
                    true => found(reader.blob(digest).map(|bytes| Parcel::raw(bytes.into())))?,
                    false => found(reader.parcel(digest))?,
                };
                blobs.push(Bytes::copy_from_slice(&wire::blob_head(read.as_ref().map(|parcel| parcel.form))));
                blobs.push(read.map(|parcel| parcel.bytes).unwrap_or_default());
            }
            Ok::<_, DiskFailure>(blobs)
        };
        let blobs =
            self.transfer.workers.run(read).await.map_err(ServeError::Disk)?.map_err(ServeError::Disk)?;
        let count = blobs.iter().map(|bytes| bytes.len() as u64).sum();
        if let Some(lie) = self.transfer.lies.about(&blobs) {
            return lies::tell(lie, send, &blobs).await;
        }
        send_all(send, blobs.into_iter().filter(|bytes| !bytes.is_empty()).collect()).await?;
        if let Some(peers) = &self.transfer.peers {
            let distance = Distance::between(&peers.place(peers.me()), &peers.place(self.peer));
            self.transfer.traffic.sent(distance, count);
        }
        drop((here, anywhere));
        Ok(())
    }

    /// Hold a manifest, or fetch it ahead, and say now and then that it is being worked on.
    async fn hold(&self, send: &mut Sending, root: ManifestRoot, purpose: Purpose) -> Result<(), ServeError> {
        let (transfer, asker) = (Arc::clone(self.transfer), (self.peer, self.back.cloned()));
        let mut held = std::pin::pin!(async {
            match purpose {
                Purpose::Hold => hold::hold(transfer, root, asker).await.map(Some),
                Purpose::Ahead => hold::fetch_ahead(transfer, root, asker).await.map(|()| None),
            }
        });
        let mut ticks = interval_at(Instant::now() + wire::WORKING_EVERY, wire::WORKING_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                held = &mut held => match held {
                    Ok(_guard) => return say(send, Answer::Held).await,
                    Err(refusal) => return say(send, Answer::Refused(refusal)).await,
                },
                _ = ticks.tick() => say(send, Answer::Working(self.transfer.pulls.received(&root))).await?,
            }
        }
    }
}

/// What was read, or `None` for what is not there or not what it was.
fn found(read: Result<Parcel, DownloadError>) -> Result<Option<Parcel>, DiskFailure> {
    match read {
        Ok(parcel) => Ok(Some(parcel)),
        Err(DownloadError::Disk(failure)) => Err(failure),
        Err(
            DownloadError::Damaged { .. }
            | DownloadError::Missing(_)
            | DownloadError::OutOfRange { .. }
            | DownloadError::Stopped,
        ) => Ok(None),
    }
}

async fn read_request(receive: &mut Receiving) -> Result<Request, ServeError> {
    let mut head = [0; 4];
    fill(receive, &mut head).await?;
    let mut frame = vec![0; wire::frame_len(head)?];
    fill(receive, &mut frame).await?;
    if receive.read(&mut [0]).await.map_err(ServeError::Lost)?.is_some() {
        return Err(Breach::TrailingBytes.into());
    }
    Ok(wire::request(&frame)?)
}

async fn fill(receive: &mut Receiving, mut buffer: &mut [u8]) -> Result<(), ServeError> {
    while !buffer.is_empty() {
        let read = receive.read(buffer).await.map_err(ServeError::Lost)?.ok_or(Breach::EndsEarly)?;
        buffer = &mut buffer[read..];
    }
    Ok(())
}

async fn say(send: &mut Sending, answer: Answer) -> Result<(), ServeError> {
    send_all(send, vec![Bytes::from(wire::frame(&answer))]).await
}

pub(super) async fn send_all(send: &mut Sending, mut parts: Vec<Bytes>) -> Result<(), ServeError> {
    let mut sent = 0;
    while sent < parts.len() {
        let taken = timeout(TAKEN_WITHIN, send.send(&mut parts[sent..])).await;
        sent += taken.map_err(|_| ServeError::Silent)?.map_err(ServeError::Lost)?;
    }
    Ok(())
}
