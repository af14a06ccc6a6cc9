//! Image records: list, create, show, change, delete.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use peerglass_catalog::{Command, Edit, Image, ImageId, Outcome, Visibility};

use super::{PEER_STORE, no_content};
use crate::call::{Answer, Call};
use crate::error::{ApiError, Step};
use crate::front::{Base, json};
use crate::page::ListRequest;
use crate::patch::{MediaType, Patch};
use crate::policy::{Rule, Target};
use crate::wire::{ImageDocument, ImagePage, NewImage, read_json};

/// `GET /v2/images`: one page.
///
/// Whoever passes the list rule is a reader or an administrator, who may read every image that is
/// visible; so the rule for single images needs no second look at each row.
pub(crate) async fn list(call: Call) -> Answer {
    call.check(Target::Service)?;
    let text = call.head.uri.query().unwrap_or_default();
    let request = ListRequest::parse(text, call.caller.viewer(), &call.api.settings)?;
    let page = if request.query.may_scan() {
        let query = request.query.clone();
        call.read_apart(move |catalog| catalog.images(&query)).await??
    } else {
        call.read(|catalog| catalog.images(&request.query)).await??
    };
    let last = page.images.last().filter(|_| page.full).map(|image| &image.id);
    let (first, next) = request.links(last);
    let page = ImagePage {
        images: &page.images,
        for_admin: call.caller.is_admin(),
        first: &first,
        next: next.as_deref(),
    };
    Ok(json(StatusCode::OK, page.to_json()))
}

/// `POST /v2/images`: a record without bytes.
pub(crate) async fn create(call: Call, body: Body) -> Answer {
    let document = read_json(&call.head.headers, body, &call.api.settings).await?;
    let new = NewImage::parse(&document, &call.api.settings)?;
    let owner = new.owner.clone().unwrap_or_else(|| call.caller.project().map(str::to_owned));
    if !call.caller.is_admin() && owner.as_deref() != call.caller.project() {
        return Err(ApiError::ForeignOwner(owner));
    }
    let target = Target::Project(owner.as_deref());
    call.check(target)?;
    check_visibility(&call, new.visibility(), target)?;
    new.check_writable()?;
    let id = new.id.unwrap_or_else(|| ImageId::from_random(call.api.random()));
    let image = Box::new(new.into_image(id, owner, call.api.now()));
    let command = Command::CreateImage { image, limits: call.api.settings.limits() };
    let image = changed(&call, call.submit(Step::Record, command).await?)?;
    let mut response = document_of(&call, &image, StatusCode::CREATED);
    let headers = response.headers_mut();
    if let Some(Base(base)) = call.head.extensions.get::<Base>()
        && let Ok(location) = HeaderValue::from_str(&format!("{base}/v2/images/{id}"))
    {
        headers.insert(header::LOCATION, location);
    }
    headers.insert("openstack-image-store-ids", HeaderValue::from_static(PEER_STORE));
    Ok(response)
}

/// `GET /v2/images/{image_id}`.
pub(crate) async fn show(call: Call) -> Answer {
    let image = call.permitted_image().await?;
    Ok(document_of(&call, &image, StatusCode::OK))
}

/// `PATCH /v2/images/{image_id}`: all changes or none.
pub(crate) async fn change(call: Call, body: Body) -> Answer {
    let media_type = MediaType::of(&call.head.headers)?;
    let document = read_json(&call.head.headers, body, &call.api.settings).await?;
    let patch = Patch::parse(&document, media_type, &call.api.settings)?;
    let image = call.permitted_image().await?;
    let edits = patch.into_edits()?;
    for edit in &edits {
        match edit {
            Edit::Visibility(visibility) => check_visibility(&call, *visibility, Target::Image(&image))?,
            Edit::Owner(owner) if !call.caller.is_admin() => {
                return Err(ApiError::ForeignOwner(owner.clone()));
            }
            Edit::Owner(_)
            | Edit::Name(_)
            | Edit::Protected(_)
            | Edit::Hidden(_)
            | Edit::MinDisk(_)
            | Edit::MinRam(_)
            | Edit::ContainerFormat(_)
            | Edit::DiskFormat(_)
            | Edit::Tags(_)
            | Edit::AddTag(_)
            | Edit::RemoveTag(_)
            | Edit::SetProperty { .. }
            | Edit::RemoveProperty(_) => {}
        }
    }
    if edits.is_empty() {
        return Ok(document_of(&call, &image, StatusCode::OK));
    }
    let limits = call.api.settings.limits();
    let command = Command::EditImage { image: image.id, edits, limits, at: call.api.now() };
    let image = changed(&call, call.submit(Step::Record, command).await?)?;
    Ok(document_of(&call, &image, StatusCode::OK))
}

/// `DELETE /v2/images/{image_id}`. Its bytes are reclaimed later.
pub(crate) async fn delete(call: Call) -> Answer {
    let image = call.permitted_image().await?;
    call.submit(Step::Record, Command::DeleteImage { image: image.id, at: call.api.now() }).await?;
    Ok(no_content())
}

/// Showing an image to more people than its project needs a right of its own.
fn check_visibility(call: &Call, visibility: Visibility, target: Target<'_>) -> Result<(), ApiError> {
    match visibility {
        Visibility::Public => call.check_rule(Rule::PublicizeImage, target),
        Visibility::Community => call.check_rule(Rule::CommunitizeImage, target),
        Visibility::Private | Visibility::Shared => Ok(()),
    }
}

/// The record a command answered with.
fn changed(call: &Call, outcome: Outcome) -> Result<Image, ApiError> {
    match outcome {
        Outcome::Image(image) => Ok(*image),
        Outcome::Deleted { .. } | Outcome::Abandoned(_) | Outcome::Noted | Outcome::Admitted(_) => {
            Err(ApiError::NoSuchImage(call.param("image_id").to_owned()))
        }
    }
}

fn document_of(call: &Call, image: &Image, status: StatusCode) -> Response<Body> {
    json(status, ImageDocument { image, for_admin: call.caller.is_admin() }.to_json())
}
