//! Deactivate and reactivate: stop an image's downloads, and allow them again.

use peerglass_catalog::Command;

use super::no_content;
use crate::call::{Answer, Call};
use crate::error::Step;

/// `POST /v2/images/{image_id}/actions/deactivate`: no change if it is already.
pub(crate) async fn deactivate(call: Call) -> Answer {
    let image = call.permitted_image().await?.id;
    call.submit(Step::Switch, Command::Deactivate { image, at: call.api.now() }).await?;
    Ok(no_content())
}

/// `POST /v2/images/{image_id}/actions/reactivate`: no change if it is active.
pub(crate) async fn reactivate(call: Call) -> Answer {
    let image = call.permitted_image().await?.id;
    call.submit(Step::Switch, Command::Reactivate { image, at: call.api.now() }).await?;
    Ok(no_content())
}
