//! What goes over a stream between two nodes, byte by byte.
//!
//! A connection of ALPN `peerglass-chunks/1` between two members. Either side opens one bidirectional
//! stream for each request, sends one *frame* and finishes its half. The other side sends its answer
//! and finishes the other half.
//!
//! ```text
//! frame     length u32 big endian, at most 64 KiB, of what follows
//!           version u8, 2
//!           body    postcard
//! blob      length u32 big endian, then so many bytes; 0: not here, or not soundly
//!             top bit set: they are one zstd frame, the other 31 bits are its length
//!             2^32 - 2, as the first of an answer and its last: busy, nothing is sent;
//!             no frame is that long
//! ```
//!
//! | Request | Answer |
//! | --- | --- |
//! | `Holds { root }` | one frame `Answer::Holds(bool)`: all of the manifest is held, as far as the index knows |
//! | `Blobs { root, digests, .. }`, 1 to 1024 | one blob per digest, in that order: held, or gathered by the pull of `root` that goes on |
//! | `Keeps { root, at }` | one frame `Answer::Holds(bool)`: by a state with the log entry `at`, this node is to keep the manifest, and it holds all of it durably |
//! | `Share { root }` | one frame `Answer::Share`: how much of the manifest is here |
//! | `Follow { root }` | frames `News`, the first at once, then whenever there is some, until one that ends it |
//! | `Hold { root }` | frames `Answer::Working(n)`, one every [`WORKING_EVERY`], in which `n` grows with what was received; then one `Answer::Held` or `Answer::Refused` |
//! | `Ahead { root }` | the same; here `Held` says that what it names is kept |
//!
//! `Follow` asks for news of how much of a manifest is here. `Nothing`, `Ended` and a finished stream end it. `Whole`
//! is said of what is held; of a manifest that is being pulled, `Has` lists pieces (`swarm/pieces.rs`) as they come, after
//! all that came before, and `Whole` follows when it is. All but the last carry what the other side has to send, in
//! plain bytes. A node that is followed while it pulls follows back.
//!
//! `Hold` asks the other side to hold a manifest and to answer when that is durable. What it lacks
//! it fetches with requests of its own: over the same connection first, if that is QUIC, then from whom else it knows.
//!
//! `Ahead` asks the other side to fetch what a manifest names and to keep it for a while, without holding the manifest: it
//! is a part of an upload that goes on, lives in the memory of whoever asks, and can be had there until the answer.
//!
//! A blob is a chunk, a manifest page or a manifest's root; its name is the BLAKE3 of the plain bytes. Chunks travel as
//! they are stored: compressed, if that is shorter. `Blobs` says whether `plain` bytes are wanted, as pages and roots
//! are; their length only who sends them knows, and nobody opens what could be of any length. Holes are in the pages and
//! never travel. Knowing a name is enough to be given the bytes: who may connect at all is a member of the cluster.
//!
//! # What it promises
//!
//! * Reading takes hostile bytes: no panic, nothing allocated on the other side's word beyond the cap.
//!
//! # What it leaves to others
//!
//! How long to wait, and whether a blob is what its name says (`ask`, `serve`).

use std::time::Duration;

use peerglass_catalog::{Digest, ManifestRoot};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::survey::Share;
use crate::form::Form;

/// Longest frame, without its length.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 10;
/// Most blobs of one request: their names take half a frame.
pub(crate) const BLOBS_MAX: usize = 1024;
/// Most pieces of one frame of news: 40 KiB at most.
pub(crate) const NEWS_PIECES_MAX: usize = 8192;
/// Set in a blob's length: its bytes are compressed.
const ZSTD: u32 = 1 << 31;
/// In place of a blob's length: busy.
pub(crate) const BUSY: u32 = u32::MAX - 1;
/// How often a `Hold` in progress is heard of.
pub(crate) const WORKING_EVERY: Duration = Duration::from_secs(2);

const VERSION: u8 = 2;

