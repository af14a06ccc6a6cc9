//! The access log: what is in it, what is not, and that no client can write it.

use std::io;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use peerglass_api::ApiSettings;
use peerglass_transfer::PackDisk;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;
use tracing::Level;
use tracing::subscriber::DefaultGuard;

use crate::node::{node, node_with_users, raw};
use crate::server::{read_head, server};

/// What was logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Collect JSON lines as a node writes them, until the guard is dropped.
    pub(crate) fn json(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = log.clone();
        let format = tracing_subscriber::fmt().json().flatten_event(true).with_current_span(true);
        let format = format.with_span_list(false).with_max_level(level).with_writer(move || lines.clone());
        (log, listen(format.finish()))
    }

    /// Collect text lines as a node writes them.
    fn text() -> (Self, DefaultGuard) {
        let log = Self::default();
        let lines = log.clone();
        let format = tracing_subscriber::fmt().with_ansi(false).with_writer(move || lines.clone());
        (log, listen(format.finish()))
    }

    fn written(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.written().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn access(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["target"] == "peerglass_api::access").collect()
    }

    /// The only access line, as soon as it is there.
    async fn only(&self) -> Value {
        for _ in 0..2000 {
            if let [line] = &self.access()[..] {
                return line.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("not one line: {}", self.written());
    }
}

/// Send this thread's lines there.
///
/// tracing remembers for each place in the code whether anybody listens, and with a single listener it
/// asks only the thread that comes by first. One that all other tests have keeps every place awake.
fn listen(subscriber: impl tracing::Subscriber + Send + Sync) -> DefaultGuard {
    static EVERYWHERE: Once = Once::new();
    EVERYWHERE.call_once(|| {
        let nowhere = tracing_subscriber::fmt().with_max_level(Level::INFO).with_writer(io::sink);
        tracing::subscriber::set_global_default(nowhere.finish()).unwrap();
    });
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    guard
}

#[tokio::test]
async fn a_request_is_one_line_of_facts_and_no_secrets() {
    let (log, _guard) = Log::json(Level::INFO);
    let node = node_with_users().await;
    let alice = node.user("alice").with("x-openstack-request-id", "req-mine");
    let reply = alice.get("/v2/images?name=hidden&token=s3cret").await.expect(200);
    let line = log.only().await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["request_id"], "req-mine");
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/v2/images".into()));
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &true.into()));
    assert_eq!(line["sent_bytes"], reply.body.len());
    assert_eq!((&line["user"], &line["project"]), (&"alice".into(), &"alice".into()));
    assert!(line["milliseconds"].as_f64().unwrap() >= 0.0);
    assert!(!log.written().contains("cret") && !log.written().contains("hidden"), "{}", log.written());
}

#[tokio::test]
async fn health_is_asked_often_and_logged_at_debug() {
    let (log, guard) = Log::json(Level::INFO);
    let node = node().await;
    for path in ["/healthcheck", "/livez", "/readyz"] {
        node.get(path).await.expect(200);
    }
    assert!(log.access().is_empty());
    drop(guard);
    let (log, _guard) = Log::json(Level::DEBUG);
    node.get("/livez").await.expect(200);
    assert_eq!(log.only().await["level"], "DEBUG");
}

/// A route's refusal, one before the route, one without a body, and one that never gets an answer.
#[tokio::test]
async fn every_end_is_logged_once() {
    let (log, _guard) = Log::json(Level::INFO);
    let node = node_with_users().await;
    node.get("/v2/images").await.expect(401);
    let bob = node.user("bob");
    bob.get("/v2/images/nothing").await.expect(404);
    bob.send("OPTIONS", "/nowhere", "").await;
    let never = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, io::Error>>());
    let waiting = bob.send("POST", "/v2/images", never);
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
    let lines = log.access();
    assert_eq!(lines.len(), 4, "{}", log.written());
    assert_eq!((&lines[0]["status"], &lines[0]["user"]), (&401.into(), &Value::Null));
    assert!(lines[0]["request_id"].as_str().unwrap().starts_with("req-"));
    assert_eq!((&lines[1]["status"], &lines[1]["user"]), (&404.into(), &"bob".into()));
    assert_eq!((&lines[3]["status"], &lines[3]["complete"]), (&Value::Null, &false.into()));
    assert_eq!(lines[3]["user"], "bob", "also of a request that was given up");
}

