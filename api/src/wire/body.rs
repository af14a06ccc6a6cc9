//! Bodies on their way in: watched while they arrive, and read as JSON where JSON is expected.
//!
//! # What it promises
//!
//! * A body that stops coming, or trickles, ends in [`BodyProblem::Stalled`] after a bounded wait.
//!   Only time spent waiting for the client counts, not time this node takes to store the bytes.
//! * JSON is never held beyond its limit, nor parsed beyond its depth.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use crate::settings::ApiSettings;

/// Most values in a JSON document: parsing more takes longer than other requests should wait, and no request has
/// a use for them.
const JSON_PARTS_MAX: usize = 65_536;

/// What is wrong with a request's body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyProblem {
    #[error("A body is not expected with this request.")]
    NotExpected,
    #[error("A body is expected with this request.")]
    Missing,
    #[error("The body ended before it was complete.")]
    Broken(#[source] axum::Error),
    #[error("The body stopped coming.")]
    Stalled,
    #[error("A JSON body has at most {max} bytes.")]
    TooLarge { max: usize },
    #[error("JSON may nest at most {max} deep.")]
    TooDeep { max: usize },
    #[error("The JSON document has more than {max} values.")]
    TooManyParts { max: usize },
    #[error("Malformed JSON in the body: {0}")]
    NotJson(#[from] serde_json::Error),
}

/// A body that fails when it stops coming.
pub(crate) struct WatchedBody {
    body: BodyDataStream,
    alarm: Pin<Box<Sleep>>,
    idle_max: Duration,
    window_bytes_min: usize,
    /// Bytes and waiting since the last time enough had come.
    window_bytes: usize,
    window_waited: Duration,
    waiting_since: Option<Instant>,
}

impl WatchedBody {
    /// Watch `body` by the limits in `settings`. The alarm runs only while the body is awaited.
    pub(crate) fn new(body: Body, settings: &ApiSettings) -> Self {
        let idle_max = settings.body_idle_timeout;
        Self {
            body: body.into_data_stream(),
            alarm: Box::pin(tokio::time::sleep(idle_max)),
            idle_max,
            window_bytes_min: settings.body_window_bytes_min,
            window_bytes: 0,
            window_waited: Duration::ZERO,
            waiting_since: None,
        }
    }

    fn arrived(&mut self, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.window_waited += since.elapsed();
        }
        self.window_bytes += bytes;
        if self.window_bytes >= self.window_bytes_min {
            self.window_bytes = 0;
            self.window_waited = Duration::ZERO;
        }
    }

    /// Whether the client has used up its time.
    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let left = self.idle_max.saturating_sub(self.window_waited);
            self.alarm.as_mut().reset(now + left);
        }
        self.alarm.as_mut().poll(context)
    }
}

impl Stream for WatchedBody {
    type Item = Result<Bytes, BodyProblem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.body.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.arrived(bytes.len());
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(BodyProblem::Broken(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_alarm(context).map(|()| Some(Err(BodyProblem::Stalled))),
        }
    }
}

/// Read a whole body as JSON.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    settings: &ApiSettings,
) -> Result<serde_json::Value, BodyProblem> {
    let max = settings.json_bytes_max;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > max as u64) {
        return Err(BodyProblem::TooLarge { max });
    }
    let mut body = WatchedBody::new(body, settings);
    let mut text = Vec::new();
    while let Some(bytes) = body.next().await.transpose()? {
        if text.len() + bytes.len() > max {
            return Err(BodyProblem::TooLarge { max });
        }
        text.extend_from_slice(&bytes);
    }
    if text.is_empty() {
        return Err(BodyProblem::Missing);
    }
    let (depth, parts) = shape(&text);
    if depth > settings.json_depth_max {
        return Err(BodyProblem::TooDeep { max: settings.json_depth_max });
    }
    if parts > JSON_PARTS_MAX {
        return Err(BodyProblem::TooManyParts { max: JSON_PARTS_MAX });
    }
    Ok(serde_json::from_slice(&text)?)
}

