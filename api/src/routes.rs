//! The whole URL table.
//!
//! One row for each operation: method, path, whether it takes a body, the rule that guards it and
//! the function that does it. What is not here does not exist: an unknown path answers 404, a known
//! one with another method 405 with the methods it has, HEAD included.

use std::collections::BTreeMap;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Extension, RawPathParams, Request, State};
use axum::http::{Method, Response, header};
use axum::routing::any;
use peerglass_transfer::UploadError;

use crate::api::Api;
use crate::call::{Answer, Call};
use crate::error::ApiError;
use crate::front::Entry;
use crate::metrics;
use crate::policy::Rule;
use crate::v2::{actions, cluster, image_data, images, info, pins, schemas, shares, tags};
use crate::wire::BodyProblem;

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    body: Takes,
    rule: Rule,
    action: Action,
}

/// What an operation does with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// It reads it, or ignores one that is not needed.
    Body,
    /// It refuses one.
    NoBody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    ListImages,
    CreateImage,
    ShowImage,
    ChangeImage,
    DeleteImage,
    SendData,
    FetchData,
    Deactivate,
    Reactivate,
    AddTag,
    RemoveTag,
    ImportMethods,
    Stores,
    ImageSchema,
    ImagesSchema,
    Metrics,
    ClusterStatus,
    IssueToken,
    PromoteMember,
    DemoteMember,
    TransferLeader,
    RemoveMember,
    ShowShares,
    Prefetch,
    Pin,
    Unpin,
}

const TABLE: &[Operation] = {
    use Action as Do;
    use Takes::{Body, NoBody};
    &[
        on(Method::GET, "/v2/images", Body, Rule::GetImages, Do::ListImages),
        on(Method::POST, "/v2/images", Body, Rule::AddImage, Do::CreateImage),
        on(Method::GET, "/v2/images/{image_id}", NoBody, Rule::GetImage, Do::ShowImage),
        on(Method::PATCH, "/v2/images/{image_id}", Body, Rule::ModifyImage, Do::ChangeImage),
        on(Method::DELETE, "/v2/images/{image_id}", NoBody, Rule::DeleteImage, Do::DeleteImage),
        on(Method::PUT, "/v2/images/{image_id}/file", Body, Rule::UploadImage, Do::SendData),
        on(Method::GET, "/v2/images/{image_id}/file", NoBody, Rule::DownloadImage, Do::FetchData),
        on(
            Method::POST,
            "/v2/images/{image_id}/actions/deactivate",
            NoBody,
            Rule::Deactivate,
            Do::Deactivate,
        ),
        on(
            Method::POST,
            "/v2/images/{image_id}/actions/reactivate",
            NoBody,
            Rule::Reactivate,
            Do::Reactivate,
        ),
        on(Method::PUT, "/v2/images/{image_id}/tags/{tag_value}", NoBody, Rule::ModifyImage, Do::AddTag),
        on(
            Method::DELETE,
            "/v2/images/{image_id}/tags/{tag_value}",
            NoBody,
            Rule::ModifyImage,
            Do::RemoveTag,
        ),
        on(Method::GET, "/v2/info/import", NoBody, Rule::Anybody, Do::ImportMethods),
        on(Method::GET, "/v2/info/stores", NoBody, Rule::Anybody, Do::Stores),
        on(Method::GET, "/v2/schemas/image", NoBody, Rule::Anybody, Do::ImageSchema),
        on(Method::GET, "/v2/schemas/images", NoBody, Rule::Anybody, Do::ImagesSchema),
        on(Method::GET, "/metrics", NoBody, Rule::GetCluster, Do::Metrics),
        on(Method::GET, "/v2/cluster", NoBody, Rule::GetCluster, Do::ClusterStatus),
        on(Method::POST, "/v2/cluster/tokens", Body, Rule::ManageCluster, Do::IssueToken),
        on(
            Method::POST,
            "/v2/cluster/members/{member}/promote",
            NoBody,
            Rule::ManageCluster,
            Do::PromoteMember,
        ),
        on(
            Method::POST,
            "/v2/cluster/members/{member}/demote",
            NoBody,
            Rule::ManageCluster,
            Do::DemoteMember,
        ),
        on(
            Method::POST,
            "/v2/cluster/members/{member}/transfer-leader",
            NoBody,
            Rule::ManageCluster,
            Do::TransferLeader,
        ),
        on(Method::DELETE, "/v2/cluster/members/{member}", NoBody, Rule::ManageCluster, Do::RemoveMember),
        on(Method::GET, "/v2/cluster/images/{image_id}", NoBody, Rule::GetCluster, Do::ShowShares),
        on(Method::POST, "/v2/cluster/images/{image_id}/prefetch", Body, Rule::ManageCluster, Do::Prefetch),
        on(Method::POST, "/v2/cluster/images/{image_id}/pin", Body, Rule::ManageCluster, Do::Pin),
        on(Method::POST, "/v2/cluster/images/{image_id}/unpin", Body, Rule::ManageCluster, Do::Unpin),
    ]
};

