//! Telling a follower how much of a manifest is here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::time::sleep;

use super::lies::Lie;
use super::pulls::{Pull, Purpose};
use super::serve::{ServeError, send_all};
use super::wire::{self, NEWS_PIECES_MAX, News};
use crate::connection::Sending;
use crate::transfer::Inner;

/// News wait so long for others to come with them.
const COALESCE: Duration = Duration::from_millis(10);
/// How often it is looked whether there is more or less to send than a follower knows.
const BACKLOG_EVERY: Duration = Duration::from_millis(100);

/// Tell until there will be nothing more to tell, or nobody listens.
pub(super) async fn tell(
    transfer: &Arc<Inner>,
    send: &mut Sending,
    root: ManifestRoot,
    asker: NodeId,
) -> Result<(), ServeError> {
    let mut told = 0;
    // A pull that ended well is held; one that failed may have been followed by another.
    while let Some(pull) = transfer.pulls.of(&root) {
        pull.meet(asker, None);
        if claims_all(transfer, send).await? {
            return whole(transfer, send).await;
        }
        if !pull.view().borrow().begun {
            // Counted on for a share of the work, it would do none of it. It asks the asker when it begins.
            break;
        }
        let is_whole = tell_of_pull(transfer, send, &pull, &mut told).await?;
        let is_held_then = pull.purpose == Purpose::Hold;
        // What it gathered is of no more use, and would be kept for as long as somebody listens.
        drop(pull);
        if is_whole && is_held_then {
            return whole(transfer, send).await;
        }
        if told > 0 {
            return say(send, News::Ended).await;
        }
    }
    let ledger = Arc::clone(&transfer.store.ledger);
    let held = transfer.workers.run(move || ledger.holds_whole(&root)).await.map_err(ServeError::Disk)?;
    match held.map_err(|fault| ServeError::Disk(fault.into()))? {
        true => whole(transfer, send).await,
        false if claims_all(transfer, send).await? => whole(transfer, send).await,
        false => say(send, News::Nothing).await,
    }
}

/// If this node lies now, tell of what is not here. Answers with whether it is to be all.
async fn claims_all(transfer: &Inner, send: &mut Sending) -> Result<bool, ServeError> {
    match transfer.lies.now(Lie::OF_NEWS) {
        None => Ok(false),
        Some(Lie::NoSuchPiece) => {
            say(send, News::Has { pieces: vec![u32::MAX], backlog: 0 }).await?;
            Ok(false)
        }
        Some(_) => Ok(true),
    }
}

/// Tell of a pull until it ends. Answers with whether it has brought everything.
async fn tell_of_pull(
    transfer: &Arc<Inner>,
    send: &mut Sending,
    pull: &Pull,
    told: &mut usize,
) -> Result<bool, ServeError> {
    let mut count = pull.having.count();
    let mut view = pull.view();
    let mut said = None;
    loop {
        let backlog = transfer.outbox.backlog();
        let seen = *count.borrow_and_update();
        while *told < seen || said != Some(backlog) {
            let pieces = pull.having.after(*told, NEWS_PIECES_MAX);
            *told += pieces.len();
            say(send, News::Has { pieces, backlog }).await?;
            said = Some(backlog);
        }
        if let Some(ended) = view.borrow_and_update().ended {
            return Ok(ended.is_ok());
        }
        tokio::select! {
            biased;
            changed = count.changed() => match changed {
                Ok(()) => sleep(COALESCE).await,
                Err(_) => return Ok(false),
            },
            // Of what it says only the end counts, and that comes with its last word.
            ended = async { view.wait_for(|view| view.ended.is_some()).await.is_ok() } => {
                if !ended {
                    return Ok(false);
                }
            }
            () = sleep(BACKLOG_EVERY) => {}
            () = send.taken() => return Err(ServeError::Unheard),
        }
    }
}

/// Say that all is here, and from then on how busy this node is.
async fn whole(transfer: &Arc<Inner>, send: &mut Sending) -> Result<(), ServeError> {
    let mut said = None;
    loop {
        let backlog = transfer.outbox.backlog();
        if said != Some(backlog) {
            say(send, News::Whole { backlog }).await?;
            said = Some(backlog);
        }
        tokio::select! {
            biased;
            () = send.taken() => return Err(ServeError::Unheard),
            () = sleep(BACKLOG_EVERY) => {}
        }
    }
}

async fn say(send: &mut Sending, news: News) -> Result<(), ServeError> {
    send_all(send, vec![Bytes::from(wire::frame(&news))]).await
}
