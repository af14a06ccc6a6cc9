//! The connection itself, over loopback: framing, limits, time-outs, drain.

use std::time::Duration;

use peerglass_api::ApiSettings;
use peerglass_transfer::PackDisk;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::raw;
use crate::server::{read_head, read_to_end, server};

/// RB-09: the client says ten bytes and closes after five.
#[tokio::test]
async fn a_body_shorter_than_announced_leaves_the_image_queued() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    server.exchange(server.put(&id, "Content-Length: 10\r\n", "12345").as_bytes()).await;
    server.until_status(&id, "queued").await;
    server.node.put_file(&id, "whole").await.expect(204);
}

/// RB-09: what follows the announced bytes is not part of the image.
#[tokio::test]
async fn a_body_longer_than_announced_is_cut_there() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let request = server.put(&id, "Content-Length: 5\r\nConnection: close\r\n", "12345garbage");
    let answer = server.ask(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(server.node.get(&format!("/v2/images/{id}/file")).await.text(), "12345");
}

/// glanceclient sends chunks and no length.
#[tokio::test]
async fn a_chunked_body_of_unknown_length_is_taken() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let body = "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    let headers = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let answer = server.ask(server.put(&id, headers, body).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(server.node.show(&id).await["size"], 6);
    let queued = server.node.create(raw()).await;
    let cut = server.put(&queued, "Transfer-Encoding: chunked\r\n", "5\r\nhel");
    server.exchange(cut.as_bytes()).await;
    server.until_status(&queued, "queued").await;
}

/// The client vanishes without a word.
#[tokio::test]
async fn hanging_up_in_the_middle_returns_the_image_to_queued() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let mut stream = server.connect().await;
    stream.write_all(server.put(&id, "Content-Length: 1000000\r\n", "some").as_bytes()).await.unwrap();
    server.until_status(&id, "saving").await;
    drop(stream);
    server.until_status(&id, "queued").await;
}

/// RB-14, RB-36: a client that asks first is refused before it sends anything.
#[tokio::test]
async fn expect_continue_is_answered_after_the_checks() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let request = server.put(&id, "Content-Length: 5\r\nExpect: 100-continue\r\n", "");
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(b"bytes").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 204"));
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 409"));
}

/// RB-10, RB-11: malformed requests are refused, and the node goes on.
#[tokio::test]
async fn malformed_requests_are_refused() {
    let server = server(ApiSettings::default()).await;
    let many: String = (0..10_000).map(|n| format!("X-{n}: v\r\n")).collect();
    for head in [
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n".to_owned(),
        "POST /v2/images HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n"
            .to_owned(),
        "POST /v2/images HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "POST /v2/images HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n{}".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(70_000)),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "v".repeat(1 << 20)),
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "v".repeat(66_000)),
        "\0\0\0\0".to_owned(),
        "GET\r\n\r\n".to_owned(),
    ] {
        let answer = server.exchange(head.as_bytes()).await;
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{:?} got {:?}", &head[..head.len().min(80)], &answer[..answer.len().min(80)]);
    }
    server.node.get("/v2/images").await.expect(200);
}

/// RB-12.
#[tokio::test]
async fn a_thousand_pipelined_requests_get_a_thousand_answers() {
    let server = server(ApiSettings::default()).await;
    let mut requests = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\n".repeat(999);
    requests.push_str("GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let mut stream = server.connect().await;
    let (mut read, mut write) = stream.split();
    let mut answers = Vec::new();
    let (sent, got) = tokio::join!(write.write_all(requests.as_bytes()), read.read_to_end(&mut answers));
    sent.and(got).unwrap();
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count(), 1000);
}

/// RB-13: neither silence nor a trickle of headers holds a connection.
#[tokio::test]
async fn slow_heads_are_cut_off() {
    let header_read_timeout = Duration::from_millis(100);
    let server = server(ApiSettings { header_read_timeout, ..ApiSettings::default() }).await;
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:"] {
        let mut stream = server.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{beginning:?}: {answer}");
    }
}

/// The cap per address, and one more.
#[tokio::test]
async fn one_address_gets_so_many_connections() {
    let server = server(ApiSettings { connections_per_address_max: 2, ..ApiSettings::default() }).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for stream in [&mut first, &mut second] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(read_head(stream).await.starts_with("HTTP/1.1 200"));
    }
    let mut third = server.connect().await;
    drop(third.write_all(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").await);
    assert_eq!(read_to_end(&mut third).await, "");
    drop(first);
    for _ in 0..1000 {
        let answer = server.exchange(b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the place of a closed connection was not given back");
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create_with(b"over two").await;
    let io = hyper_util::rt::TokioIo::new(server.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = axum::http::Request::get(format!("http://h/v2/images/{id}/file"));
    let answer = sender.send_request(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "over two");
}

/// Bytes that rot on disk are never sent, and what was sent before does not look complete.
#[tokio::test]
async fn a_download_that_fails_in_the_middle_ends_short() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let bytes: Vec<u8> =
        (0..4_u32 << 20).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    server.node.put_file(&id, bytes.clone()).await.expect(204);
    let (pack, length) = server.node.packs.list().unwrap()[0];
    let mut stored = server.node.packs.bytes(pack).unwrap();
    assert!(length as usize > bytes.len());
    stored[bytes.len() * 3 / 4] ^= 1;
    server.node.packs.overwrite(pack, stored);
    let mut stream = server.connect().await;
    let request = format!("GET /v2/images/{id}/file HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains(&bytes.len().to_string()), "{head}");
    let mut got = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await.unwrap());
    assert!(got.len() < bytes.len() && bytes.starts_with(&got), "{} of {} bytes", got.len(), bytes.len());
}

/// On stop, an upload in flight may finish, new connections are refused, and then it is over.
#[tokio::test]
async fn stopping_lets_requests_finish() {
    let server = server(ApiSettings::default()).await;
    let id = server.node.create(raw()).await;
    let mut stream = server.connect().await;
    stream.write_all(server.put(&id, "Content-Length: 10\r\n", "first").as_bytes()).await.unwrap();
    server.until_status(&id, "saving").await;
    server.stop.cancel();
    for _ in 0..1000 {
        if server.node.get("/healthcheck").await.status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.node.get("/healthcheck").await.expect(503);
    assert!(TcpStream::connect(server.address).await.is_err());
    stream.write_all(b"later").await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.1 204"));
    server.served.await.unwrap();
    assert_eq!(server.node.show(&id).await["status"], "active");
}

/// A client that does not finish in time is cut, and its image can be tried again.
#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let drain_timeout = Duration::from_millis(50);
    let server = server(ApiSettings { drain_timeout, ..ApiSettings::default() }).await;
    let id = server.node.create(raw()).await;
    let mut stream = server.connect().await;
    stream.write_all(server.put(&id, "Content-Length: 10\r\n", "first").as_bytes()).await.unwrap();
    server.until_status(&id, "saving").await;
    server.stop.cancel();
    server.served.await.unwrap();
    assert_eq!(server.node.show(&id).await["status"], "queued");
    assert_eq!(json!(read_to_end(&mut stream).await.contains("204")), json!(false));
}
