//! A node in memory, and a client that speaks to it without a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use peerglass_api::{Api, ApiParts, ApiSettings, Auth, Htpasswd};
use peerglass_catalog::{MemoryKeyspace, Timestamp};
use peerglass_consensus::Consensus;
use peerglass_transfer::{MemoryPacks, Transfer, TransferDisk, TransferSettings, Workers};
use serde_json::Value;
use tower::ServiceExt;

/// The media type that overwrites.
pub(crate) const V21: &str = "application/openstack-images-v2.1-json-patch";
/// The media type that refuses to overwrite.
pub(crate) const V20: &str = "application/openstack-images-v2.0-json-patch";

/// A client of one node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) api: Api,
    /// Where the bytes are, for tests that damage them.
    pub(crate) packs: Arc<MemoryPacks>,
    /// Who keeps them.
    pub(crate) transfer: Transfer,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Fail with the whole answer unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// A node without sign-in.
pub(crate) async fn node() -> Node {
    node_with(ApiSettings::default(), Auth::None).await
}

/// A node with these settings.
pub(crate) async fn node_with(settings: ApiSettings, auth: Auth) -> Node {
    node_on(peerglass_consensus::testing::in_memory().await, settings, auth).await
}

/// A node on this catalog.
pub(crate) async fn node_on(consensus: Consensus, settings: ApiSettings, auth: Auth) -> Node {
    let packs = Arc::new(MemoryPacks::new());
    let disk = TransferDisk { packs: Arc::clone(&packs) as _, index: Arc::new(MemoryKeyspace::new()) };
    let transfer = Transfer::open(TransferSettings::default(), disk, Workers::Inline, 7, None).await.unwrap();
    // Every question gets a later second, so that orders by time are total.
    let clock = AtomicI64::new(1_700_000_000);
    let api = Api::new(ApiParts {
        consensus,
        transfer: transfer.clone(),
        settings,
        auth,
        now: Arc::new(move || Timestamp(clock.fetch_add(1, Ordering::Relaxed) * 1_000_000)),
        seed: 42,
    });
    Node { api, packs, transfer, headers: Vec::new() }
}

/// A node with the users alice and bob of projects of their own, a reader `rita` and a plain member
/// `max` of alice's project, and the administrator `root`. Everybody's password is `secret`.
pub(crate) async fn node_with_users() -> Node {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let users = format!(
        "alice:{hash}\nbob:{hash}\nrita:{hash}:alice:reader\nmax:{hash}:alice:member\nroot:{hash}:ops:admin\n"
    );
    let auth = Auth::HttpBasic(Htpasswd::parse("users", &users).unwrap());
    node_with(ApiSettings::default(), auth).await
}

impl Node {
    /// The same node, with this header on every request.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut node = self.clone();
        node.headers.push((name.to_owned(), value.to_owned()));
        node
    }

    /// The same node, as this user.
    pub(crate) fn user(&self, name: &str) -> Self {
        let credentials = match name {
            "alice" => "YWxpY2U6c2VjcmV0",
            "bob" => "Ym9iOnNlY3JldA==",
            "rita" => "cml0YTpzZWNyZXQ=",
            "max" => "bWF4OnNlY3JldA==",
            "root" => "cm9vdDpzZWNyZXQ=",
            other => panic!("no user {other}"),
        };
        self.with("authorization", &format!("Basic {credentials}"))
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = self.api.service().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, document: &Value) -> Reply {
        self.send("POST", path, document.to_string()).await
    }

    pub(crate) async fn patch(&self, id: &str, media_type: &str, document: &Value) -> Reply {
        let node = self.with("content-type", media_type);
        node.send("PATCH", &format!("/v2/images/{id}"), document.to_string()).await
    }

    pub(crate) async fn put_file(&self, id: &str, body: impl Into<Body>) -> Reply {
        let node = self.with("content-type", "application/octet-stream");
        node.send("PUT", &format!("/v2/images/{id}/file"), body).await
    }

    /// Create an image of this document and return its id.
    #[track_caller]
    pub(crate) fn create(&self, document: Value) -> impl Future<Output = String> {
        let node = self.clone();
        async move {
            let reply = node.post("/v2/images", &document).await.expect(201);
            reply.json()["id"].as_str().unwrap().to_owned()
        }
    }

    /// Create a raw image that holds these bytes.
    pub(crate) async fn create_with(&self, bytes: &'static [u8]) -> String {
        let id = self.create(raw()).await;
        self.put_file(&id, bytes).await.expect(204);
        id
    }

    pub(crate) async fn show(&self, id: &str) -> Value {
        self.get(&format!("/v2/images/{id}")).await.expect(200).json()
    }
}

/// The least an image needs to take bytes.
pub(crate) fn raw() -> Value {
    serde_json::json!({"disk_format": "raw", "container_format": "bare"})
}
