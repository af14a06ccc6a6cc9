//! Which node has how much of an image, and having nodes fetch it. Not Glance's; for administrators only.

use axum::body::Body;
use axum::http::StatusCode;
use peerglass_catalog::{ImageId, NodeEntry, NodeId};
use peerglass_transfer::{DownloadError, PrefetchError, Share};
use serde_json::{Value, json};

use super::cluster::{ClusterProblem, text};
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::front;
use crate::policy::Target;
use crate::wire::{DocumentProblem, read_json};

/// `GET /v2/cluster/images/{image_id}`: how much of the image each node has now, as the nodes say,
/// and which of them are to keep it.
pub(crate) async fn show(call: Call) -> Answer {
    call.check(Target::Service)?;
    let image = call.permitted_image().await?;
    let pins = call.read(|catalog| catalog.pins(&image.id)).await??;
    let mut copies = Vec::new();
    if let Some(content) = &image.content {
        let keepers = call.api.transfer.keepers(content.manifest).await.unwrap_or_default();
        let said = call.api.transfer.survey(content.manifest).await.map_err(ApiError::Download)?;
        let alone = said.len() == 1;
        for (node, share) in said {
            // A node without a peer port has no name for itself but the log's.
            let node = if alone { call.api.consensus.node() } else { node };
            let entry = call.api.consensus.member(node).unwrap_or_default();
            let mut copy = copy(node, &entry, share);
            // Alone, a node has nobody to leave it to.
            let kept = alone || keepers.anybody || keepers.nodes.contains(&node);
            copy["keeping"] = if kept { "kept" } else { "cached" }.into();
            copies.push(copy);
        }
    }
    let document = json!({
        "image_id": image.id.to_string(),
        "size": image.content.as_ref().map(|content| content.size),
        "pins": pins,
        "copies": copies,
    });
    Ok(front::json(StatusCode::OK, document.to_string()))
}

fn copy(node: NodeId, entry: &NodeEntry, share: Option<Share>) -> Value {
    let state = match share {
        None => "unknown",
        Some(share) if share.is_whole() => "whole",
        Some(share) if share.pulling => "pulling",
        Some(_) => "none",
    };
    let mut copy = json!({
        "node": node.0.to_string(),
        "address": entry.address,
        "site": entry.site,
        "rack": entry.rack,
        "state": state,
    });
    if let Some(share) = share {
        copy["pieces"] = share.pieces.into();
        copy["pieces_of"] = share.of.into();
        copy["received_bytes"] = share.received_bytes.into();
    }
    copy
}

/// `POST /v2/cluster/images/{image_id}/prefetch`: have this node fetch the image, or all nodes of a site. Answers
/// with which were asked; they go on after that.
pub(crate) async fn prefetch(call: Call, body: Body) -> Answer {
    call.check(Target::Service)?;
    let wanted = read_json(&call.head.headers, body, &call.api.settings).await?;
    let fields = wanted.as_object().ok_or(DocumentProblem::NotAnObject)?;
    if fields.keys().any(|key| key != "site") {
        return Err(ClusterProblem::Field("each key", "site").into());
    }
    let site = if wanted["site"].is_null() { None } else { Some(text(&wanted, "site", "")?) };
    let image = call.permitted_image().await?;
    let Some(content) = &image.content else { return Err(no_bytes(image.id)) };
    let consensus = &call.api.consensus;
    let me = consensus.node();
    let nodes: Vec<NodeId> = match &site {
        None => vec![me],
        Some(site) => {
            let of_site = |node: &NodeId| consensus.member(*node).is_some_and(|entry| entry.site == *site);
            let others = consensus.others().into_iter().map(|(node, _)| node);
            std::iter::once(me).chain(others).filter(of_site).collect()
        }
    };
    if nodes.is_empty() {
        return Err(ClusterProblem::NoSuchSite(site.unwrap_or_default()).into());
    }
    let said = call.api.transfer.survey(content.manifest).await.map_err(ApiError::Download)?;
    let has_it =
        |node: &NodeId| said.iter().any(|(of, share)| of == node && share.is_some_and(|s| s.is_whole()));
    // Alone it has no peers to fetch from, and needs none.
    let lacking = nodes.into_iter().filter(|node| !has_it(node) && said.len() > 1);
    let mut asked = Vec::new();
    for node in lacking {
        call.api.transfer.prefetch(content.manifest, node).map_err(|error| match error {
            PrefetchError::Busy => ApiError::DownloadsBusy,
            PrefetchError::NoSource => ApiError::Download(DownloadError::Missing(content.manifest)),
        })?;
        asked.push(node.0.to_string());
    }
    Ok(front::json(StatusCode::ACCEPTED, json!({ "nodes": asked }).to_string()))
}

fn no_bytes(image: ImageId) -> ApiError {
    ClusterProblem::NoBytes(image).into()
}
