//! One upload, from `queued` to `active` or back.
//!
//! The order matters. Bytes become durable first and visible second, so a crash between the two
//! leaves chunks that reclaim collects, never an image that cannot be read.
//!
//! # What it promises
//!
//! * While this process lives no image stays `saving` after its upload ended, however it ended: the
//!   release is tried again until consensus answers.
//! * Bytes whose announcement may have been accepted are kept until it is known.

use std::time::Duration;

use peerglass_catalog::{Command, Image, ImageId, Outcome, Upload, UploadId};
use peerglass_consensus::{ConsensusError, SubmitError};
use peerglass_transfer::{CopyOrder, InspectOrder, StoredImage, UploadOrder};
use tokio::sync::oneshot;

use crate::api::Api;
use crate::error::{ApiError, Step};
use crate::wire::WatchedBody;

/// First pause before the release of an image is tried again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What an upload needs besides its body.
pub(super) struct Reception {
    pub(super) api: Api,
    pub(super) image: ImageId,
    pub(super) upload: UploadId,
    pub(super) announced_bytes: Option<u64>,
    /// Where the request waits. Nobody listens if the client hung up.
    pub(super) answer: oneshot::Sender<Result<(), ApiError>>,
}

/// Whether consensus has confirmed that an upload no longer holds its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    Confirmed,
    Unknown,
}

/// Carry one upload out and answer.
pub(super) async fn receive(reception: Reception, body: WatchedBody) {
    let Reception { api, image, upload, announced_bytes, answer } = reception;
    let begin = Command::BeginUpload {
        image,
        upload: Upload { id: upload, node: api.consensus.node() },
        at: api.now(),
    };
    let record = match api.consensus.submit(begin).await {
        Ok(Outcome::Image(record)) => *record,
        Ok(Outcome::Deleted { .. } | Outcome::Abandoned(_) | Outcome::Noted | Outcome::Admitted(_)) => return,
        Err(error @ SubmitError::Refused(_)) => {
            let _ = answer.send(Err(ApiError::submit(Step::Begin, error)));
            return;
        }
        // It may have begun all the same.
        Err(error @ SubmitError::Failed(_)) => {
            let _ = answer.send(Err(ApiError::submit(Step::Begin, error)));
            // Nor may it begin after the release, which would hold the image for ever.
            api.consensus.earlier_requests_over().await;
            release(&api, image, upload).await;
            return;
        }
    };
    match api.transfer.upload(order(&api, &record, announced_bytes), body).await {
        Ok(stored) => match copy(&api, image, upload, &stored).await {
            Ok(()) => announce(&api, image, upload, stored, answer).await,
            Err(error) => give_up(&api, image, upload, error, answer).await,
        },
        Err(error) => give_up(&api, image, upload, ApiError::Upload(error), answer).await,
    }
}

/// Have other nodes hold the bytes as well, as many as are wanted and there are. First the catalog is
/// told, so that no node takes them for bytes that nobody names.
async fn copy(api: &Api, image: ImageId, upload: UploadId, stored: &StoredImage) -> Result<(), ApiError> {
    let copies = copies(api);
    if copies == 0 {
        return Ok(());
    }
    let manifest = stored.content().manifest;
    let claim = Command::ClaimManifest { image, upload, manifest };
    api.consensus.submit(claim).await.map_err(|error| ApiError::submit(Step::Finish, error))?;
    let holders = api.transfer.replicate(manifest, copies, stored.ahead()).await?;
    tracing::debug!(%image, ?holders, "other nodes hold the bytes");
    Ok(())
}

/// How many other nodes are to hold what is uploaded here.
fn copies(api: &Api) -> usize {
    api.settings.copies.saturating_sub(1).min(api.consensus.others().len())
}

fn order(api: &Api, record: &Image, announced_bytes: Option<u64>) -> UploadOrder {
    // What is inside another container is not for us to inspect.
    let bare = record.container_format.as_deref() == Some("bare");
    let inspect = bare.then(|| InspectOrder {
        disk_format: record.disk_format.clone(),
        require_match: api.settings.require_image_format_match,
    });
    UploadOrder {
        announced_bytes,
        bytes_max: api.settings.image_size_cap,
        os_hash: api.settings.hashing_algorithm,
        inspect,
        copies: Some(CopyOrder { image: record.id, copies: copies(api) }).filter(|order| order.copies > 0),
    }
}

/// The bytes are durable: make them visible.
async fn announce(
    api: &Api,
    image: ImageId,
    upload: UploadId,
    stored: StoredImage,
    answer: oneshot::Sender<Result<(), ApiError>>,
) {
    let finish = Command::FinishUpload { image, upload, content: stored.content().clone(), at: api.now() };
    match api.consensus.submit(finish).await {
        Ok(_) => {
            let _ = answer.send(Ok(()));
        }
        Err(error @ SubmitError::Refused(_)) => {
            let _ = answer.send(Err(ApiError::submit(Step::Finish, error)));
        }
        Err(error @ SubmitError::Failed(_)) => {
            let _ = answer.send(Err(ApiError::submit(Step::Finish, error)));
            // A release that is confirmed or refused settles which of the two came first.
            if release(api, image, upload).await == Release::Unknown {
                stored.keep();
            }
        }
    }
}

/// The bytes did not make it: the image can be tried again before the client hears why.
async fn give_up(
    api: &Api,
    image: ImageId,
    upload: UploadId,
    error: ApiError,
    answer: oneshot::Sender<Result<(), ApiError>>,
) {
    let released = try_release(api, image, upload).await;
    let _ = answer.send(Err(error));
    if released.is_err() {
        release(api, image, upload).await;
    }
}

/// Release the image, however often it takes.
async fn release(api: &Api, image: ImageId, upload: UploadId) -> Release {
    let mut pause = PAUSE_MIN;
    loop {
        match try_release(api, image, upload).await {
            Ok(()) => return Release::Confirmed,
            Err(error) => {
                tracing::warn!(%image, error = &error as &dyn std::error::Error, "image not released yet");
                if matches!(error, ConsensusError::Stopped | ConsensusError::DiskFailed) {
                    return Release::Unknown;
                }
            }
        }
        tokio::select! {
            biased;
            () = api.closing.cancelled() => return Release::Unknown,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}

async fn try_release(api: &Api, image: ImageId, upload: UploadId) -> Result<(), ConsensusError> {
    match api.consensus.submit(Command::AbortUpload { image, upload, at: api.now() }).await {
        // A refusal says that this upload does not hold the image any more, which is the aim.
        Ok(_) | Err(SubmitError::Refused(_)) => Ok(()),
        Err(SubmitError::Failed(error)) => Err(error),
    }
}
