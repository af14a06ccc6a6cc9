//! A node on a real disk and a real port: start, serve, stop, start again, and starts that must fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::serve::Listener;
use peerglass::{MachineError, Node, Settings, StartError, Surroundings, assemble};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn settings(data_dir: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.api.listen = "127.0.0.1:0".parse().unwrap();
    settings.storage.data_dir = data_dir.to_owned();
    settings
}

async fn start(data_dir: &Path) -> Result<(Node, SocketAddr), String> {
    let settings = settings(data_dir);
    let surroundings = Surroundings::of_this_machine(&settings).await.map_err(|error| error.to_string())?;
    let address = surroundings.api_listener.local_addr().unwrap();
    let node = assemble(&settings, surroundings).await.map_err(|error: StartError| error.to_string())?;
    Ok((node, address))
}

/// One request on its own connection: status and body.
async fn call(to: SocketAddr, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[split + 4..].to_vec())
}

const ID: &str = "0a0a0a0a-0000-4000-8000-000000000001";

async fn upload(to: SocketAddr, bytes: &[u8]) {
    let record = format!(r#"{{"id":"{ID}","name":"n","disk_format":"raw","container_format":"bare"}}"#);
    assert_eq!(call(to, "POST", "/v2/images", "application/json", record.as_bytes()).await.0, 201);
    let file = format!("/v2/images/{ID}/file");
    assert_eq!(call(to, "PUT", &file, "application/octet-stream", bytes).await.0, 204);
}

/// Not a pattern that compresses or repeats, and not a multiple of anything.
fn bytes() -> Vec<u8> {
    let mut dice = peerglass_catalog::testing::Dice(5);
    (0..400_003u32).map(|_| u8::try_from(dice.below(256)).unwrap()).collect()
}

async fn assert_held(to: SocketAddr) {
    let (status, body) = call(to, "GET", &format!("/v2/images/{ID}/file"), "", b"").await;
    assert!(status == 200 && body == bytes(), "status {status}, {} bytes", body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_is_there_after_a_stop_and_after_a_sudden_end() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    upload(address, &bytes()).await;
    node.stop().await;
    let (node, address) = start(dir.path()).await.unwrap();
    assert_held(address).await;
    drop(node); // no drain, no sync: as much of a kill as one process allows
    let (node, address) = start_when_released(dir.path()).await;
    assert_held(address).await;
    node.stop().await;
}

/// A node dropped mid-work lets go of its databases when the last blocking read has ended.
async fn start_when_released(dir: &Path) -> (Node, SocketAddr) {
    for _ in 0..200 {
        match start(dir).await {
            Ok(started) => return started,
            Err(error) => assert!(error.contains("lock") || error.contains("in use"), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the dropped node never let go of its data directory");
}

#[tokio::test]
async fn a_second_node_on_one_directory_and_a_taken_port_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    let refused = start(dir.path()).await.err().unwrap();
    assert!(refused.contains("in use by another node"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    let mut taken = settings(other.path());
    taken.api.listen = address;
    let refused = Surroundings::of_this_machine(&taken).await.err().unwrap();
    assert!(matches!(refused, MachineError::Listen { listen, .. } if listen == address));
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0, "a refused start leaves nothing behind");
    node.stop().await;
}

/// A stopped node that holds one image.
async fn stopped_with_an_image() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    upload(address, &bytes()).await;
    node.stop().await;
    dir
}

fn the_pack(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("packs")).unwrap().next().unwrap().unwrap().path()
}

/// F-D6, I-D2, I-D8: a chunk that rotted is an error on the wire, never a shorter or a wrong image.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_chunk_breaks_the_download_visibly() {
    let dir = stopped_with_an_image().await;
    let pack = the_pack(dir.path());
    let mut rotten = fs::read(&pack).unwrap();
    rotten[200_000] ^= 1;
    fs::write(&pack, rotten).unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /v2/images/{ID}/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _cut_off_is_an_error_or_an_early_end = stream.read_to_end(&mut answer).await;
    let ok = answer.starts_with(b"HTTP/1.1 200");
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    assert!(!ok || answer.len() - split < bytes().len(), "the announced length must not be reached");
    assert!(!ok || bytes().starts_with(&answer[split..]), "what was sent before is right");
    node.stop().await;
}

/// F-D10, I-S3: a pack whose end is damaged stops the start, and the message names the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_table_stops_the_start_and_names_the_file() {
    let dir = stopped_with_an_image().await;
    let pack = the_pack(dir.path());
    let mut damaged = fs::read(&pack).unwrap();
    let near_the_end = damaged.len() - 100;
    damaged[near_the_end] ^= 1;
    fs::write(&pack, damaged).unwrap();
    let refused = start(dir.path()).await.err().unwrap();
    assert!(refused.contains(pack.file_name().unwrap().to_str().unwrap()), "{refused}");
}

/// F-D10: without its log a node cannot know what it acknowledged, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_log_stops_the_start() {
    let dir = stopped_with_an_image().await;
    fs::remove_dir_all(dir.path().join("raft/log")).unwrap();
    let refused = start(dir.path()).await.err().unwrap();
    assert!(refused.contains("the Raft log is empty"), "{refused}");
}

