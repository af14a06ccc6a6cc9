//! The steps of an image's life, each as check, then change.
//!
//! Each function reads the record, refuses or decides, and hands the new record to
//! [`index::replace`], which keeps indexes and names in step. A refusal comes before any change.

use super::{
    Content, Edit, Image, ImageId, Limits, ManifestRoot, NodeId, Status, Timestamp, Upload, UploadId,
};
use crate::command::Outcome;
use crate::index;
use crate::keyspace::Fault;
use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::table;

/// What a step comes to: the machine failed, or a rule refused, or it is done.
pub(crate) type Step = Result<Result<Outcome, Refusal>, Fault>;

pub(crate) fn create(overlay: &mut Overlay<'_>, image: Image, limits: Limits) -> Step {
    // An image begins queued, without bytes. A command that says otherwise is a bug of the node that sent
    // it, and no reason for every replica to stop.
    if image.status != Status::Queued || image.content.is_some() || image.upload.is_some() {
        return Ok(Err(Refusal::WrongStatus { image: image.id, is: image.status }));
    }
    if table::is_used(overlay, &image.id)? {
        return Ok(Err(Refusal::ImageExists(image.id)));
    }
    if let Err(refusal) = limits.check(None, &image) {
        return Ok(Err(refusal));
    }
    index::replace(overlay, None, Some(&image));
    Ok(Ok(Outcome::Image(Box::new(image))))
}

pub(crate) fn edit(
    overlay: &mut Overlay<'_>,
    id: ImageId,
    edits: Vec<Edit>,
    limits: Limits,
    at: Timestamp,
) -> Step {
    change(overlay, id, |image| image.edited(edits, limits, at))
}

pub(crate) fn begin_upload(overlay: &mut Overlay<'_>, id: ImageId, upload: Upload, at: Timestamp) -> Step {
    change(overlay, id, |image| {
        if image.status != Status::Queued {
            return Err(Refusal::WrongStatus { image: id, is: image.status });
        }
        if image.disk_format.is_none() || image.container_format.is_none() {
            return Err(Refusal::FormatsUnset(id));
        }
        Ok(Image { status: Status::Saving, upload: Some(upload), updated_at: at, ..image.clone() })
    })
}

pub(crate) fn finish_upload(
    overlay: &mut Overlay<'_>,
    id: ImageId,
    upload: UploadId,
    content: Content,
    at: Timestamp,
) -> Step {
    end_upload(overlay, id, |image| {
        check_held(image, upload)?;
        Ok(Image {
            status: Status::Active,
            upload: None,
            content: Some(content),
            updated_at: at,
            ..image.clone()
        })
    })
}

pub(crate) fn abort_upload(overlay: &mut Overlay<'_>, id: ImageId, upload: UploadId, at: Timestamp) -> Step {
    end_upload(overlay, id, |image| {
        check_held(image, upload)?;
        Ok(queued_again(image, at))
    })
}

pub(crate) fn claim_manifest(
    overlay: &mut Overlay<'_>,
    id: ImageId,
    upload: UploadId,
    manifest: ManifestRoot,
) -> Step {
    let Some(image) = table::image(overlay, &id)? else {
        return Ok(Err(Refusal::NoSuchImage(id)));
    };
    if let Err(refusal) = check_held(&image, upload) {
        return Ok(Err(refusal));
    }
    table::remove_claim(overlay, &id)?;
    table::put_claim(overlay, &id, &manifest);
    Ok(Ok(Outcome::Noted))
}

pub(crate) fn abandon_uploads(overlay: &mut Overlay<'_>, node: NodeId, at: Timestamp) -> Step {
    let mut abandoned = 0;
    for (id, upload) in table::uploads_of(overlay, node)? {
        if abort_upload(overlay, id, upload, at)?.is_ok() {
            abandoned += 1;
        }
    }
    Ok(Ok(Outcome::Abandoned(abandoned)))
}

pub(crate) fn deactivate(overlay: &mut Overlay<'_>, id: ImageId, at: Timestamp) -> Step {
    switch(overlay, id, Status::Active, Status::Deactivated, at)
}

pub(crate) fn reactivate(overlay: &mut Overlay<'_>, id: ImageId, at: Timestamp) -> Step {
    switch(overlay, id, Status::Deactivated, Status::Active, at)
}

pub(crate) fn delete(overlay: &mut Overlay<'_>, id: ImageId, at: Timestamp) -> Step {
    let Some(image) = table::image(overlay, &id)? else {
        return Ok(Err(Refusal::NoSuchImage(id)));
    };
    if image.protected {
        return Ok(Err(Refusal::Protected(id)));
    }
    table::remove_claim(overlay, &id)?;
    table::remove_pins(overlay, &id);
    index::replace(overlay, Some(&image), None);
    table::put_tombstone(overlay, &id, at);
    Ok(Ok(Outcome::Deleted { manifest: image.content.map(|content| content.manifest) }))
}

/// From `from` to `to`; being there already is success and changes nothing.
fn switch(overlay: &mut Overlay<'_>, id: ImageId, from: Status, to: Status, at: Timestamp) -> Step {
    change(overlay, id, |image| {
        if image.status == to {
            Ok(image.clone())
        } else if image.status == from {
            Ok(Image { status: to, updated_at: at, ..image.clone() })
        } else {
            Err(Refusal::WrongStatus { image: id, is: image.status })
        }
    })
}

/// As [`change`], and if it is not refused, what the upload held on to is let go.
fn end_upload(
    overlay: &mut Overlay<'_>,
    id: ImageId,
    step: impl FnOnce(&Image) -> Result<Image, Refusal>,
) -> Step {
    let Some(before) = table::image(overlay, &id)? else {
        return Ok(Err(Refusal::NoSuchImage(id)));
    };
    match step(&before) {
        Ok(after) => {
            // First, because the image may name from now on what its upload claimed until now.
            table::remove_claim(overlay, &id)?;
            index::replace(overlay, Some(&before), Some(&after));
            Ok(Ok(Outcome::Image(Box::new(after))))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn change(
    overlay: &mut Overlay<'_>,
    id: ImageId,
    step: impl FnOnce(&Image) -> Result<Image, Refusal>,
) -> Step {
    let Some(before) = table::image(overlay, &id)? else {
        return Ok(Err(Refusal::NoSuchImage(id)));
    };
    match step(&before) {
        Ok(after) => {
            index::replace(overlay, Some(&before), Some(&after));
            Ok(Ok(Outcome::Image(Box::new(after))))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn check_held(image: &Image, upload: UploadId) -> Result<(), Refusal> {
    if image.status == Status::Saving && image.upload.is_some_and(|held| held.id == upload) {
        Ok(())
    } else {
        Err(Refusal::UploadSuperseded(image.id))
    }
}

fn queued_again(image: &Image, at: Timestamp) -> Image {
    Image { status: Status::Queued, upload: None, content: None, updated_at: at, ..image.clone() }
}
