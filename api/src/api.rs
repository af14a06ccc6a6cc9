//! What every request shares: handles, settings, clock, chance.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peerglass_catalog::Timestamp;
use peerglass_consensus::Consensus;
use peerglass_transfer::Transfer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, PasswordChecks};
use crate::front::Front;
use crate::settings::ApiSettings;

/// How long reads that may be stale do not wait for a majority that did not answer. Then one of them tries again.
const CUT_OFF_REMEMBERED: Duration = Duration::from_secs(5);

/// What an [`Api`] is built from.
pub struct ApiParts {
    /// What exists.
    pub consensus: Consensus,
    /// The bytes.
    pub transfer: Transfer,
    /// Limits and formats.
    pub settings: ApiSettings,
    /// How callers prove who they are.
    pub auth: Auth,
    /// Wall time, for `created_at` and `updated_at`.
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Where ids come from. Two nodes must not have the same.
    pub seed: u64,
}

/// The Images API of one node. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

/// What the clones of an [`Api`] share. Nothing of it is for other packages.
pub struct Shared {
    pub(crate) consensus: Consensus,
    pub(crate) transfer: Transfer,
    pub(crate) settings: ApiSettings,
    pub(crate) auth: Auth,
    pub(crate) password_checks: PasswordChecks,
    pub(crate) schemas: crate::v2::schemas::Schemas,
    /// Uploads outlive their request: a client that hangs up must not leave an image half begun.
    pub(crate) uploads: TaskTracker,
    /// A permit for each download under way.
    pub(crate) downloads: Arc<Semaphore>,
    /// Cancelled when uploads must stop trying to release their images.
    pub(crate) closing: CancellationToken,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    chance: Mutex<StdRng>,
    draining: AtomicBool,
    /// Until when no majority is expected to answer a read that need not wait for one.
    cut_off_until: Mutex<Option<Instant>>,
    /// Whether uploads may begin.
    uploads_open: AtomicBool,
}

impl Api {
    /// The API of a node made of these parts. Starts nothing.
    pub fn new(parts: ApiParts) -> Self {
        let mut chance = StdRng::seed_from_u64(parts.seed);
        let mut key = [0; 32];
        chance.fill_bytes(&mut key);
        Self(Arc::new(Shared {
            consensus: parts.consensus,
            transfer: parts.transfer,
            schemas: crate::v2::schemas::Schemas::new(&parts.settings),
            password_checks: PasswordChecks::new(key, parts.settings.password_checks_max),
            downloads: Arc::new(Semaphore::new(parts.settings.downloads_max.min(Semaphore::MAX_PERMITS))),
            settings: parts.settings,
            auth: parts.auth,
            uploads: TaskTracker::new(),
            closing: CancellationToken::new(),
            now: parts.now,
            chance: Mutex::new(chance),
            draining: AtomicBool::new(false),
            cut_off_until: Mutex::new(None),
            uploads_open: AtomicBool::new(true),
        }))
    }

    /// The service that answers requests, for a server of one's own or for tests.
    pub fn service(&self) -> Front {
        Front::new(self.clone())
    }

    /// From now on `/healthcheck` answers 503, so that load balancers look elsewhere.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// No upload may begin until [`open_uploads`](Self::open_uploads).
    pub fn hold_uploads(&self) {
        self.0.uploads_open.store(false, Ordering::Release);
    }

    /// From now on uploads may begin: those of this node's last run have been given up. Before, one that
    /// began would be given up with them.
    pub fn open_uploads(&self) {
        self.0.uploads_open.store(true, Ordering::Release);
    }

    /// Whether uploads may begin.
    pub fn takes_uploads(&self) -> bool {
        self.0.uploads_open.load(Ordering::Acquire)
    }

    /// Wait until no upload runs and none is left to release. Call when no connection is open.
    ///
    /// Images whose release consensus did not confirm by then stay `saving` until this node
    /// abandons its uploads at the next start.
    pub async fn finish_uploads(&self) {
        self.0.closing.cancel();
        self.0.uploads.close();
        self.0.uploads.wait().await;
    }

    /// Whether no majority answered a moment ago.
    pub(crate) fn is_cut_off(&self) -> bool {
        let until = *self.0.cut_off_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// No majority answered a read.
    pub(crate) fn note_cut_off(&self) {
        let until = Instant::now() + CUT_OFF_REMEMBERED;
        *self.0.cut_off_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.now)()
    }

    pub(crate) fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.chance.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("settings", &self.settings).finish_non_exhaustive()
    }
}
