//! A snapshot in pieces, on its way out or on its way in.
//!
//! Pieces are kept in the state's own keyspace under keys that are no part of the state. A spool begins
//! with the applied mark and the sessions, then follows the catalog:
//!
//! ```text
//! length:u32le postcard(Head)   catalog::snapshot
//! ```
//!
//! ```text
//! #so h  outgoing title        #si h  incoming title
//! #so p number:u32be  piece    #si p number:u32be  piece
//! ```
//!
//! The title names the digest of all bytes, so two spools with one title are one: that is what makes a
//! transfer resumable. It is written after the pieces of an outgoing spool, and before those of an
//! incoming one, whose pieces are there from the first to some last.

use std::io::{self, Write};
use std::sync::Arc;

use peerglass_catalog::keyspace::{Batch, Direction, KeyRange, Keyspace, Read};
use peerglass_catalog::{Fault, snapshot};
use serde::{Deserialize, Serialize};

use crate::log::{decode, encode};
use crate::machine::{Applied, read_applied};
use crate::raft::Meta;
use crate::session::Sessions;

/// Bytes of a piece, except the last.
pub(crate) const PIECE_BYTES: usize = 512 << 10;

/// Every key of every spool.
pub(crate) const SPOOLS: &[u8] = b"#s";

/// Which way a spool goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Made here, to be sent.
    Out,
    /// Received here.
    In,
}

/// What a spool is of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Title {
    /// The state it holds, as openraft describes it.
    pub(crate) meta: Meta,
    /// How many pieces there are.
    pub(crate) pieces: u32,
    /// BLAKE3 of all their bytes.
    pub(crate) digest: [u8; 32],
}

/// What comes before the catalog.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) applied: Applied,
    pub(crate) sessions: Sessions,
}

impl Way {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Out => b"#so",
            Self::In => b"#si",
        }
    }

    fn title_key(self) -> Vec<u8> {
        [self.prefix(), b"h"].concat()
    }

    fn piece_key(self, number: u32) -> Vec<u8> {
        [self.prefix(), b"p", &number.to_be_bytes()].concat()
    }
}

/// Write the present state down as the outgoing spool. Whatever was there before is dropped. `alone` is
/// held until the last piece is written, also when nobody waits for it any more.
pub(crate) async fn make<T: Send + 'static>(state: &Arc<dyn Keyspace>, alone: T) -> Result<Title, Fault> {
    drop_spool(&**state, Way::Out)?;
    let sink = Arc::clone(state);
    let (done, made) = tokio::sync::oneshot::channel();
    let write = move |read: &dyn Read| {
        // Whoever waits for it may have gone; the next transfer makes another.
        let _ = done.send(write_down(read, &*sink));
        drop(alone);
    };
    Arc::clone(state).view_apart(Box::new(write)).await;
    made.await.map_err(|_| Fault::Io(io::Error::other("the snapshot was not written down")))?
}

fn write_down(read: &dyn Read, sink: &dyn Keyspace) -> Result<Title, Fault> {
    let applied = read_applied(read)?;
    let head = encode(&Head { applied: applied.clone(), sessions: Sessions::load(read)? });
    let mut pieces = PieceWriter { sink, number: 0, piece: Vec::new(), hasher: blake3::Hasher::new() };
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    pieces.write_all(&length.to_le_bytes())?;
    pieces.write_all(&head)?;
    snapshot::write(read, &mut pieces).map_err(|error| Fault::Io(io::Error::other(error)))?;
    pieces.flush_piece()?;
    let digest = *pieces.hasher.finalize().as_bytes();
    let title = Title { meta: crate::snapshot::meta(applied), pieces: pieces.number, digest };
    let mut batch = Batch::default();
    batch.put(Way::Out.title_key(), encode(&title));
    sink.write(batch)?;
    Ok(title)
}

struct PieceWriter<'a> {
    sink: &'a dyn Keyspace,
    number: u32,
    piece: Vec<u8>,
    hasher: blake3::Hasher,
}

