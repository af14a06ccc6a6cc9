//! Tags, one at a time.

use peerglass_catalog::{Command, Edit};

use super::no_content;
use crate::call::{Answer, Call};
use crate::error::{ApiError, Step};

/// Most characters of a tag.
const TAG_CHARACTERS_MAX: usize = 255;

/// `PUT /v2/images/{image_id}/tags/{tag_value}`: no change if the tag is there.
pub(crate) async fn add(call: Call) -> Answer {
    edit(call, Edit::AddTag).await
}

/// `DELETE /v2/images/{image_id}/tags/{tag_value}`.
pub(crate) async fn remove(call: Call) -> Answer {
    edit(call, Edit::RemoveTag).await
}

async fn edit(call: Call, edit: impl FnOnce(String) -> Edit) -> Answer {
    let tag = call.param("tag_value").to_owned();
    if tag.chars().count() > TAG_CHARACTERS_MAX {
        return Err(ApiError::TagLength { max: TAG_CHARACTERS_MAX });
    }
    let image = call.permitted_image().await?.id;
    let limits = call.api.settings.limits();
    let command = Command::EditImage { image, edits: vec![edit(tag)], limits, at: call.api.now() };
    call.submit(Step::Record, command).await?;
    Ok(no_content())
}
