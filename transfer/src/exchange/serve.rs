//! Answering what other nodes ask over one connection.
//!
//! # What it promises
//!
//! * No byte leaves unverified: each blob is read and compared with its name first.
//! * At most [`REQUESTS_MAX`] requests of a connection are answered at once and at most
//!   [`READ_AHEAD_PER_CONNECTION`] of its answers are in memory; others wait in the connection.
//! * Whatever the other side sends, it gets an answer or a reset stream, within a bounded time.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::ask::REQUEST_TIME_MAX;
use super::hold;
use super::outbox::TURN_TIME;
use super::wire::{self, Answer, Breach, Request};
use super::{keep, survey, tell};
use crate::error::{DiskFailure, DownloadError};
use crate::segment::SEGMENT_BYTES;
use crate::store::BlobReader;
use crate::transfer::Inner;

/// Requests of one connection answered at once: all that an honest node has in flight.
pub(crate) const REQUESTS_MAX: usize = 64;
/// Mebibytes of answers in memory, of all connections.
pub(crate) const READ_AHEAD: usize = 64;
/// Mebibytes of answers in memory, of one connection: one peer that does not read must not take them all.
pub(crate) const READ_AHEAD_PER_CONNECTION: usize = 16;
/// How long a request may take to arrive: it is one packet, or a few dozen.
const REQUEST_ARRIVES: Duration = Duration::from_secs(10);
/// How long an answer may wait without one byte being taken. Longer than the other side is patient, for
/// the many streams of a slow link.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// The stream's request was not answered; the code means nothing to the other side.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("it sent {0}")]
    Breach(#[from] Breach),
    #[error("it neither sends nor receives")]
    Silent,
    #[error("the connection broke: {0}")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Disk(DiskFailure),
    #[error("this node is stopping")]
    Stopped,
    /// As it should be: whoever followed has what it wanted.
    #[error("nobody follows any more")]
    Unheard,
}

fn lost(error: impl Error + Send + Sync + 'static) -> ServeError {
    ServeError::Lost(Box::new(error))
}

/// Answer the requests of one connection until it ends or the node stops. After `until` no new one is
/// taken up.
pub(crate) async fn connection(
    transfer: Arc<Inner>,
    connection: Connection,
    peer: NodeId,
    until: impl Future<Output = ()>,
) {
    let mut ending = transfer.ending.subscribe();
    let mut until = std::pin::pin!(until);
    let read_ahead = Semaphore::new(READ_AHEAD_PER_CONNECTION);
    let mut answers = FuturesUnordered::new();
    let mut open = true;
    while open || !answers.is_empty() {
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return,
            () = &mut until, if open => open = false,
            Some(()) = answers.next() => {}
            accepted = connection.accept_bi(), if open && answers.len() < REQUESTS_MAX => match accepted {
                Ok((send, receive)) => {
                    let request = Served { transfer: &transfer, connection: &connection, peer, read_ahead: &read_ahead };
                    answers.push(request.serve(send, receive));
                }
                Err(_) => open = false,
            },
        }
    }
}

/// What answering one request works with.
struct Served<'a> {
    transfer: &'a Arc<Inner>,
    connection: &'a Connection,
    peer: NodeId,
    read_ahead: &'a Semaphore,
}

