//! Clients of Peerglass: HTTP/1.1, one keep-alive connection each.

use std::rc::Rc;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::loop_closed;

/// Largest page a node answers.
const PAGE: &str = "/v2/images?limit=1000";

/// What a client asks.
#[derive(Clone)]
pub(crate) enum Question {
    /// Create an image like this.
    Create(Template),
    /// Show one of these, in turn.
    Show(Rc<[Uri]>),
}

/// The JSON of a new image of a given size, with a place for its number.
#[derive(Clone)]
pub(crate) struct Template {
    json: Bytes,
}

/// Where the ten digits of the number are.
const DIGITS: std::ops::Range<usize> = 14..24;

impl Template {
    /// A record of `bytes` bytes.
    pub(crate) fn new(bytes: usize) -> anyhow::Result<Self> {
        let (head, tail) =
            (r#"{"name":"load-0000000000","disk_format":"raw","container_format":"bare","note":""#, r#""}"#);
        let padding = bytes.checked_sub(head.len() + tail.len()).context("--record-bytes is too small")?;
        let json = format!("{head}{}{tail}", "x".repeat(padding));
        Ok(Self { json: json.into() })
    }

    fn fill(&self, number: u64) -> Bytes {
        let mut json = BytesMut::from(&self.json[..]);
        let mut rest = number;
        for digit in json[DIGITS].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        json.freeze()
    }
}

/// One client of one node.
pub(crate) struct Client {
    endpoint: String,
    host: HeaderValue,
    question: Question,
    open: Option<SendRequest<Full<Bytes>>>,
    /// The task that moves the bytes of `open`.
    drivers: JoinSet<()>,
}

/// `count` clients that take `endpoints` in turn.
pub(crate) fn clients(endpoints: &[String], count: usize, question: Question) -> Vec<Client> {
    endpoints.iter().cycle().take(count).map(|endpoint| Client::new(endpoint, question.clone())).collect()
}

/// Where the images of the first page are, as the first endpoint lists them.
pub(crate) async fn first_page(endpoints: &[String]) -> anyhow::Result<Rc<[Uri]>> {
    let mut client = Client::new(&endpoints[0], Question::Show(Rc::from([])));
    let answer = client.get(Uri::from_static(PAGE)).await?;
    let page: serde_json::Value = serde_json::from_slice(&answer)?;
    let images = page["images"].as_array().context("a page lists images")?;
    let ids = images.iter().filter_map(|image| image["id"].as_str());
    let uris = ids.map(|id| format!("/v2/images/{id}").parse()).collect::<Result<Vec<Uri>, _>>()?;
    ensure!(!uris.is_empty(), "there is no image to read");
    Ok(uris.into())
}

impl Client {
    fn new(endpoint: &str, question: Question) -> Self {
        let host = HeaderValue::from_str(endpoint).unwrap_or(HeaderValue::from_static("localhost"));
        Self { endpoint: endpoint.to_owned(), host, question, open: None, drivers: JoinSet::new() }
    }

    async fn get(&mut self, uri: Uri) -> anyhow::Result<Bytes> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri;
        let (_, body) = self.send(request, StatusCode::OK).await?;
        Ok(body)
    }

    async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
        wanted: StatusCode,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        request.headers_mut().insert(HOST, self.host.clone());
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        open.ready().await?;
        let answer = open.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.open = Some(open);
        ensure!(status == wanted, "{status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
        Ok((status, body))
    }

    async fn connect(&mut self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        self.drivers.abort_all();
        while self.drivers.try_join_next().is_some() {}
        let stream = TcpStream::connect(&self.endpoint).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (open, connection) = handshake(TokioIo::new(stream)).await?;
        self.drivers.spawn_local(async move {
            // Its end shows in the request that was under way.
            let _ = connection.await;
        });
        Ok(open)
    }
}

impl loop_closed::Client for Client {
    async fn ask(&mut self, number: u64) -> anyhow::Result<()> {
        match &self.question {
            Question::Create(template) => {
                let mut request = Request::new(Full::new(template.fill(number)));
                *request.method_mut() = Method::POST;
                *request.uri_mut() = Uri::from_static("/v2/images");
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.send(request, StatusCode::CREATED).await?;
            }
            Question::Show(uris) => {
                let at = usize::try_from(number)? % uris.len();
                let uri = uris[at].clone();
                self.get(uri).await?;
            }
        }
        Ok(())
    }
}