/// What one node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    Holds {
        root: ManifestRoot,
    },
    /// `waits`: it would rather wait than be told that the other side is busy. `plain`: it takes nothing
    /// compressed.
    Blobs {
        root: ManifestRoot,
        digests: Vec<Digest>,
        waits: bool,
        plain: bool,
    },
    Hold {
        root: ManifestRoot,
    },
    Follow {
        root: ManifestRoot,
    },
    Share {
        root: ManifestRoot,
    },
    /// `at`: the index of the log entry by which the asking node decides.
    Keeps {
        root: ManifestRoot,
        at: u64,
    },
    Ahead {
        root: ManifestRoot,
    },
}

/// What a follower of a manifest is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    Nothing,
    Has { pieces: Vec<u32>, backlog: u64 },
    Whole { backlog: u64 },
    Ended,
}

/// A framed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Holds(bool),
    Working(u64),
    Held,
    Refused(HoldRefusal),
    Share(Share),
}

/// Why a node does not hold what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HoldRefusal {
    /// No node it could reach gave it all of the bytes.
    NoSource,
    /// Its disk has no room.
    Full,
    /// Its disk failed, or what it received cannot be kept.
    Failed,
    /// It has too much to do.
    Busy,
    /// It is stopping.
    Stopping,
}

/// How the other side broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("a frame of {0} bytes")]
    FrameTooLong(u64),
    #[error("an empty frame")]
    EmptyFrame,
    #[error("version {0}")]
    UnknownVersion(u8),
    #[error("a frame that is no message")]
    BadFrame,
    #[error("{0} blobs in one request")]
    BadCount(usize),
    #[error("an answer to another question")]
    WrongAnswer,
    #[error("a blob of {0} bytes, which is not its length")]
    WrongLength(u32),
    #[error("compressed bytes where only plain ones may be")]
    Compressed,
    #[error("bytes that are not the blob asked for")]
    WrongBytes,
    #[error("an answer that ends early")]
    EndsEarly,
    #[error("news of pieces that do not exist")]
    NoSuchPiece,
    #[error("nothing where it said it has something")]
    EmptyPromise,
    #[error("bytes after the end")]
    TrailingBytes,
}

/// A whole frame, length included.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = postcard::to_extend(message, vec![0, 0, 0, 0, VERSION])
        .expect("writing to a vector cannot fail, and no message has a map of unknown length");
    let len = bytes.len() - 4;
    assert!(len <= FRAME_BYTES_MAX, "requests are cut to fit");
    bytes[..4].copy_from_slice(&(len as u32).to_be_bytes());
    bytes
}

/// What comes before a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    NotHere,
    Busy,
    Raw(u32),
    Zstd(u32),
}

/// What comes before a blob of that form; `None` for one that is not here.
pub(crate) fn blob_head(form: Option<Form>) -> [u8; 4] {
    let word = form.map_or(0, |form| form.stored_len() | if form.is_zstd() { ZSTD } else { 0 });
    word.to_be_bytes()
}

/// What such a head says, which need not be true.
pub(crate) fn head(word: [u8; 4]) -> Head {
    match u32::from_be_bytes(word) {
        0 => Head::NotHere,
        BUSY => Head::Busy,
        word if word & ZSTD != 0 => Head::Zstd(word & !ZSTD),
        len => Head::Raw(len),
    }
}

/// The length a frame announces, if it is within bounds.
pub(crate) fn frame_len(head: [u8; 4]) -> Result<usize, Breach> {
    match u32::from_be_bytes(head) as usize {
        0 => Err(Breach::EmptyFrame),
        len if len > FRAME_BYTES_MAX => Err(Breach::FrameTooLong(len as u64)),
        len => Ok(len),
    }
}

/// The message of a frame, without its length.
pub(crate) fn message<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Breach> {
    let (version, body) = frame.split_first().ok_or(Breach::EmptyFrame)?;
    if *version != VERSION {
        return Err(Breach::UnknownVersion(*version));
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(Breach::TrailingBytes),
        Err(_) => Err(Breach::BadFrame),
    }
}

