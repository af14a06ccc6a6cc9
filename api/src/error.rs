//! From a refusal, a failure or a mistake in the request to an HTTP answer.
//!
//! The only file that pairs errors with status codes. No wildcard arms: a new error does not compile
//! until someone decides what a client sees. An image the caller may not see answers 404, never 403,
//! or its existence would leak.

mod body;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use peerglass_catalog::{Fault, QueryError, Refusal};
use peerglass_consensus::{ChangeError, ConsensusError, SubmitError};
use peerglass_transfer::{DownloadError, ReplicateError, UploadError};

use crate::auth::Unauthenticated;
use crate::page::QueryProblem;
use crate::patch::PatchProblem;
use crate::policy::Denied;
use crate::request_id;
use crate::v2::cluster::ClusterProblem;
use crate::v2::image_data::{DataProblem, RangeProblem};
use crate::wire::{BodyProblem, DocumentProblem};

pub(crate) use body::Format;

/// What a client waits before it tries again, in seconds, when the cluster has no majority.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// How to sign in.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Peerglass\"");

/// What a client was doing when the catalog refused: one refusal can mean two statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Creating or changing a record, or deleting it.
    Record,
    /// Starting an upload.
    Begin,
    /// Announcing the bytes of an upload.
    Finish,
    /// Deactivating or reactivating.
    Switch,
}