impl Served<'_> {
    async fn serve(self, mut send: SendStream, mut receive: RecvStream) {
        if let Err(error) = self.answer(&mut send, &mut receive).await {
            tracing::debug!(peer = %self.connection.remote_address(), %error, "a request was not answered");
            // Either fails only if the stream has ended already.
            drop(send.reset(GIVEN_UP));
            drop(receive.stop(GIVEN_UP));
        }
    }

    async fn answer(&self, send: &mut SendStream, receive: &mut RecvStream) -> Result<(), ServeError> {
        let request =
            timeout(REQUEST_ARRIVES, read_request(receive)).await.map_err(|_| ServeError::Silent)??;
        match request {
            Request::Holds { root } => {
                let ledger = Arc::clone(&self.transfer.store.ledger);
                let asked = self.transfer.workers.run(move || ledger.holds_whole(&root)).await;
                let holds =
                    asked.map_err(ServeError::Disk)?.map_err(|fault| ServeError::Disk(fault.into()))?;
                say(send, Answer::Holds(holds)).await?;
            }
            Request::Blobs { waits: false, .. } if self.transfer.outbox.is_busy() => {
                send_all(send, vec![Bytes::copy_from_slice(&wire::BUSY.to_be_bytes())]).await?;
            }
            Request::Blobs { root, digests, waits: _ } => {
                let sent = timeout(REQUEST_TIME_MAX, self.blobs(send, root, digests)).await;
                return sent.map_err(|_| ServeError::Silent)?;
            }
            Request::Hold { root } => self.hold(send, root).await?,
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
        send.finish().map_err(lost)
    }

    /// Send blobs, when it is their turn, and wait until they have arrived.
    async fn blobs(
        &self,
        send: &mut SendStream,
        root: ManifestRoot,
        digests: Vec<Digest>,
    ) -> Result<(), ServeError> {
        self.transfer.store.ledger.used(&root);
        let reader = move |transfer: &Inner| {
            let mut reader = BlobReader::new(transfer.store.clone());
            if let Some(pull) = transfer.pulls.of(&root) {
                reader.read_beside(Arc::clone(&pull.progress));
            }
            reader
        };
        let finder = reader(self.transfer);
        let sizes = move || {
            let size = |digest: Digest| match finder.find(&digest) {
                Ok((_, len)) => Ok((digest, len as usize)),
                Err(DownloadError::Disk(failure)) => Err(failure),
                Err(_) => Ok((digest, 0)),
            };
            digests.into_iter().map(size).collect::<Result<Vec<_>, _>>()
        };
        let sizes =
            self.transfer.workers.run(sizes).await.map_err(ServeError::Disk)?.map_err(ServeError::Disk)?;
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
            let mut sending = std::pin::pin!(self.batch(send, reader(self.transfer), batch.to_vec()));
            match timeout_at(began + TURN_TIME, &mut sending).await {
                Ok(sent) => sent?,
                Err(_) => {
                    turn.pass_on();
                    sending.await?;
                }
            }
        }
        send.finish().map_err(lost)?;
        // Only what has arrived leaves room for others. Whether it has is the other side's business.
        if timeout_at(began + TURN_TIME, send.stopped()).await.is_err() {
            turn.pass_on();
            let _ = timeout(TAKEN_WITHIN, send.stopped()).await;
        }
        Ok(())
    }

    /// Read, verify and send a few blobs.
    async fn batch(
        &self,
        send: &mut SendStream,
        mut reader: BlobReader,
        batch: Vec<(Digest, usize)>,
    ) -> Result<(), ServeError> {
        let bytes: usize = batch.iter().map(|(_, size)| size).sum();
        let units = bytes.div_ceil(1 << 20).clamp(1, READ_AHEAD_PER_CONNECTION) as u32;
        let here = self.read_ahead.acquire_many(units).await.map_err(|_| ServeError::Stopped)?;
        let anywhere = self.transfer.read_ahead.acquire_many(units).await.map_err(|_| ServeError::Stopped)?;
        let read = move || {
            let mut blobs = Vec::with_capacity(batch.len() * 2);
            for (digest, size) in &batch {
                let read = if *size == 0 { None } else { found(reader.blob(digest))? };
                let bytes = Bytes::from(read.unwrap_or_default());
                blobs.push(Bytes::copy_from_slice(&(bytes.len() as u32).to_be_bytes()));
                blobs.push(bytes);
            }
            Ok::<_, DiskFailure>(blobs)
        };
        let blobs =
            self.transfer.workers.run(read).await.map_err(ServeError::Disk)?.map_err(ServeError::Disk)?;
        send_all(send, blobs.into_iter().filter(|bytes| !bytes.is_empty()).collect()).await?;
        drop((here, anywhere));
        Ok(())
    }

    /// Hold a manifest, and say now and then that it is being worked on.
    async fn hold(&self, send: &mut SendStream, root: ManifestRoot) -> Result<(), ServeError> {
        let held = hold::hold(Arc::clone(self.transfer), root, (self.peer, self.connection.clone()));
        let mut held = std::pin::pin!(held);
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
fn found(read: Result<Vec<u8>, DownloadError>) -> Result<Option<Vec<u8>>, DiskFailure> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(DownloadError::Disk(failure)) => Err(failure),
        Err(
            DownloadError::Damaged { .. }
            | DownloadError::Missing(_)
            | DownloadError::OutOfRange { .. }
            | DownloadError::Stopped,
        ) => Ok(None),
    }
}

async fn read_request(receive: &mut RecvStream) -> Result<Request, ServeError> {
    let mut head = [0; 4];
    receive.read_exact(&mut head).await.map_err(lost)?;
    let mut frame = vec![0; wire::frame_len(head)?];
    receive.read_exact(&mut frame).await.map_err(lost)?;
    if receive.read(&mut [0]).await.map_err(lost)?.is_some() {
        return Err(Breach::TrailingBytes.into());
    }
    Ok(wire::request(&frame)?)
}

async fn say(send: &mut SendStream, answer: Answer) -> Result<(), ServeError> {
    send_all(send, vec![Bytes::from(wire::frame(&answer))]).await
}

pub(super) async fn send_all(send: &mut SendStream, mut parts: Vec<Bytes>) -> Result<(), ServeError> {
    let mut sent = 0;
    while sent < parts.len() {
        let written = timeout(TAKEN_WITHIN, send.write_chunks(&mut parts[sent..])).await;
        sent += written.map_err(|_| ServeError::Silent)?.map_err(lost)?.chunks;
    }
    Ok(())
}
