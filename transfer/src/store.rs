//! Reading single blobs, each verified against its name: opened first, if it is compressed.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::manifest::{Page, Root};
use peerglass_catalog::{Digest, ManifestRoot};

use crate::disk::{PackDisk, PackFile, PackId};
use crate::error::DownloadError;
use crate::form::{Form, Parcel};
use crate::gather::Progress;
use crate::index::Place;
use crate::ledger::{Ledger, chunks};
use crate::mutation::{self, Mutation};

/// Pack files one reader keeps open: a download walks through few packs at a time.
const OPEN_FILES_MAX: usize = 8;

/// The packs and what is known about them.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) packs: Arc<dyn PackDisk>,
    pub(crate) ledger: Arc<Ledger>,
}

/// Reads blobs, keeping the files it used last open.
pub(crate) struct BlobReader {
    store: Store,
    open: Vec<(PackId, Arc<dyn PackFile>)>,
    /// What is being gathered, which is read as well.
    beside: Option<Arc<Progress>>,
    /// The plain bytes of the compressed blob that was read last.
    opened: Vec<u8>,
}

impl BlobReader {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, open: Vec::new(), beside: None, opened: Vec::new() }
    }

    /// Read also what `progress` has gathered, sealed or not.
    pub(crate) fn read_beside(&mut self, progress: Arc<Progress>) {
        self.beside = Some(progress);
    }

    /// Where a blob that must be there is, and in what form.
    pub(crate) fn find(&self, digest: &Digest) -> Result<(Place, Form), DownloadError> {
        let blob = self.store.ledger.blob(digest)?;
        let sound = blob.and_then(|blob| Some((blob.sound_place()?, blob.form)));
        let beside = || self.beside.as_ref().and_then(|progress| progress.place(digest));
        // What is known to be damaged is tried as well: the damage may have been the disk's mood.
        let damaged = || blob.and_then(|blob| Some((blob.place?, blob.form)));
        let found = sound.or_else(beside).or_else(damaged);
        found.ok_or(DownloadError::Damaged { pack: None, digest: *digest })
    }

    fn shown(&self, digest: &Digest) -> Option<Bytes> {
        self.beside.as_ref()?.shown(digest)
    }

    /// How long a blob is, plain, that must be there.
    pub(crate) fn plain_len(&self, digest: &Digest) -> Result<usize, DownloadError> {
        match self.shown(digest) {
            Some(shown) => Ok(shown.len()),
            None => Ok(self.find(digest)?.1.plain_len() as usize),
        }
    }

    /// Fill `buffer` from `place`. Short packs and missing packs are errors of those kinds.
    pub(crate) fn read(&mut self, place: Place, buffer: &mut [u8]) -> io::Result<()> {
        let known = self.open.iter().position(|(pack, _)| *pack == place.pack);
        let file = match known {
            Some(at) => Arc::clone(&self.open[at].1),
            None => {
                let file = self.store.packs.open(place.pack)?;
                if self.open.len() == OPEN_FILES_MAX {
                    self.open.remove(0);
                }
                self.open.push((place.pack, Arc::clone(&file)));
                file
            }
        };
        file.read_at(place.offset, buffer)
    }

    /// Read one blob as it is stored, and verify it. If it is compressed, `opened` is its plain bytes.
    ///
    /// Reclaim may move the blob between the look into the index and the read, so a failure counts
    /// only if the blob is still where it was looked for.
    fn load(&mut self, digest: &Digest) -> Result<(Place, Form, Vec<u8>), DownloadError> {
        let (mut place, mut form) = self.find(digest)?;
        loop {
            let mut stored = vec![0; form.stored_len() as usize];
            let read = self.read(place, &mut stored);
            let is_it = |plain: &[u8]| is_called(plain, digest);
            if read.is_ok() && form.open(&stored, &mut self.opened).is_some_and(is_it) {
                return Ok((place, form, stored));
            }
            let now = self.find(digest)?;
            if now.0 == place {
                return Err(self.failure(digest, place, read.err()));
            }
            (place, form) = now;
        }
    }

    /// What a failed read of a blob at `place` means; damage is remembered.
    fn failure(&self, digest: &Digest, place: Place, error: Option<io::Error>) -> DownloadError {
        let rot = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
        };
        if let Some(error) = error.filter(|error| !rot(error)) {
            return error.into();
        }
        tracing::error!(pack = %place.pack, %digest, "a stored blob is damaged");
        if let Err(fault) = self.store.ledger.quarantine(digest, place) {
            return fault.into();
        }
        DownloadError::Damaged { pack: Some(place.pack), digest: *digest }
    }

    /// Read one manifest page.
    pub(crate) fn page(&mut self, digest: &Digest) -> Result<Page, DownloadError> {
        let (bytes, pack) = self.whole(digest)?;
        Page::decode(&bytes).map_err(|_| DownloadError::Damaged { pack, digest: *digest })
    }

    /// Read a manifest's root.
    pub(crate) fn root(&mut self, root: &ManifestRoot) -> Result<Root, DownloadError> {
        let (bytes, pack) = self.whole(&root.0)?;
        Root::decode(&bytes).map_err(|_| DownloadError::Damaged { pack, digest: root.0 })
    }

    /// Read one blob, plain.
    pub(crate) fn blob(&mut self, digest: &Digest) -> Result<Vec<u8>, DownloadError> {
        self.whole(digest).map(|(bytes, _)| bytes)
    }

    /// Read one blob as it is stored.
    pub(crate) fn parcel(&mut self, digest: &Digest) -> Result<Parcel, DownloadError> {
        match self.shown(digest) {
            Some(shown) => Ok(Parcel::raw(shown)),
            None => self.load(digest).map(|(_, form, stored)| Parcel { form, bytes: Bytes::from(stored) }),
        }
    }

    fn whole(&mut self, digest: &Digest) -> Result<(Vec<u8>, Option<PackId>), DownloadError> {
        if let Some(shown) = self.shown(digest) {
            return Ok((shown.to_vec(), None));
        }
        let (place, form, stored) = self.load(digest)?;
        let plain = if form.is_zstd() { std::mem::take(&mut self.opened) } else { stored };
        Ok((plain, Some(place.pack)))
    }
}

/// Whether every one of `digests` is stored soundly.
pub(crate) fn all_sound(ledger: &Ledger, digests: impl Iterator<Item = Digest>) -> Result<bool, Fault> {
    for digest in digests {
        if ledger.blob(&digest)?.and_then(|blob| blob.sound_place()).is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether all that a manifest names is held, and nothing of it known to be damaged or lost.
pub(crate) fn whole_and_sound(store: &Store, root: &ManifestRoot) -> Result<bool, DownloadError> {
    if !store.ledger.holds_whole(root)? || !all_sound(&store.ledger, [root.0].into_iter())? {
        return Ok(false);
    }
    let mut reader = BlobReader::new(store.clone());
    let looked = reader.root(root).and_then(|decoded| {
        for page in decoded.pages() {
            let entries = reader.page(&page.digest)?;
            if !all_sound(&store.ledger, chunks(&entries))? {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match looked {
        Err(DownloadError::Damaged { .. }) => Ok(false),
        looked => looked,
    }
}

/// Whether bytes read from a pack are what their name says.
pub(crate) fn is_called(plain: &[u8], digest: &Digest) -> bool {
    mutation::is(Mutation::VerificationSkipped) || Digest::of(plain) == *digest
}