/// The deepest nesting of brackets outside strings, and how many values there are at most: both found before a
/// parser recurses into the one and allocates for the other.
fn shape(text: &[u8]) -> (usize, usize) {
    let (mut depth, mut deepest, mut parts, mut in_string) = (0_usize, 0, 0, false);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                parts += 1;
                deepest = deepest.max(depth);
            }
            b',' if !in_string => parts += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest, parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn json(text: impl Into<Body>) -> Result<serde_json::Value, BodyProblem> {
        read_json(&HeaderMap::new(), text.into(), &ApiSettings::default()).await
    }

    #[test]
    fn depth_ignores_brackets_in_strings() {
        assert_eq!(shape(b"{\"a\": [1, \"]]\\\"[[[\"]}"), (2, 3));
        assert_eq!(shape(b"]]]["), (1, 1));
    }

    /// RB-02, RB-03, RB-04, RB-05, RB-07.
    #[tokio::test]
    async fn what_is_not_json_is_refused() {
        let mut bodies: Vec<Vec<u8>> = ["{", "nope", "\u{feff}{}", "{\"a\": NaN}", "{\"a\": 1e400}", "{} {}"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
        bodies.push(b"{\"a\": \"\\ud800\"}".to_vec());
        bodies.push(b"{\"a\": \"\x00\"}".to_vec());
        bodies.push(b"{\"a\": \"\xff\"}".to_vec());
        bodies.push("{}".encode_utf16().flat_map(u16::to_le_bytes).collect());
        for body in bodies {
            assert!(matches!(json(body.clone()).await, Err(BodyProblem::NotJson(_))), "{body:?}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(matches!(json(deep).await, Err(BodyProblem::TooDeep { .. })));
        let many = |commas: usize| format!("[0{}]", ",0".repeat(commas));
        assert!(json(many(JSON_PARTS_MAX - 1)).await.is_ok());
        assert!(matches!(json(many(JSON_PARTS_MAX)).await, Err(BodyProblem::TooManyParts { .. })));
        assert!(matches!(json("[".repeat(10 << 20)).await, Err(BodyProblem::TooLarge { .. })));
        assert!(matches!(json("").await, Err(BodyProblem::Missing)));
    }

    /// The cap and one more.
    #[tokio::test]
    async fn caps_are_exact() {
        let max = ApiSettings::default().json_bytes_max;
        let padded = |length: usize| "{}".to_owned() + &" ".repeat(length - 2);
        assert!(json(padded(max)).await.is_ok());
        assert!(matches!(json(padded(max + 1)).await, Err(BodyProblem::TooLarge { .. })));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(json(nested(64)).await.is_ok());
        assert!(matches!(json(nested(65)).await, Err(BodyProblem::TooDeep { max: 64 })));
    }

    /// RB-13: a byte a second is as good as nothing; a pause between large pieces is not.
    #[tokio::test(start_paused = true)]
    async fn a_trickle_counts_as_silence() {
        let pieces = |size: usize, pause: u64| {
            futures::stream::unfold(0, move |count: u32| async move {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                (count < 200).then(|| (Ok::<_, std::io::Error>(Bytes::from(vec![b' '; size])), count + 1))
            })
        };
        let settings = ApiSettings::default();
        let drain = async |body: Body| {
            let mut body = WatchedBody::new(body, &settings);
            while let Some(piece) = body.next().await {
                piece?;
            }
            Ok::<(), BodyProblem>(())
        };
        let begun = Instant::now();
        let trickle = drain(Body::from_stream(Box::pin(pieces(1, 1)))).await;
        assert!(matches!(trickle, Err(BodyProblem::Stalled)));
        assert_eq!(begun.elapsed().as_secs(), 60);
        assert!(drain(Body::from_stream(Box::pin(pieces(8192, 59)))).await.is_ok());
    }
}
