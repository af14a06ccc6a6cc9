//! Join tokens: issued by an administrator, used by one node, gone when they expire.
//!
//! The token itself is never here, only the hash of its secret. A token that was used stays until it
//! expires, so that whoever tries it again is told why it fails, and a node whose answer was lost may
//! ask again.

use crate::command::Outcome;
use crate::image::lifecycle::{self, Step};
use crate::image::{NodeId, Timestamp};
use crate::keyspace::Fault;
use crate::node::{JoinGrant, JoinToken, PeerKey, TokenDigest};
use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::table;

/// Tokens kept at once, used ones that have not expired included.
const TOKENS_MAX: usize = 1_000;

pub(crate) fn issue(overlay: &mut Overlay<'_>, token: TokenDigest, grant: JoinGrant, at: Timestamp) -> Step {
    let kept = table::tokens(overlay).collect::<Result<Vec<_>, Fault>>()?;
    let (expired, waiting): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|(_, token)| token.grant.expires_at < at);
    for (digest, _) in expired {
        table::remove_token(overlay, &digest);
    }
    if waiting.len() >= TOKENS_MAX {
        return Ok(Err(Refusal::TooManyTokens { max: u32::try_from(TOKENS_MAX).unwrap_or(u32::MAX) }));
    }
    table::put_token(overlay, &token, &JoinToken { grant, used_by: None });
    Ok(Ok(Outcome::Noted))
}

pub(crate) fn forget(overlay: &mut Overlay<'_>, node: NodeId, at: Timestamp) -> Step {
    let tokens = table::tokens(overlay).collect::<Result<Vec<_>, Fault>>()?;
    let used = tokens.into_iter().filter(|(_, token)| token.used_by.is_some_and(|(_, by)| by == node));
    for (digest, _) in used {
        table::remove_token(overlay, &digest);
    }
    table::remove_mark(overlay, node);
    lifecycle::abandon_uploads(overlay, node, at)
}

pub(crate) fn redeem(
    overlay: &mut Overlay<'_>,
    token: TokenDigest,
    key: PeerKey,
    node: NodeId,
    at: Timestamp,
) -> Step {
    let Some(mut found) = table::token(overlay, &token)? else {
        return Ok(Err(Refusal::NoSuchToken));
    };
    match found.used_by {
        Some(used_by) if used_by != (key, node) => return Ok(Err(Refusal::TokenUsed)),
        _ if found.grant.expires_at < at => return Ok(Err(Refusal::TokenExpired)),
        Some(_) => {}
        None => {
            found.used_by = Some((key, node));
            table::put_token(overlay, &token, &found);
        }
    }
    Ok(Ok(Outcome::Admitted(found.grant)))
}