/// Each on the heap, or every request would carry, and move, as much as the largest of them needs.
fn perform(action: Action, call: Call, body: Body) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
    match action {
        Action::ListImages => Box::pin(images::list(call)),
        Action::CreateImage => Box::pin(images::create(call, body)),
        Action::ShowImage => Box::pin(images::show(call)),
        Action::ChangeImage => Box::pin(images::change(call, body)),
        Action::DeleteImage => Box::pin(images::delete(call)),
        Action::SendData => Box::pin(image_data::upload(call, body)),
        Action::FetchData => Box::pin(image_data::download(call)),
        Action::Deactivate => Box::pin(actions::deactivate(call)),
        Action::Reactivate => Box::pin(actions::reactivate(call)),
        Action::AddTag => Box::pin(tags::add(call)),
        Action::RemoveTag => Box::pin(tags::remove(call)),
        Action::ImportMethods => Box::pin(ready(info::import_methods(&call))),
        Action::Stores => Box::pin(ready(info::stores(&call))),
        Action::ImageSchema => Box::pin(ready(schemas::image(&call))),
        Action::ImagesSchema => Box::pin(ready(schemas::images(&call))),
        Action::Metrics => Box::pin(metrics::page(call)),
        Action::ClusterStatus => Box::pin(cluster::status(call)),
        Action::IssueToken => Box::pin(cluster::issue_token(call, body)),
        Action::PromoteMember => Box::pin(cluster::promote(call)),
        Action::DemoteMember => Box::pin(cluster::demote(call)),
        Action::TransferLeader => Box::pin(cluster::transfer_leader(call)),
        Action::RemoveMember => Box::pin(cluster::remove(call)),
        Action::ShowShares => Box::pin(shares::show(call)),
        Action::Prefetch => Box::pin(shares::prefetch(call, body)),
        Action::Pin => Box::pin(pins::pin(call, body)),
        Action::Unpin => Box::pin(pins::unpin(call, body)),
    }
}

const fn on(method: Method, path: &'static str, body: Takes, rule: Rule, action: Action) -> Operation {
    Operation { method, path, body, rule, action }
}

/// The router of all operations below `/v2`.
pub(crate) fn router(api: Api) -> Router {
    let mut resources: BTreeMap<&'static str, Vec<&'static Operation>> = BTreeMap::new();
    for operation in TABLE {
        resources.entry(operation.path).or_default().push(operation);
    }
    let mut router = Router::new();
    for (path, operations) in resources {
        let operations: Arc<[&'static Operation]> = operations.into();
        let handler = move |State(api): State<Api>,
                            Extension(entry): Extension<Entry>,
                            params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request| {
            let operations = Arc::clone(&operations);
            async move { respond(&entry, enter(api, &operations, params, request).await) }
        };
        router = router.route(path, any(handler));
    }
    router.fallback(unknown).with_state(api)
}

/// A known path: find the operation and carry it out.
async fn enter(
    api: Api,
    operations: &[&'static Operation],
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Answer {
    let params = params.map_err(|_| ApiError::UndecodablePath)?;
    let Some(operation) = operations.iter().find(|operation| operation.method == *request.method()) else {
        let methods: Vec<&str> = operations.iter().map(|operation| operation.method.as_str()).collect();
        return Err(ApiError::MethodNotAllowed { allow: methods.join(", ") });
    };
    if operation.body == Takes::NoBody && has_body(&request) {
        return Err(BodyProblem::NotExpected.into());
    }
    // `front` put it there for every request it lets through.
    let entry = request.extensions().get::<Entry>().cloned().ok_or(ApiError::NoSuchPath)?;
    let (head, body) = request.into_parts();
    let call = Call { api, caller: entry.caller, rule: operation.rule, params, head };
    perform(operation.action, call, body).await
}

/// An unknown path: absent for the methods HTTP APIs use, unknown for any other.
async fn unknown(Extension(entry): Extension<Entry>, request: Request) -> Response<Body> {
    let error = match *request.method() {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            ApiError::NoSuchPath
        }
        _ => ApiError::NotImplemented,
    };
    error.response(entry.format)
}

/// The answer as HTTP, logged if this machine is to blame.
fn respond(entry: &Entry, answer: Answer) -> Response<Body> {
    answer.unwrap_or_else(|error| {
        let user = entry.caller.user().unwrap_or_default();
        if matches!(error, ApiError::DownloadsBusy | ApiError::Upload(UploadError::Busy)) {
            // As many as there may be is no fault, and whoever asks in a loop must not fill the log.
            tracing::debug!(user, %error, "too busy for a request");
        } else if error.status().is_server_error() {
            tracing::error!(user, error = &error as &dyn std::error::Error, "request failed");
        }
        error.response(entry.format)
    })
}

/// Whether a body comes with the request. A stream of unknown length counts for the methods that
/// usually carry one.
fn has_body(request: &Request) -> bool {
    let sized = request.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let usual = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    sized
        || usual && request.headers().get(header::CONTENT_LENGTH).is_none() && !request.body().is_end_stream()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The description that clients generate code from must not drift from what is served.
    #[test]
    fn the_openapi_document_describes_exactly_these_routes() {
        let document: serde_json::Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let mut served: BTreeSet<_> =
            TABLE.iter().map(|row| (row.method.to_string(), row.path.to_owned())).collect();
        assert_eq!(served.len(), TABLE.len(), "a route is listed twice");
        for path in ["/", "/versions", "/healthcheck", "/livez", "/readyz", "/openapi.json"] {
            served.insert(("GET".to_owned(), path.to_owned()));
        }
        assert_eq!(described, served);
    }
}
