//! In what form a blob is kept and sent: plain, or as one zstd frame where that is shorter.
//!
//! A chunk is compressed once, when a client brings it. From then on packs keep it and nodes send it in that form.
//! Its name is the BLAKE3 of its plain bytes in either. Manifest pages and roots are always plain.
//!
//! # What it promises
//!
//! * A blob is compressed exactly if its form says that it is stored shorter than it is.
//! * Opening takes hostile bytes: it allocates and writes no more than the form says, and yields nothing unless
//!   they are a single frame, from the first byte to the last, of just that length and without a dictionary.
//! * The same bytes are compressed alike, whatever was compressed before.
//!
//! # What it leaves to others
//!
//! Whether plain bytes have the digest they are called by.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use peerglass_catalog::manifest::ENTRY_BYTES_MAX;
use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{self, CCtx, DCtx};

/// The fastest of the usual levels: an upload is not to wait for it, and the next ones save little more.
const LEVEL: i32 = 1;
/// Most that a compressed chunk may take of its plain length, in percent. What saves less is not worth the
/// time it costs each reader.
const WORTH_PERCENT: usize = 88;
/// Contexts kept for later, of either kind: as many as threads compute at once on most machines. Beside what is
/// in use they are some 500 KiB for one that compresses and 100 KiB for one that opens.
const IDLE_MAX: usize = 16;
/// What a frame begins with, and what is another kind of frame does not.
const MAGIC: [u8; 4] = zstd_safe::MAGICNUMBER.to_le_bytes();

/// How long a blob is and how long it is stored, which also says whether it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub(crate) struct Form {
    stored_len: u32,
    plain_len: u32,
}

/// A blob in the form it is kept and sent in.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) form: Form,
    pub(crate) bytes: Bytes,
}

/// Lengths that no blob has.
#[derive(Debug, thiserror::Error)]
#[error("a blob of {1} bytes stored as {0}")]
pub(crate) struct NoForm(u32, u32);

impl TryFrom<(u32, u32)> for Form {
    type Error = NoForm;

    fn try_from((stored_len, plain_len): (u32, u32)) -> Result<Self, NoForm> {
        if stored_len == plain_len { Some(Self::raw(plain_len)) } else { Self::zstd(stored_len, plain_len) }
            .ok_or(NoForm(stored_len, plain_len))
    }
}

impl From<Form> for (u32, u32) {
    fn from(form: Form) -> Self {
        (form.stored_len, form.plain_len)
    }
}

impl Form {
    /// Stored as it is.
    pub(crate) fn raw(len: u32) -> Self {
        Self { stored_len: len, plain_len: len }
    }

    /// Compressed; `None` if a chunk cannot be that long or is not shorter for it.
    pub(crate) fn zstd(stored_len: u32, plain_len: u32) -> Option<Self> {
        let shorter = 0 < stored_len && stored_len < plain_len && plain_len <= ENTRY_BYTES_MAX;
        shorter.then_some(Self { stored_len, plain_len })
    }

    pub(crate) fn is_zstd(self) -> bool {
        self.stored_len < self.plain_len
    }

    pub(crate) fn stored_len(self) -> u32 {
        self.stored_len
    }

    pub(crate) fn plain_len(self) -> u32 {
        self.plain_len
    }

    /// The plain bytes of what is `stored`, which may be made in `scratch`; `None` if it is not of this form.
    pub(crate) fn open<'a>(self, stored: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        if !self.is_zstd() {
            return (stored.len() == self.plain_len as usize).then_some(stored);
        }
        scratch.resize(self.plain_len as usize, 0);
        self.open_into(stored, scratch).then_some(&scratch[..])
    }

    /// The same to where it belongs. False if it is not of this form, and then `plain` holds anything.
    pub(crate) fn open_into(self, stored: &[u8], plain: &mut [u8]) -> bool {
        if (stored.len(), plain.len()) != (self.stored_len as usize, self.plain_len as usize) {
            return false;
        }
        if self.is_zstd() {
            return decompress(stored, plain);
        }
        plain.copy_from_slice(stored);
        true
    }
}

impl Parcel {
    /// A plain blob.
    pub(crate) fn raw(bytes: Bytes) -> Self {
        let len = u32::try_from(bytes.len()).expect("no blob is 4 GiB long: pages and roots have limits");
        Self { form: Form::raw(len), bytes }
    }
}

/// Append a chunk to `out`, compressed if that pays.
pub(crate) fn append(plain: &[u8], out: &mut Vec<u8>) -> Form {
    let plain_len = u32::try_from(plain.len()).expect("no chunk is 4 GiB long: the cutter has a limit");
    let start = out.len();
    // What does not fit is not worth it; zstd gives up where it finds out.
    out.resize(start + plain.len() * WORTH_PERCENT / 100, 0);
    let frame = CCTXS.lend(CCtx::create, |context| context.compress(&mut out[start..], plain, LEVEL));
    let form = frame.ok().and_then(|len| Form::zstd(u32::try_from(len).ok()?, plain_len));
    match form {
        Some(form) => out.truncate(start + form.stored_len as usize),
        None => {
            out.truncate(start);
            out.extend_from_slice(plain);
        }
    }
    form.unwrap_or(Form::raw(plain_len))
}

/// Fill `plain` from the frame `stored`. False if it is anything else than one frame of that length.
fn decompress(stored: &[u8], plain: &mut [u8]) -> bool {
    let of_len = |said: u64| said == plain.len() as u64;
    stored.starts_with(&MAGIC)
        && zstd_safe::find_frame_compressed_size(stored) == Ok(stored.len())
        && zstd_safe::get_frame_content_size(stored).is_ok_and(|said| said.is_some_and(of_len))
        && zstd_safe::get_dict_id_from_frame(stored).is_none()
        && DCTXS.lend(DCtx::create, |context| context.decompress(plain, stored)) == Ok(plain.len())
}

static CCTXS: Idle<CCtx<'static>> = Idle(Mutex::new(Vec::new()));
static DCTXS: Idle<DCtx<'static>> = Idle(Mutex::new(Vec::new()));

/// Contexts that nobody uses just now. They hold memory and no state: each use begins anew.
struct Idle<T>(Mutex<Vec<T>>);

impl<T> Idle<T> {
    fn lend<R>(&self, make: fn() -> T, job: impl FnOnce(&mut T) -> R) -> R {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = kept.unwrap_or_else(make);
        let done = job(&mut context);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(context);
        }
        done
    }
}

#[cfg(test)]
mod tests;