/// Why a request gets no success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{refusal}")]
    Refused { step: Step, refusal: Refusal },
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    #[error(transparent)]
    Catalog(#[from] Fault),
    #[error(transparent)]
    List(#[from] QueryError),
    #[error(transparent)]
    Upload(UploadError),
    #[error(transparent)]
    Replicate(#[from] ReplicateError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("the nodes that have the bytes do not answer: {0}")]
    BytesElsewhere(DownloadError),
    #[error("the node is stopping")]
    UploadInterrupted,
    #[error("You are not authorized to complete {} action.", .0.rule.name())]
    Denied(Denied),
    #[error(transparent)]
    Unauthenticated(#[from] Unauthenticated),
    #[error("No image found with ID {0}")]
    NoSuchImage(String),
    #[error("The resource could not be found.")]
    NoSuchPath,
    #[error("The path is not valid UTF-8.")]
    UndecodablePath,
    #[error("The method is not allowed for this resource.")]
    MethodNotAllowed { allow: String },
    #[error("The method is not implemented.")]
    NotImplemented,
    #[error("The image is deactivated: only administrators may download it.")]
    Deactivated,
    #[error("You are not permitted to create images owned by {}.", .0.as_deref().unwrap_or("nobody"))]
    ForeignOwner(Option<String>),
    #[error("A tag has 1 to {max} characters.")]
    TagLength { max: usize },
    #[error(transparent)]
    RequestId(#[from] request_id::TooLong),
    #[error("The headers have more than {max} bytes.")]
    HeadersTooLarge { max: usize },
    #[error(transparent)]
    Body(#[from] BodyProblem),
    #[error(transparent)]
    Document(#[from] DocumentProblem),
    #[error(transparent)]
    Patch(#[from] PatchProblem),
    #[error(transparent)]
    Query(#[from] QueryProblem),
    #[error(transparent)]
    Data(#[from] DataProblem),
    #[error(transparent)]
    Range(#[from] RangeProblem),
    #[error(transparent)]
    Cluster(#[from] ClusterProblem),
    #[error("uploads of the last run of this node are still being given up")]
    UploadsClosed,
    #[error("as many downloads as allowed are under way")]
    DownloadsBusy,
}

impl ApiError {
    /// A command that brought no outcome while the client was at `step`.
    pub(crate) fn submit(step: Step, error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => Self::Refused { step, refusal },
            SubmitError::Failed(failure) => Self::Consensus(failure),
        }
    }

    /// The status this error answers with.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused { step, refusal } => refusal_status(*step, refusal),
            Self::Consensus(failure) => consensus_status(failure),
            Self::Catalog(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::List(error) => match error {
                QueryError::NoSuchMarker(_) => StatusCode::BAD_REQUEST,
                QueryError::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Upload(error) => upload_status(error),
            // However it failed: other nodes are wanting, and may be there again in a moment.
            Self::Replicate(_) | Self::BytesElsewhere(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Download(error) => download_status(error),
            Self::UploadInterrupted | Self::UploadsClosed | Self::DownloadsBusy => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Denied(denied) if denied.hidden => StatusCode::NOT_FOUND,
            Self::Denied(_) | Self::Deactivated | Self::ForeignOwner(_) => StatusCode::FORBIDDEN,
            Self::Unauthenticated(Unauthenticated::Basic) => StatusCode::UNAUTHORIZED,
            Self::Unauthenticated(Unauthenticated::Interrupted | Unauthenticated::Busy) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NoSuchImage(_) | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::RequestId(_) | Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UndecodablePath | Self::TagLength { .. } | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::Body(problem) => body_status(problem),
            Self::Document(problem) => document_status(problem),
            Self::Patch(problem) => patch_status(problem),
            Self::Data(problem) => data_status(problem),
            Self::Cluster(problem) => cluster_status(problem),
            Self::Range(RangeProblem::Several) => StatusCode::BAD_REQUEST,
            Self::Range(RangeProblem::Unsatisfiable { .. }) => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    /// What the client reads. Failures of this machine are for the log, not for the client.
    fn message(&self) -> String {
        let hidden = matches!(self, Self::Denied(denied) if denied.hidden);
        match self.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                "The server has either erred or is incapable of performing the requested operation."
                    .to_owned()
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                "The service cannot answer at the moment. Try again later.".to_owned()
            }
            _ if hidden => "No image found".to_owned(),
            _ => self.to_string(),
        }
    }

    /// The answer, with a body in `format`.
    pub(crate) fn response(&self, format: Format) -> Response<Body> {
        let status = self.status();
        let mut response = body::render(status, &self.message(), format);
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Self::MethodNotAllowed { allow } = self
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        if let Self::Unauthenticated(Unauthenticated::Basic) = self {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Self::Patch(PatchProblem::MediaType) = self {
            headers.insert("accept-patch", crate::patch::ACCEPT_PATCH);
        }
        if let Self::Range(RangeProblem::Unsatisfiable { size }) = self
            && let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}"))
        {
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(header::CONTENT_RANGE, range);
        }
        response
    }
}

fn refusal_status(step: Step, refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::ImageExists(_) => StatusCode::CONFLICT,
        Refusal::NoSuchImage(_) => match step {
            Step::Finish => StatusCode::GONE,
            Step::Record | Step::Begin | Step::Switch => StatusCode::NOT_FOUND,
        },
        Refusal::WrongStatus { .. } => match step {
            Step::Switch => StatusCode::FORBIDDEN,
            Step::Record | Step::Begin | Step::Finish => StatusCode::CONFLICT,
        },
        Refusal::FormatsUnset(_) => StatusCode::BAD_REQUEST,
        Refusal::UploadSuperseded(_) | Refusal::NoSuchProperty { .. } | Refusal::PropertyExists { .. } => {
            StatusCode::CONFLICT
        }
        Refusal::Protected(_) | Refusal::FormatsFrozen { .. } => StatusCode::FORBIDDEN,
        Refusal::NoSuchTag { .. } => StatusCode::NOT_FOUND,
        Refusal::TooManyProperties { .. } | Refusal::TooManyTags { .. } | Refusal::RecordTooLarge { .. } => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Refusal::NoSuchToken | Refusal::TokenExpired | Refusal::TokenUsed => StatusCode::FORBIDDEN,
        Refusal::TooManyTokens { .. } | Refusal::TooManyPins { .. } => StatusCode::CONFLICT,
        Refusal::NoSuchPin { .. } => StatusCode::NOT_FOUND,
    }
}

fn consensus_status(failure: &ConsensusError) -> StatusCode {
    match failure {
        ConsensusError::Unavailable
        | ConsensusError::Stopped
        | ConsensusError::DiskFailed
        | ConsensusError::Amnesia => StatusCode::SERVICE_UNAVAILABLE,
        ConsensusError::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn cluster_status(problem: &ClusterProblem) -> StatusCode {
    match problem {
        ClusterProblem::Field(..) | ClusterProblem::Ambiguous(_) => StatusCode::BAD_REQUEST,
        ClusterProblem::NoSuchMember(_)
        | ClusterProblem::NoSuchSite(_)
        | ClusterProblem::Change(ChangeError::NoSuchNode(_)) => StatusCode::NOT_FOUND,
        ClusterProblem::Change(ChangeError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        ClusterProblem::NoPeerPort
        | ClusterProblem::NoBytes(_)
        | ClusterProblem::Change(
            ChangeError::Busy
            | ChangeError::IdTaken(_)
            | ChangeError::Behind { .. }
            | ChangeError::NotAVoter(_)
            | ChangeError::NoMajorityLeft { .. }
            | ChangeError::Silent(_)
            | ChangeError::LastVoter(_),
        ) => StatusCode::CONFLICT,
    }
}

fn upload_status(error: &UploadError) -> StatusCode {
    match error {
        UploadError::TooLarge { .. } | UploadError::Full => StatusCode::PAYLOAD_TOO_LARGE,
        UploadError::WrongSize { .. } => StatusCode::BAD_REQUEST,
        UploadError::Body(source) => {
            source.downcast_ref::<BodyProblem>().map_or(StatusCode::BAD_REQUEST, body_status)
        }
        UploadError::Format(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        UploadError::Busy | UploadError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        UploadError::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn download_status(error: &DownloadError) -> StatusCode {
    match error {
        DownloadError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        DownloadError::OutOfRange { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        DownloadError::Missing(_) | DownloadError::Damaged { .. } | DownloadError::Disk(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn body_status(problem: &BodyProblem) -> StatusCode {
    match problem {
        BodyProblem::NotExpected
        | BodyProblem::Missing
        | BodyProblem::Broken(_)
        | BodyProblem::NotJson(_)
        | BodyProblem::TooDeep { .. }
        | BodyProblem::TooManyParts { .. } => StatusCode::BAD_REQUEST,
        BodyProblem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyProblem::Stalled => StatusCode::REQUEST_TIMEOUT,
    }
}

fn document_status(problem: &DocumentProblem) -> StatusCode {
    match problem {
        DocumentProblem::NotAnObject
        | DocumentProblem::Schema { .. }
        | DocumentProblem::NameLength { .. } => StatusCode::BAD_REQUEST,
        DocumentProblem::ReadOnly(_) | DocumentProblem::Reserved(_) => StatusCode::FORBIDDEN,
    }
}

fn patch_status(problem: &PatchProblem) -> StatusCode {
    match problem {
        PatchProblem::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        PatchProblem::NotAList
        | PatchProblem::NotAnObject
        | PatchProblem::Operation
        | PatchProblem::Path
        | PatchProblem::Value
        | PatchProblem::Pointer { .. }
        | PatchProblem::Depth { .. } => StatusCode::BAD_REQUEST,
        PatchProblem::Exists(_) => StatusCode::CONFLICT,
        PatchProblem::Locations | PatchProblem::NotRemovable(_) => StatusCode::FORBIDDEN,
        PatchProblem::Document(problem) => document_status(problem),
    }
}

fn data_status(problem: &DataProblem) -> StatusCode {
    match problem {
        DataProblem::ContentType | DataProblem::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        DataProblem::Size | DataProblem::SizesDiffer { .. } | DataProblem::UnknownStore(_) => {
            StatusCode::BAD_REQUEST
        }
        DataProblem::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    }
}
