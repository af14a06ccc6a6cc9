//! Pinning images to sites: every node there keeps them. Not Glance's; for administrators only.

use axum::body::Body;
use axum::http::StatusCode;
use peerglass_catalog::Command;
use serde_json::json;

use super::cluster::{ClusterProblem, text};
use crate::call::{Answer, Call};
use crate::error::{ApiError, Step};
use crate::front;
use crate::policy::Target;
use crate::wire::{DocumentProblem, read_json};

/// `POST /v2/cluster/images/{image_id}/pin`: every node of a site keeps the image from now on. Answers with the site,
/// which is this node's if the request names none; the empty one stands for every node.
pub(crate) async fn pin(call: Call, body: Body) -> Answer {
    call.check(Target::Service)?;
    let site = site(&call, body).await?;
    let consensus = &call.api.consensus;
    let members =
        std::iter::once(consensus.node()).chain(consensus.others().into_iter().map(|(node, _)| node));
    let is_there = |node| consensus.member(node).is_some_and(|entry| entry.site == site);
    if !site.is_empty() && !members.into_iter().any(is_there) {
        return Err(ClusterProblem::NoSuchSite(site).into());
    }
    let image = call.permitted_image().await?.id;
    let at = call.api.now();
    call.submit(Step::Record, Command::PinImage { image, site: site.clone(), at }).await?;
    done(&site)
}

/// `POST /v2/cluster/images/{image_id}/unpin`: take one pin back. What is kept for no other reason may be let go of.
pub(crate) async fn unpin(call: Call, body: Body) -> Answer {
    call.check(Target::Service)?;
    // Of a site that nobody is at any more as well.
    let site = site(&call, body).await?;
    let image = call.permitted_image().await?.id;
    let at = call.api.now();
    call.submit(Step::Record, Command::UnpinImage { image, site: site.clone(), at }).await?;
    done(&site)
}

/// The site that the request names, or this node's.
async fn site(call: &Call, body: Body) -> Result<String, ApiError> {
    let wanted = read_json(&call.head.headers, body, &call.api.settings).await?;
    let fields = wanted.as_object().ok_or(DocumentProblem::NotAnObject)?;
    if fields.keys().any(|key| key != "site") {
        return Err(ClusterProblem::Field("each key", "site").into());
    }
    let consensus = &call.api.consensus;
    let here = consensus.member(consensus.node()).unwrap_or_default().site;
    Ok(text(&wanted, "site", &here)?)
}

fn done(site: &str) -> Answer {
    Ok(front::json(StatusCode::OK, json!({ "site": site }).to_string()))
}
