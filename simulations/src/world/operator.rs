//! The people who run the cluster: they let nodes in, and change who votes while it is under load.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::berth::Berth;
use crate::dice::Dice;
use crate::invariants::agreed;
use crate::network::{Answer, Wire};
use crate::workload::{Scene, document, json_request};

/// How long an operator waits for an answer: a change of the membership may take a while.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often it looks whether a node stands outside.
const LOOK_MS: u64 = 150;
const LOOK: Duration = Duration::from_millis(LOOK_MS);
/// How long a cluster may take to form while nothing fails.
const FORMED_S: u64 = 40;

/// One operator.
pub(super) struct Operator {
    name: String,
    scene: Scene,
    berths: Vec<Berth>,
    dice: Dice,
    wire: Wire,
    /// Not while a disk is going to be lost: the last voter must not be the one who loses it.
    may_demote: bool,
}

impl Operator {
    pub(super) fn new(name: &str, scene: Scene, berths: Vec<Berth>, may_demote: bool) -> Self {
        let dice = Dice::new(scene.seed, name);
        let wire = Wire::new(0, scene.crashes.clone());
        Self { name: name.to_owned(), scene, berths, dice, wire, may_demote }
    }

    /// Bring every node into the cluster. Ends when all have started and as many vote as are wanted.
    pub(super) async fn form(mut self, voters: u32) {
        for _ in 0..FORMED_S * 1_000 / LOOK_MS {
            self.let_in().await;
            let ready = self.berths.iter().all(Berth::is_ready);
            let agreed = self.berths.iter().all(|berth| {
                berth
                    .standing()
                    .is_some_and(|(_, it)| it.voters.len() == voters as usize && it.leader.is_some())
            });
            if ready && agreed {
                return;
            }
            sleep(LOOK).await;
        }
        let standings: Vec<_> = self.berths.iter().map(|berth| berth.standing().map(|(_, it)| it)).collect();
        self.scene.chronicle.violate(agreed::unformed(&standings, voters, FORMED_S));
    }

    /// Let in whoever stands outside, until the run ends.
    pub(super) async fn mind_the_door(mut self) {
        loop {
            self.let_in().await;
            sleep(LOOK).await;
        }
    }

    /// Do `changes` things to the membership.
    pub(super) async fn meddle(mut self, changes: u64) {
        for _ in 0..changes {
            if self.scene.chronicle.is_violated() {
                return;
            }
            self.change().await;
            sleep(Duration::from_millis(self.dice.between(50, 3_000))).await;
        }
    }

    async fn let_in(&mut self) {
        for node in 0..self.berths.len() {
            if let Some(id) = self.berths[node].must_be_removed() {
                self.remove(node, id).await;
            }
            if !self.berths[node].wants_token() {
                continue;
            }
            let wanted = json!({"role": "voter", "expires_s": 3_600});
            let answer = self.ask(Method::POST, "/v2/cluster/tokens", Some(wanted)).await;
            let token = document(&answer).and_then(|answer| answer["token"].as_str().map(str::to_owned));
            if let Some(token) = token {
                self.berths[node].give_token(token);
            }
        }
    }

    /// Remove the member `id` and take its machine's disks away (F-C3).
    async fn remove(&mut self, node: usize, id: u64) {
        let answer = self.ask(Method::DELETE, &format!("/v2/cluster/members/{id}"), None).await;
        if matches!(answer, Answer::Whole { status: 200..300 | 404, .. }) {
            self.scene.chronicle.count("F-C3 node removed, wiped and let in again");
            self.berths[node].retire();
        }
    }

    async fn change(&mut self) {
        let answer = self.ask(Method::GET, "/v2/cluster", None).await;
        let Some(status) = document(&answer) else { return };
        let members: Vec<Value> = status["status"]["members"].as_array().cloned().unwrap_or_default();
        if members.is_empty() {
            return;
        }
        let member = self.dice.pick(&members).clone();
        let Some(node) = member["node"].as_str() else { return };
        let action = *self.dice.pick(if self.may_demote {
            &["promote", "demote", "transfer-leader", "transfer-leader"]
        } else {
            &["promote", "transfer-leader", "transfer-leader", "transfer-leader"]
        });
        let path = format!("/v2/cluster/members/{node}/{action}");
        let answer = self.ask(Method::POST, &path, None).await;
        self.scene.chronicle.count(match (action, &answer) {
            ("promote", Answer::Whole { status: 200..300, .. }) => "F-C2 voter promoted",
            ("demote", Answer::Whole { status: 200..300, .. }) => "F-C2 voter demoted",
            (_, Answer::Whole { status: 200..300, .. }) => "F-C1 leadership transferred",
            (_, Answer::Whole { status: 409, .. }) => "F-C4 change refused while another was under way",
            _ => "F-C4 change of the membership without a clear end",
        });
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let event = format!("{}: {method} {path}", self.wire.node());
        let answer = self.wire.ask(json_request(method, path, body), PATIENCE).await;
        match &answer {
            Answer::Whole { status, .. } => {
                self.scene.chronicle.note(&self.name, format_args!("{event} -> {status}"));
            }
            Answer::Broken { why, .. } => {
                self.scene.chronicle.note(&self.name, format_args!("{event} -> {why}"));
            }
        }
        if !matches!(answer, Answer::Whole { status: 0..500, .. }) {
            self.wire.turn_to(self.dice.index(self.berths.len()));
        }
        answer
    }
}
