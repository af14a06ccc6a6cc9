//! One piece, from asking for it to having compared it with its names.

use std::sync::Arc;

use futures::future::Aborted;
use futures::stream::FuturesUnordered;
use peerglass_catalog::ManifestRoot;
use peerglass_catalog::keyspace::BoxFuture;

use crate::connection::Transport;
use crate::error::DiskFailure;
use crate::exchange::ask::{AskError, Link, Want};
use crate::exchange::sources::verify;
use crate::exchange::wire::{BLOBS_MAX, Breach};
use crate::form::Parcel;
use crate::mutation::{self, Mutation};
use crate::swarm::Fetch;
use crate::workers::Workers;

/// What came of asking for a piece.
pub(super) struct Fetched {
    pub(super) fetch: Fetch,
    pub(super) wants: Vec<Want>,
    pub(super) got: Vec<Option<Parcel>>,
    pub(super) outcome: Result<(), AskError>,
    pub(super) over: Transport,
}

/// What is asked for and has not come, or was taken back.
pub(super) type Flight = FuturesUnordered<BoxFuture<'static, Result<Result<Fetched, DiskFailure>, Aborted>>>;

/// Ask for a piece and verify what comes.
pub(super) async fn fetch_piece(
    link: Arc<Link>,
    workers: Workers,
    root: ManifestRoot,
    fetch: Fetch,
    wants: Vec<Want>,
) -> Result<Fetched, DiskFailure> {
    let mut got = vec![None; wants.len()];
    let mut outcome = Ok(());
    for (wants, got) in wants.chunks(BLOBS_MAX).zip(got.chunks_mut(BLOBS_MAX)) {
        outcome = link.blobs(root, wants, false, got).await;
        if outcome.is_err() {
            break;
        }
    }
    if mutation::is(Mutation::GarbageCounted) {
        return Ok(Fetched { fetch, wants, got, outcome, over: link.connection().transport() });
    }
    let (got, sound) = verify(workers, wants.clone(), got, |parcel, _| parcel).await?;
    if !sound {
        outcome = Err(Breach::WrongBytes.into());
    }
    Ok(Fetched { fetch, wants, got, outcome, over: link.connection().transport() })
}
