//! The two halves of a stream: one sends an answer, one receives it.

use std::error::Error;
use std::future::poll_fn;

use bytes::Bytes;
use quinn::VarInt;

/// Why a stream goes no further.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

pub(super) fn broken(error: impl Error + Send + Sync + 'static) -> Broken {
    Box::new(error)
}

/// The answer was not finished; the code means nothing to the other side.
const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// Where an answer goes. Dropped before it is finished, it ends as broken.
pub(crate) struct Sending {
    stream: Outgoing,
    finished: bool,
}

enum Outgoing {
    Quic(quinn::SendStream),
    Tcp(h2::SendStream<Bytes>),
}

impl Sending {
    pub(super) fn quic(stream: quinn::SendStream) -> Self {
        Self { stream: Outgoing::Quic(stream), finished: false }
    }

    pub(super) fn tcp(stream: h2::SendStream<Bytes>) -> Self {
        Self { stream: Outgoing::Tcp(stream), finished: false }
    }

    /// Hand over some of `parts`, from the first one on, as soon as there is room for any. Answers with how many were
    /// taken whole; what was taken of the next is cut from it. If the future is dropped, nothing was taken.
    pub(crate) async fn send(&mut self, parts: &mut [Bytes]) -> Result<usize, Broken> {
        match &mut self.stream {
            Outgoing::Quic(stream) => Ok(stream.write_chunks(parts).await.map_err(broken)?.chunks),
            Outgoing::Tcp(stream) => {
                let Some(part) = parts.first_mut() else { return Ok(0) };
                let room = room_for(stream, part.len()).await?;
                let taken = part.split_to(room.min(part.len()));
                stream.send_data(taken, false).map_err(broken)?;
                Ok(usize::from(part.is_empty()))
            }
        }
    }

    /// Nothing follows.
    pub(crate) fn finish(&mut self) -> Result<(), Broken> {
        self.finished = true;
        match &mut self.stream {
            Outgoing::Quic(stream) => stream.finish().map_err(broken),
            Outgoing::Tcp(stream) => stream.send_data(Bytes::new(), true).map_err(broken),
        }
    }

    /// Resolves when the other side wants no more, and of a finished answer when it has all of it, as far as the
    /// connection can tell: over TCP, when the kernel and the stream's buffer have it.
    pub(crate) async fn taken(&mut self) {
        match &mut self.stream {
            // Either says that nobody waits for more.
            Outgoing::Quic(stream) => drop(stream.stopped().await),
            Outgoing::Tcp(_) if self.finished => {}
            Outgoing::Tcp(stream) => drop(poll_fn(|context| stream.poll_reset(context)).await),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let (Outgoing::Quic(stream), false) = (&mut self.stream, self.finished) {
            // It would be finished by its own drop. Fails only if it has ended already.
            let _ = stream.reset(GIVEN_UP);
        }
    }
}

/// Wait until some of `wanted` bytes may be sent. Answers with how many.
async fn room_for(stream: &mut h2::SendStream<Bytes>, wanted: usize) -> Result<usize, Broken> {
    stream.reserve_capacity(wanted);
    let mut room = stream.capacity();
    while room == 0 && wanted > 0 {
        let more = poll_fn(|context| stream.poll_capacity(context)).await;
        room = more.ok_or("the stream has ended")?.map_err(broken)?;
    }
    Ok(room)
}

/// Where a request or an answer comes from.
pub(crate) enum Receiving {
    Quic(quinn::RecvStream),
    Tcp {
        stream: h2::RecvStream,
        /// Received, and not read yet.
        rest: Bytes,
    },
}

impl Receiving {
    pub(super) fn tcp(stream: h2::RecvStream) -> Self {
        Self::Tcp { stream, rest: Bytes::new() }
    }

    /// Read some bytes, at least one unless `buffer` is empty; `None` at the end. If the future is dropped,
    /// nothing was read.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Broken> {
        let (stream, rest) = match self {
            Self::Quic(stream) => return stream.read(buffer).await.map_err(broken),
            Self::Tcp { stream, rest } => (stream, rest),
        };
        while rest.is_empty() {
            match stream.data().await {
                None => return Ok(None),
                Some(received) => *rest = received.map_err(broken)?,
            }
            stream.flow_control().release_capacity(rest.len()).map_err(broken)?;
        }
        let read = buffer.len().min(rest.len());
        buffer[..read].copy_from_slice(&rest.split_to(read));
        Ok(Some(read))
    }
}