/// What a client sends cannot end a line or look like another field, in either format.
#[tokio::test]
async fn no_path_forges_a_line() {
    let node = node().await;
    let hostile = [
        "/v2/images/%0a2026-01-01T00:00:00Z%20ERROR%20forged%1b[31m%00",
        "/v2/images/x\"status=200\"y",
        "/v2/images/\u{2028}\u{85}\u{9b}31m\u{202e}\u{feff}",
    ];
    let raw_controls = ["/v2/a\nb", "/v2/a\r\nb", "/v2/a\u{1b}[2J", "/v2/a\u{7f}", "/v2/a\0"];
    for path in raw_controls {
        assert!(Request::builder().uri(path).body(Body::empty()).is_err(), "HTTP has no such path: {path:?}");
    }
    for path in hostile {
        let (log, guard) = Log::text();
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        drop(node.api.service().oneshot(request).await.unwrap());
        drop(guard);
        let written = log.written();
        assert_eq!(written.lines().count(), 1, "{written:?}");
        let invisible = |c: char| c != '\n' && (c.is_control() || "\u{2028}\u{202e}\u{feff}".contains(c));
        assert!(!written.contains(invisible), "{written:?}");
        assert_eq!(written.matches(" status=").count(), 1, "{written}");
        let (log, guard) = Log::json(Level::INFO);
        node.get(path).await;
        drop(guard);
        assert_eq!(log.only().await["path"], path);
    }
}

/// Over a socket: the address is known, and an upload's line has the answer's bytes, not its own.
#[tokio::test]
async fn the_remote_address_is_logged() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let (log, _guard) = Log::json(Level::INFO);
    let mut stream = server.connect().await;
    stream.write_all(server.put(&id, "Content-Length: 5\r\n", "bytes").as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 204"));
    let line = log.only().await;
    assert_eq!(line["remote"], stream.local_addr().unwrap().to_string());
    assert_eq!((&line["sent_bytes"], &line["complete"]), (&0.into(), &true.into()));
}

/// A download is logged when it is over, as whole or as cut, by whichever side.
#[tokio::test]
async fn downloads_are_logged_at_their_end() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let bytes: Vec<u8> =
        (0..4_u32 << 20).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    server.node.put_file(&id, bytes.clone()).await.expect(204);
    let request = format!("GET /v2/images/{id}/file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");

    let (log, guard) = Log::json(Level::INFO);
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    assert!(log.access().is_empty(), "not before the end");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), bytes.len());
    let line = log.only().await;
    assert_eq!((&line["sent_bytes"], &line["complete"]), (&bytes.len().into(), &true.into()));
    drop(guard);

    let (log, guard) = Log::json(Level::INFO);
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    drop(stream);
    let line = log.only().await;
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()));
    assert!(line["sent_bytes"].as_u64().unwrap() < bytes.len() as u64);
    drop(guard);

    let (pack, _) = server.node.packs.list().unwrap()[0];
    let mut stored = server.node.packs.bytes(pack).unwrap();
    stored[bytes.len() * 3 / 4] ^= 1;
    server.node.packs.overwrite(pack, stored);
    let (log, _guard) = Log::json(Level::INFO);
    let mut stream = server.connect().await;
    stream
        .write_all(
            request.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nX-OpenStack-Request-Id: req-rot\r\n").as_bytes(),
        )
        .await
        .unwrap();
    drop(stream.read_to_end(&mut got).await);
    let line = log.only().await;
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()));
    let broke = log.lines().into_iter().find(|line| line["message"] == "download broke off").unwrap();
    assert_eq!(broke["span"]["request_id"], "req-rot", "lines written while the body goes out have the id");
}
