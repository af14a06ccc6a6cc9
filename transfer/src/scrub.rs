//! Reading all that is held, slowly, so that damage is found while others still have what was damaged.
//!
//! # What it promises
//!
//! * Manifests are read in order of their names, at a rate; every blob is compared with its name. What is damaged is
//!   counted, and remembered in the index as by any other read.
//! * Where it is survives a restart, and what cannot be read keeps it from nothing that comes after.
//! * Nobody waits for it: what is dropped meanwhile is not missed.
//!
//! # What it leaves to others
//!
//! Mending: a manifest that is fetched again gets sound blobs in place of damaged ones.

use std::sync::Arc;
use std::time::Duration;

use peerglass_catalog::{Digest, ManifestRoot};
use tokio::time::sleep;

use crate::error::DownloadError;
use crate::index::{self, Held};
use crate::ledger::chunks;
use crate::store::{BlobReader, Store};
use crate::transfer::Inner;

/// Blobs read between two pauses: a few mebibytes of chunks.
const BLOBS_PER_STEP: usize = 64;
/// Manifests looked at for one that is held whole: the others are being counted.
const LOOKED_AT: usize = 64;

/// One manifest that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Which.
    pub manifest: ManifestRoot,
    /// Bytes read.
    pub bytes: u64,
    /// Blobs that are not what they should be.
    pub damaged: u64,
}

/// See [`Transfer::scrub_next`](crate::Transfer::scrub_next).
pub(crate) async fn next(transfer: &Arc<Inner>, bytes_per_s: u64) -> Result<Option<Scrubbed>, DownloadError> {
    let Some(manifest) = work(transfer, next_root).await? else { return Ok(None) };
    let mut pass = Pass { transfer, bytes_per_s, scrubbed: Scrubbed { manifest, bytes: 0, damaged: 0 } };
    pass.step(vec![manifest.0]).await?;
    let root = work(transfer, move |store| sound(BlobReader::new(store.clone()).root(&manifest))).await?;
    for page in root.iter().flat_map(|root| root.pages()) {
        let digest = page.digest;
        pass.step(vec![digest]).await?;
        let page = work(transfer, move |store| sound(BlobReader::new(store.clone()).page(&digest))).await?;
        let named: Vec<Digest> = page.iter().flat_map(chunks).collect();
        for step in named.chunks(BLOBS_PER_STEP) {
            pass.step(step.to_vec()).await?;
        }
    }
    Ok(Some(pass.scrubbed))
}

/// The next manifest that is held whole, which is noted as read; `None` at the end, and then it begins anew.
fn next_root(store: &Store) -> Result<Option<ManifestRoot>, DownloadError> {
    let index = &*store.ledger.index;
    let mut after = index::scrubbed(index)?;
    loop {
        let held = index::held_after(index, after.as_ref(), LOOKED_AT)?;
        let whole = held.iter().find(|(_, held)| *held == Held::Whole).map(|(root, _)| *root);
        let Some((last, _)) = held.last() else {
            store.ledger.note_scrubbed(None)?;
            return Ok(None);
        };
        if let Some(root) = whole {
            store.ledger.note_scrubbed(Some(&root))?;
            return Ok(Some(root));
        }
        after = Some(*last);
    }
}

/// What was read, if it was.
fn sound<T>(read: Result<T, DownloadError>) -> Result<Option<T>, DownloadError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(DownloadError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn work<T: Send + 'static>(
    transfer: &Arc<Inner>,
    step: impl FnOnce(&Store) -> Result<T, DownloadError> + Send + 'static,
) -> Result<T, DownloadError> {
    let store = transfer.store.clone();
    transfer.workers.run(move || step(&store)).await.map_err(DownloadError::Disk)?
}

/// One manifest's.
struct Pass<'a> {
    transfer: &'a Arc<Inner>,
    bytes_per_s: u64,
    scrubbed: Scrubbed,
}

impl Pass<'_> {
    /// Read some blobs, and rest for as long as they may take.
    async fn step(&mut self, digests: Vec<Digest>) -> Result<(), DownloadError> {
        let read = move |store: &Store| {
            let mut reader = BlobReader::new(store.clone());
            let (mut bytes, mut damaged) = (0, 0);
            for digest in &digests {
                match sound(reader.blob(digest))? {
                    Some(blob) => bytes += blob.len() as u64,
                    // What left the index has been dropped.
                    None => damaged += u64::from(store.ledger.blob(digest)?.is_some()),
                }
            }
            Ok((bytes, damaged))
        };
        let (bytes, damaged) = work(self.transfer, read).await?;
        self.scrubbed.bytes += bytes;
        self.transfer.traffic.scrubbed(bytes);
        self.scrubbed.damaged += damaged;
        sleep(Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.max(1) as f64)).await;
        Ok(())
    }
}
