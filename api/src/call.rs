//! One authenticated request, as a handler gets it.

use axum::body::Body;
use axum::extract::RawPathParams;
use axum::http::request::Parts;
use axum::http::{Method, Response};
use peerglass_catalog::{Catalog, Command, Image, ImageId, Outcome};
use peerglass_consensus::ConsensusError;

use crate::api::Api;
use crate::auth::Caller;
use crate::error::{ApiError, Step};
use crate::policy::{self, Rule, Target};
use crate::stale;

/// What every handler answers with.
pub(crate) type Answer = Result<Response<Body>, ApiError>;

/// A request whose caller is known and whose path matched.
pub(crate) struct Call {
    /// What requests share.
    pub(crate) api: Api,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The rule of the route, from the URL table.
    pub(crate) rule: Rule,
    /// What the path named, decoded.
    pub(crate) params: RawPathParams,
    /// The request without its body. The body is apart because it cannot be looked at by two.
    pub(crate) head: Parts,
}

impl Call {
    /// The path parameter `name`, which the route of this call has.
    pub(crate) fn param(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(param, _)| *param == name);
        found.map(|(_, value)| value).unwrap_or_default()
    }

    /// Whether the route's rule lets the caller do this to `target`.
    pub(crate) fn check(&self, target: Target<'_>) -> Result<(), ApiError> {
        self.check_rule(self.rule, target)
    }

    /// Whether a further `rule` does.
    pub(crate) fn check_rule(&self, rule: Rule, target: Target<'_>) -> Result<(), ApiError> {
        policy::check(rule, &self.caller, target).map_err(ApiError::Denied)
    }

    /// The image the path names, if the caller can see it. Says nothing about what the caller may do.
    pub(crate) async fn visible_image(&self) -> Result<Image, ApiError> {
        let name = self.param("image_id");
        let absent = || ApiError::NoSuchImage(name.to_owned());
        // Anything else than an id is the id of no image.
        let id: ImageId = name.parse().map_err(|_| absent())?;
        let found = self.read(|catalog| catalog.image(&id)).await??;
        found.filter(|image| image.is_visible_to(self.caller.viewer())).ok_or_else(absent)
    }

    /// The image the path names, if the route's rule lets the caller do this to it.
    pub(crate) async fn permitted_image(&self) -> Result<Image, ApiError> {
        let image = self.visible_image().await?;
        self.check(Target::Image(&image))?;
        Ok(image)
    }

    /// Ask the catalog: for its newest state, unless this is a `GET` that may be answered from an older
    /// one. A stale answer is noted, and the response says so.
    pub(crate) async fn read<T>(
        &self,
        question: impl FnOnce(&Catalog<'_>) -> T,
    ) -> Result<T, ConsensusError> {
        let consensus = &self.api.consensus;
        let changes_nothing = matches!(self.head.method, Method::GET | Method::HEAD);
        // Whether bytes may be had is not for the client to decide on an old record.
        let may_ask = changes_nothing && self.rule != Rule::DownloadImage;
        if may_ask && stale::is_asked_for(&self.head.headers) {
            return Ok(self.note_stale(consensus.read_stale(question)?));
        }
        if changes_nothing && self.api.settings.stale_when_cut_off {
            if self.api.is_cut_off() {
                return Ok(self.note_stale(consensus.read_stale(question)?));
            }
            // Asked apart from the question, which can be asked once only.
            return match consensus.read(|_| ()).await {
                Ok(()) => Ok(consensus.read_stale(question)?.0),
                Err(ConsensusError::Unavailable) => {
                    self.api.note_cut_off();
                    Ok(self.note_stale(consensus.read_stale(question)?))
                }
                Err(error) => Err(error),
            };
        }
        consensus.read(question).await
    }

    /// As [`read`](Self::read), for a question that may take long.
    pub(crate) async fn read_apart<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Catalog<'_>) -> T + Send + 'static,
    ) -> Result<T, ConsensusError> {
        self.read(|_| ()).await?;
        self.api.consensus.read_stale_apart(question).await
    }

    fn note_stale<T>(&self, (answer, applied): (T, u64)) -> T {
        if let Some(note) = self.head.extensions.get::<stale::Note>() {
            note.set(applied);
        }
        answer
    }

    /// Carry out a command that answers with an image's record.
    pub(crate) async fn submit(&self, step: Step, command: Command) -> Result<Outcome, ApiError> {
        self.api.consensus.submit(command).await.map_err(|error| ApiError::submit(step, error))
    }
}
