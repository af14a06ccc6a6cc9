//! The program and the signals that operators send it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use peerglass::{NodeKey, PeerPort, PortChance, Purpose};
use quinn::{ConnectionError, Runtime, TokioRuntime};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A user "alice" whose password is "one", and the same with "two".
const ONE: &str = "alice:$2b$04$abcdefghijklmnopqrstuuuiMd1XkP3MYkehzxpPHB6m5Tr0FZSYG\n";
const TWO: &str = "alice:$2b$04$abcdefghijklmnopqrstuuIHDRnKw4Zdb/3/EAZQMg/2vwJPJBL7u\n";
const ALICE_ONE: &str = "YWxpY2U6b25l";
const ALICE_TWO: &str = "YWxpY2U6dHdv";

/// The program at work. Killed when dropped.
struct Program {
    child: Child,
    address: String,
    dir: Rc<TempDir>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    fn start(users: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("users"), users).unwrap();
        Self::start_in(Rc::new(dir), &[])
    }

    /// Kill it, which leaves it no time for anything, and start it anew.
    fn start_again(self, more: &[&str]) -> Self {
        let dir = Rc::clone(&self.dir);
        drop(self);
        Self::start_in(dir, more)
    }

    fn start_in(dir: Rc<TempDir>, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_peerglass"))
            .env_clear()
            .args(["serve", "--listen", "127.0.0.1:0", "--auth", "http-basic"])
            .args([Path::new("--data-dir"), &dir.path().join("data")])
            .args([Path::new("--htpasswd"), &dir.path().join("users")])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let address =
            ready.split_once("http://").expect("a ready line").1.split_once(',').unwrap().0.to_owned();
        Self { child, address, dir }
    }

    fn users(&self) -> PathBuf {
        self.dir.path().join("users")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// The status of a list of images, asked for with these credentials.
    fn list(&self, credentials: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "GET /v2/images HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic";
        stream.write_all(format!("{head} {credentials}\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    }
}

#[allow(clippy::disallowed_methods, reason = "another process has a clock of its own")]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within ten seconds: {what}");
}

/// A password that was changed is the only one at once; a file that is broken or gone locks nobody out.
#[test]
fn hangup_reads_the_users_again_and_ends_nothing() {
    let mut program = Program::start(ONE);
    assert_eq!((program.list(ALICE_ONE), program.list(ALICE_TWO)), ("200".to_owned(), "401".to_owned()));
    fs::write(program.users(), TWO).unwrap();
    program.signal(Signal::HUP);
    until("the new password is taken", || program.list(ALICE_TWO) == "200");
    assert_eq!(program.list(ALICE_ONE), "401", "it was remembered");
    until("the log says so", || program.log().contains("the users were read again"));
    fs::write(program.users(), "alice:plain\n").unwrap();
    program.signal(Signal::HUP);
    until("the log names the line", || program.log().contains("users:1: "));
    fs::remove_file(program.users()).unwrap();
    program.signal(Signal::HUP);
    until("the log names the file", || program.log().contains("cannot read "));
    assert_eq!(program.list(ALICE_TWO), "200");
    program.signal(Signal::TERM);
    program.signal(Signal::HUP);
    let mut ended = None;
    until("it stops", || {
        ended = program.child.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success(), "{}", program.log());
}

/// Its peers learn of a restart from the first packet that the new start gets of the old connection, and not by
/// waiting until the silence is long enough: the keys for that come from the node's own.
#[tokio::test(flavor = "multi_thread")]
async fn peers_learn_of_a_restart_from_its_first_answer() {
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = socket().local_addr().unwrap();
    let peer_listen = ["--peer-listen", &at.to_string()];
    // A directory without a cluster opens no port, so the first start makes one.
    let mut program = Program::start(ONE).start_again(&peer_listen);
    let key = NodeKey::load_or_create(&program.dir.path().join("data/node.key"), [0; 32]).unwrap();
    let port = TokioRuntime.wrap_udp_socket(socket()).unwrap();
    let port = PeerPort::new(&NodeKey::from_seed([5; 32]), port, PortChance::System).unwrap();
    loop {
        let connection = port.dial(key.peer_key(), at, Purpose::Join).await.unwrap();
        // Until the other end has confirmed the handshake, what is sent again belongs to it, and no reset answers that.
        let mut begun = connection.open_bi().await.unwrap();
        begun.0.write_all(&[0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = tokio::time::Instant::now();
        program = program.start_again(&peer_listen);
        let took = began.elapsed();
        let closed = connection.closed().await;
        if closed == ConnectionError::Reset {
            return;
        }
        // Three seconds of silence end a connection, whoever is there afterwards.
        let was_slow = took > Duration::from_secs(1) && closed == ConnectionError::TimedOut;
        assert!(was_slow, "{closed} after a restart of {took:?}");
    }
}

/// What cannot be meant is said in one line, and nothing is begun.
#[test]
fn settings_that_cannot_be_meant_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("settings");
    fs::write(&config, "[api]\nconnections_per_address_max = 0\n").unwrap();
    let said_by = |command: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_peerglass"))
            .env_clear()
            .current_dir(dir.path())
            .args(command)
            .args([Path::new("--config"), &config])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(1));
        String::from_utf8(done.stderr).unwrap()
    };
    for command in [&["config", "check"][..], &["serve"]] {
        let said = said_by(command);
        assert_eq!(said, "peerglass: api.connections_per_address_max must be at least 1\n");
    }
    fs::write(&config, "[auth]\nmode = \"http-basic\"\nhtpasswd = \"no-such-file\"\n").unwrap();
    assert!(said_by(&["config", "check"]).starts_with("peerglass: cannot read no-such-file: "));
    fs::write(&config, "[storage]\ndata_dir = \"\"\n").unwrap();
    assert!(said_by(&["config", "check"]).starts_with("peerglass: storage.data_dir must be a folder"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the settings");
}