impl PieceWriter<'_> {
    fn flush_piece(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(Way::Out.piece_key(self.number), std::mem::take(&mut self.piece));
        self.number = self.number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        self.sink.write(batch).map_err(io::Error::other)
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.hasher.update(taken);
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE_BYTES {
            self.flush_piece()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The title of the spool that goes `way`, if there is one.
pub(crate) fn title(state: &(impl Read + ?Sized), way: Way) -> Result<Option<Title>, Fault> {
    let key = way.title_key();
    state.get(&key)?.map(|value| decode("snapshot title", &key, &value)).transpose()
}

/// One piece of it.
pub(crate) fn piece(state: &(impl Read + ?Sized), way: Way, number: u32) -> Result<Option<Vec<u8>>, Fault> {
    state.get(&way.piece_key(number))
}

/// Get ready to receive `title`. Answers with how many of its pieces are here already.
pub(crate) fn expect(state: &dyn Keyspace, title: &Title) -> Result<u32, Fault> {
    if self::title(state, Way::In)?.as_ref() == Some(title) {
        let range = KeyRange::prefix(&[Way::In.prefix(), b"p"].concat());
        let last = state.scan(range, Direction::Descending).next().transpose()?;
        let number = last.and_then(|(key, _)| key.get(4..8)?.try_into().ok()).map(u32::from_be_bytes);
        return Ok(number.map_or(0, |number| number.saturating_add(1)).min(title.pieces));
    }
    drop_spool(state, Way::In)?;
    let mut batch = Batch::default();
    batch.put(Way::In.title_key(), encode(title));
    state.write(batch)?;
    Ok(0)
}

/// Whether everything that `title` names is here and is what it says.
pub(crate) fn is_whole(state: &(impl Read + ?Sized), title: &Title) -> Result<bool, Fault> {
    let mut hasher = blake3::Hasher::new();
    for number in 0..title.pieces {
        let Some(piece) = piece(state, Way::In, number)? else { return Ok(false) };
        hasher.update(&piece);
    }
    Ok(*hasher.finalize().as_bytes() == title.digest)
}

/// Keep a received piece.
pub(crate) fn keep(state: &dyn Keyspace, number: u32, bytes: Vec<u8>) -> Result<(), Fault> {
    let mut batch = Batch::default();
    batch.put(Way::In.piece_key(number), bytes);
    state.write(batch)
}

/// Write `from` down and have `to` receive it, where both are in one process.
pub(crate) async fn copy(from: &Arc<dyn Keyspace>, to: &dyn Keyspace) -> Result<Title, Fault> {
    let title = make(from, ()).await?;
    for number in expect(to, &title)?..title.pieces {
        let piece = piece(&**from, Way::Out, number)?;
        keep(to, number, piece.ok_or_else(|| Fault::Io(io::ErrorKind::UnexpectedEof.into()))?)?;
    }
    Ok(title)
}

/// Drop a spool.
pub(crate) fn drop_spool(state: &dyn Keyspace, way: Way) -> Result<(), Fault> {
    let mut batch = Batch::default();
    batch.clear(KeyRange::prefix(way.prefix()));
    state.write(batch)
}

/// The bytes of a spool, in order.
pub(crate) struct PieceReader<'a, R: Read + ?Sized> {
    state: &'a R,
    way: Way,
    pieces: u32,
    next: u32,
    piece: io::Cursor<Vec<u8>>,
}

impl<'a, R: Read + ?Sized> PieceReader<'a, R> {
    pub(crate) fn new(state: &'a R, way: Way, title: &Title) -> Self {
        Self { state, way, pieces: title.pieces, next: 0, piece: io::Cursor::default() }
    }
}

impl<R: Read + ?Sized> io::Read for PieceReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() || self.next == self.pieces {
                return Ok(read);
            }
            let piece = piece(self.state, self.way, self.next).map_err(io::Error::other)?;
            self.piece = io::Cursor::new(piece.ok_or(io::ErrorKind::UnexpectedEof)?);
            self.next += 1;
        }
    }
}
