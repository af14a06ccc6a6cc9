//! One request to a running node.

use anyhow::{Context, anyhow, bail};
use axum::http::{Method, Request, Uri, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use crate::cli::AdminOptions;

/// How long an answer may take: longer than the slowest change of the membership.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A node, and who asks it.
pub(crate) struct Client {
    authority: String,
    authorization: Option<String>,
}

impl Client {
    pub(crate) fn new(admin: &AdminOptions) -> anyhow::Result<Self> {
        let url: Uri = admin.endpoint.parse().with_context(|| format!("{:?} is no URL", admin.endpoint))?;
        if url.scheme_str() != Some("http") {
            bail!(
                "{:?} is no http:// URL; for https, ask the node itself or put its address there",
                admin.endpoint
            );
        }
        let host = url.host().context("the endpoint has no host")?;
        let authority = format!("{host}:{}", url.port_u16().unwrap_or(80));
        let authorization = match (&admin.user, &admin.password) {
            (None, _) => None,
            (Some(user), Some(password)) => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            (Some(_), None) => bail!("a user needs a password: set PEERGLASS_PASSWORD"),
        };
        Ok(Self { authority, authorization })
    }

    /// The document of a successful answer; `Null` if there is none.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let asked = timeout(ANSWER_TIMEOUT, self.exchange(method, path, body)).await;
        asked.map_err(|_| anyhow!("{} does not answer within {ANSWER_TIMEOUT:?}", self.authority))?
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let stream = TcpStream::connect(&self.authority).await;
        let stream =
            stream.with_context(|| format!("cannot connect to {}; does the node run?", self.authority))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = text.map_err(|error| anyhow!("the answer broke off: {error}"))?.to_bytes();
        let document: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(document);
        }
        let why = document["message"].as_str().map(str::trim).filter(|why| !why.is_empty());
        let why = why.map_or_else(|| String::from_utf8_lossy(&text).trim().to_owned(), str::to_owned);
        bail!("{status}: {why}")
    }
}
