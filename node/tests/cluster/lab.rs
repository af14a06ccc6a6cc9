//! A few nodes in this process, each with a directory and two ports of its own.

mod acting;
mod disks;
mod waiting;

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use peerglass::{Node, NodeKey, Search, Settings, Surroundings, assemble, join};
use peerglass_consensus::{ConsensusDisk, Recovery};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub(crate) use acting::{port_of, socket};

/// How long anything may take that has to come about by itself.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Lab {
    places: Vec<Place>,
    tune: fn(&mut Settings),
}

struct Place {
    dir: TempDir,
    settings: Settings,
    node: Option<Node>,
    api: SocketAddr,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// Not a pattern that compresses or repeats.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut dice = peerglass_catalog::testing::Dice(seed);
    (0..len.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes()).take(len).collect()
}

/// Free for UDP and for TCP.
#[allow(clippy::disallowed_methods, reason = "a test is its own surroundings")]
fn free_port() -> u16 {
    loop {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if std::net::TcpListener::bind(udp).is_ok() {
            return udp.port();
        }
    }
}

impl Lab {
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, |_| {}).await
    }

    pub(crate) async fn start_with(nodes: usize, tune: fn(&mut Settings)) -> Self {
        super::log::listen();
        let mut lab = Self { places: Vec::new(), tune };
        let first = lab.new_place();
        lab.restart(first).await;
        for _ in 1..nodes {
            lab.join(0, "{}").await;
        }
        lab
    }

    fn new_place(&mut self) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.api.listen = "127.0.0.1:0".parse().unwrap();
        settings.storage.data_dir = dir.path().to_owned();
        settings.cluster.listen = format!("127.0.0.1:{}", free_port());
        (self.tune)(&mut settings);
        let api = settings.api.listen;
        self.places.push(Place { dir, settings, node: None, api });
        self.places.len() - 1
    }

    /// Let a new node in through node `at`, and start it.
    pub(crate) async fn join(&mut self, at: usize, wish: &str) -> usize {
        let token = self.token(at, wish).await;
        let node = self.join_with(&token).await.unwrap();
        self.get_patiently(node, "/v2/images").await;
        node
    }

    pub(crate) async fn join_with(&mut self, token: &str) -> Result<usize, String> {
        let place = self.new_place();
        let joined = self.rejoin(place, token).await;
        if joined.is_err() {
            self.places.pop();
        }
        joined?;
        self.restart(place).await;
        Ok(place)
    }

    /// Use `token` on the directory of a node, which is stopped if it runs.
    pub(crate) async fn rejoin(&mut self, place: usize, token: &str) -> Result<(), String> {
        self.stop_node(place).await;
        let settings = self.places[place].settings.clone();
        let surroundings = surroundings(&settings).await;
        join(&settings, &surroundings, token, Search::Named)
            .await
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    pub(crate) async fn restart(&mut self, node: usize) {
        let settings = self.places[node].settings.clone();
        let surroundings = surroundings(&settings).await;
        let place = &mut self.places[node];
        place.api = surroundings.api_listener.local_addr().unwrap();
        place.node = Some(assemble(&settings, surroundings).await.unwrap());
    }

    /// Start it, and wait for it to give up by itself.
    pub(crate) async fn restart_until_failure(&mut self, node: usize) -> String {
        self.restart(node).await;
        let running = self.places[node].node.take().unwrap();
        let failure = tokio::time::timeout(PATIENCE, running.failed()).await.unwrap();
        running.stop().await;
        failure.to_string()
    }

    pub(crate) async fn restart_cleanly(&mut self, node: usize) {
        self.stop_node(node).await;
        self.restart(node).await;
    }

    pub(crate) async fn recover(&mut self, node: usize, confirmed: bool) -> Recovery {
        let surroundings = surroundings(&self.places[node].settings).await;
        let disk = ConsensusDisk { log: surroundings.disk.log, state: surroundings.disk.state };
        peerglass_consensus::recover(&disk, confirmed).await.unwrap()
    }

    pub(crate) async fn stop_node(&mut self, node: usize) {
        if let Some(node) = self.places[node].node.take() {
            node.stop().await;
        }
    }

    /// As much of a kill as one process allows: no hand-over, no drain. Raft is ended by name, because
    /// what a request still holds would keep it leading.
    pub(crate) async fn kill(&mut self, node: usize) {
        if let Some(node) = self.places[node].node.take() {
            node.consensus().stop().await;
        }
    }

    pub(crate) async fn stop(mut self) {
        for node in 0..self.places.len() {
            self.stop_node(node).await;
        }
    }

    pub(crate) fn key(&self, node: usize) -> NodeKey {
        NodeKey::load_or_create(&self.places[node].dir.path().join("node.key"), [0; 32]).unwrap()
    }

    /// Give a stopped node another peer port.
    pub(crate) fn move_node(&mut self, node: usize) {
        self.places[node].settings.cluster.listen = format!("127.0.0.1:{}", free_port());
    }

    /// Whether a running node might have been started without its peer port.
    pub(crate) fn may_be_without_port(&self, node: usize) -> bool {
        let Place { settings, node, .. } = &self.places[node];
        let mut settings = settings.clone();
        settings.cluster.listen.clear();
        peerglass::cluster::check_reachable(&settings, node.as_ref().unwrap().consensus()).is_ok()
    }

    /// Say where a stopped node is.
    pub(crate) fn place_node(&mut self, node: usize, site: &str) {
        self.places[node].settings.cluster.site = site.to_owned();
    }

    pub(crate) fn give_ports_to_new_nodes(&mut self) {
        self.tune = |_| {};
    }

    pub(crate) fn peer_address(&self, node: usize) -> SocketAddr {
        self.places[node].settings.cluster.listen.parse().unwrap()
    }

    pub(crate) async fn call(
        &self,
        node: usize,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Answer {
        let kind = if method == "POST" { "application/json" } else { "application/octet-stream" };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        if !body.is_empty() {
            head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        headers.iter().for_each(|header| head += &format!("{header}\r\n"));
        let mut stream = TcpStream::connect(self.places[node].api).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..split].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: answer[split + 4..].to_vec() }
    }

    pub(crate) async fn get(&self, node: usize, path: &str) -> (u16, Vec<u8>) {
        let answer = self.call(node, "GET", path, &[], b"").await;
        (answer.status, answer.body)
    }

    /// The body of the first 200, however long it takes within [`PATIENCE`].
    pub(crate) async fn get_patiently(&self, node: usize, path: &str) -> Vec<u8> {
        let began = Instant::now();
        loop {
            let (status, body) = self.get(node, path).await;
            if status == 200 {
                return body;
            }
            if began.elapsed() > PATIENCE {
                panic!("node {node} answers {status} to {path}; it sees {}", self.status(node).await);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn put(&self, node: usize, path: &str, body: &[u8]) -> u16 {
        self.call(node, "PUT", path, &[], body).await.status
    }

    pub(crate) async fn create(&self, node: usize, name: &str) -> String {
        let record = format!(r#"{{"name":"{name}","disk_format":"raw","container_format":"bare"}}"#);
        let answer = self.call(node, "POST", "/v2/images", &[], record.as_bytes()).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        json(&answer.body)["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn token(&self, node: usize, wish: &str) -> String {
        let answer = self.call(node, "POST", "/v2/cluster/tokens", &[], wish.as_bytes()).await;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        json(&answer.body)["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn status(&self, node: usize) -> Value {
        json(&self.get(node, "/v2/cluster").await.1)["status"].clone()
    }

    pub(crate) async fn manage(&self, node: usize, method: &str, what: &str) -> u16 {
        self.call(node, method, &format!("/v2/cluster/members/{what}"), &[], b"").await.status
    }

    /// Which node leads, once somebody does.
    pub(crate) async fn leader(&self) -> usize {
        let began = Instant::now();
        loop {
            for (at, place) in self.places.iter().enumerate() {
                if place.node.as_ref().is_some_and(|node| node.consensus().is_leader()) {
                    return at;
                }
            }
            assert!(began.elapsed() < PATIENCE, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A killed node lets go of its directory and its ports when its last blocking call has ended.
async fn surroundings(settings: &Settings) -> Surroundings<peerglass::ApiPort> {
    let began = Instant::now();
    loop {
        match Surroundings::of_this_machine(settings).await {
            Ok(surroundings) => return surroundings,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}