/// The index is derived: without it everything is still there.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_index_is_rebuilt() {
    let dir = stopped_with_an_image().await;
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    assert_held(address).await;
    node.stop().await;
}

/// F-D11: without records every byte would look like garbage, and reclaim would take it.
#[tokio::test(flavor = "multi_thread")]
async fn packs_without_records_stop_the_start_and_are_left_alone() {
    let dir = stopped_with_an_image().await;
    let pack = fs::read(the_pack(dir.path())).unwrap();
    fs::rename(dir.path().join("raft"), dir.path().join("elsewhere")).unwrap();
    let refused = start(dir.path()).await.err().unwrap();
    assert!(refused.contains("the records of these images are gone"), "{refused}");
    assert_eq!(fs::read(the_pack(dir.path())).unwrap(), pack);
    fs::remove_dir_all(dir.path().join("raft")).unwrap();
    fs::rename(dir.path().join("elsewhere"), dir.path().join("raft")).unwrap();
    let (node, address) = start(dir.path()).await.unwrap();
    assert_held(address).await;
    node.stop().await;
}

/// F-D8: a node whose records find no room ends, and its clients learn at once that it does: the door is shut,
/// and no unfinished upload holds it open for the drain time. A write it acknowledged is in the log, and is there
/// once there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_catalog_finds_no_room_closes_its_door() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.api.drain_timeout_s = 60;
    let mut surroundings = Surroundings::of_this_machine(&settings).await.unwrap();
    let address = surroundings.api_listener.local_addr().unwrap();
    let full = full::Full::over(surroundings.disk.state.clone());
    surroundings.disk.state = full.clone();
    let node = assemble(&settings, surroundings).await.unwrap();
    upload(address, &bytes()).await;
    let slow = "0a0a0a0a-0000-4000-8000-000000000002";
    let record = format!(r#"{{"id":"{slow}","disk_format":"raw","container_format":"bare"}}"#);
    assert_eq!(call(address, "POST", "/v2/images", "application/json", record.as_bytes()).await.0, 201);
    let mut unfinished = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PUT /v2/images/{slow}/file HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 9\r\n\r\n"
    );
    unfinished.write_all(head.as_bytes()).await.unwrap();
    full.fill();
    let record = br#"{"name":"late","disk_format":"raw","container_format":"bare"}"#;
    let begun = tokio::time::Instant::now();
    let status = call(address, "POST", "/v2/images", "application/json", record).await.0;
    assert!(matches!(status, 201 | 503), "{status}");
    let acknowledged = status == 201;
    assert!(matches!(node.failed().await, peerglass::NodeFailure::Consensus(_)));
    assert_eq!(call(address, "GET", "/v2/images", "", b"").await.0, 503);
    node.give_up().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
    drop(full);
    let (node, address) = start_when_released(dir.path()).await;
    let (status, named) = call(address, "GET", "/v2/images?name=late", "", b"").await;
    assert_eq!(status, 200);
    assert!(!acknowledged || String::from_utf8_lossy(&named).contains(r#""name":"late""#));
    node.stop().await;
}

mod full {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use peerglass_catalog::Fault;
    use peerglass_catalog::keyspace::{Batch, BoxFuture, Direction, Entries, KeyRange, Keyspace, Read};

    /// A database whose disk runs full when it is told to.
    pub(crate) struct Full {
        inner: Arc<dyn Keyspace>,
        full: AtomicBool,
    }

    impl Full {
        pub(crate) fn over(inner: Arc<dyn Keyspace>) -> Arc<Self> {
            Arc::new(Self { inner, full: AtomicBool::new(false) })
        }

        pub(crate) fn fill(&self) {
            self.full.store(true, Ordering::SeqCst);
        }
    }

    impl Read for Full {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
            self.inner.get(key)
        }
        fn scan(&self, range: KeyRange, direction: Direction) -> Entries<'_> {
            self.inner.scan(range, direction)
        }
    }

    impl Keyspace for Full {
        fn view(&self, look: &mut dyn FnMut(&dyn Read)) {
            self.inner.view(look);
        }
        fn write(&self, batch: Batch) -> Result<(), Fault> {
            if self.full.load(Ordering::SeqCst) {
                return Err(Fault::Io(io::ErrorKind::StorageFull.into()));
            }
            self.inner.write(batch)
        }
        fn sync(&self) -> BoxFuture<'_, Result<(), Fault>> {
            self.inner.sync()
        }
    }
}