/// The request of a frame, without its length. Takes hostile bytes.
pub(crate) fn request(frame: &[u8]) -> Result<Request, Breach> {
    let request = message(frame)?;
    match &request {
        Request::Blobs { digests, .. } if digests.is_empty() || digests.len() > BLOBS_MAX => {
            Err(Breach::BadCount(digests.len()))
        }
        Request::Blobs { .. }
        | Request::Holds { .. }
        | Request::Hold { .. }
        | Request::Follow { .. }
        | Request::Share { .. }
        | Request::Keeps { .. }
        | Request::Ahead { .. } => Ok(request),
    }
}

#[cfg(test)]
mod tests {
    use peerglass_catalog::manifest::ENTRY_BYTES_MAX;
    use proptest::prelude::*;

    use super::*;

    fn body(message: &impl Serialize) -> Vec<u8> {
        let bytes = frame(message);
        let len = frame_len(bytes[..4].try_into().unwrap()).unwrap();
        assert_eq!(len, bytes.len() - 4);
        bytes[4..].to_vec()
    }

    #[test]
    fn the_largest_request_fits_a_frame_and_one_more_is_refused() {
        let blobs = |count| {
            let digests = vec![Digest([0xff; 32]); count];
            Request::Blobs { root: ManifestRoot(Digest([0xff; 32])), digests, waits: true, plain: true }
        };
        assert_eq!(request(&body(&blobs(BLOBS_MAX))), Ok(blobs(BLOBS_MAX)));
        assert_eq!(request(&body(&blobs(BLOBS_MAX + 1))), Err(Breach::BadCount(BLOBS_MAX + 1)));
        assert_eq!(request(&body(&blobs(0))), Err(Breach::BadCount(0)));
        let most = News::Has { pieces: vec![u32::MAX; NEWS_PIECES_MAX], backlog: u64::MAX };
        assert_eq!(message(&body(&most)), Ok(most));
    }

    #[test]
    fn each_rule_of_a_frame_is_enforced() {
        assert_eq!(frame_len([0; 4]), Err(Breach::EmptyFrame));
        assert_eq!(frame_len([0, 1, 0, 1]), Err(Breach::FrameTooLong(65_537)));
        assert_eq!(frame_len([0, 1, 0, 0]), Ok(65_536));
        assert_eq!(request(&[]), Err(Breach::EmptyFrame));
        assert_eq!(request(&[1, 0]), Err(Breach::UnknownVersion(1)));
        assert_eq!(request(&[3, 0]), Err(Breach::UnknownVersion(3)));
        let mut long = body(&Answer::Held);
        long.push(0);
        assert_eq!(message::<Answer>(&long), Err(Breach::TrailingBytes));
        // A count of 2^63 digests, none of which follow.
        let bomb = [&[VERSION, 1][..], &[0; 32], &[0xff; 9], &[0x7f]].concat();
        assert_eq!(request(&bomb), Err(Breach::BadFrame));
    }

    #[test]
    fn a_head_says_one_thing() {
        assert_eq!(head(blob_head(None)), Head::NotHere);
        assert_eq!(head(BUSY.to_be_bytes()), Head::Busy);
        assert_eq!(head(blob_head(Some(Form::raw(70_000)))), Head::Raw(70_000));
        let longest = Form::zstd(ENTRY_BYTES_MAX - 1, ENTRY_BYTES_MAX);
        assert_eq!(head(blob_head(longest)), Head::Zstd(ENTRY_BYTES_MAX - 1));
        // What no honest peer says: longer than a chunk can be, or nothing at all.
        for (word, says) in [(u32::MAX, Head::Zstd(u32::MAX >> 1)), (ZSTD, Head::Zstd(0))] {
            assert_eq!(head(word.to_be_bytes()), says);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_breach(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let versioned = [&[VERSION][..], &bytes].concat();
            if let Ok(read) = request(&versioned) {
                prop_assert_eq!(request(&body(&read)), Ok(read));
            }
            let _answer = message::<Answer>(&versioned);
            let _unversioned = request(&bytes);
        }
    }
}
