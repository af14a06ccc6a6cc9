//! One client: it sends requests, and tells the oracle what it asked and what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request};
use serde_json::Value;
use tokio::time::sleep;

use super::observed::{Observed, PROPERTY_PREFIX};
use super::request;
use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::network::{Answer, Crashes, RequestBody, Wire};
use crate::oracle::state::{Change, Life, Op, Record};
use crate::oracle::{Asked, Ending, Oracle};

/// How long a client waits for an answer without image bytes.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long it waits for an upload or a download.
pub(super) const PATIENCE_FOR_BYTES: Duration = Duration::from_secs(30);
/// Words for tags and names: few, so that they meet again.
const WORDS: [&str; 6] = ["ubuntu", "debian", "golden", "test", "arm64", "x86"];

/// What all clients of a run share.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) chronicle: Chronicle,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// How often their machines crashed so far.
    pub(crate) crashes: Crashes,
}

impl Scene {
    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a download came to.
#[derive(Debug)]
pub(crate) enum Downloaded {
    /// Complete; the oracle compared every byte.
    Whole,
    /// There was nothing to download.
    Nothing,
    /// It failed; the text says how.
    Failed(String),
}

/// One client with a connection or two.
///
/// It asks one node as long as that answers, and then another.
pub(crate) struct Client {
    pub(super) name: String,
    pub(super) dice: Dice,
    pub(super) scene: Scene,
    pub(super) wire: Wire,
    /// Whether it turns to another node when its own does not answer.
    roams: bool,
    created: u64,
}

impl Client {
    pub(crate) fn new(name: &str, scene: Scene) -> Self {
        let mut dice = Dice::new(scene.seed, name);
        let home = dice.index(scene.nodes);
        let wire = Wire::new(home, scene.crashes.clone());
        Self { name: name.to_owned(), dice, scene, wire, roams: true, created: 0 }
    }

    /// Ask `node` from now on, whatever it answers.
    pub(crate) fn stay_at(&mut self, node: usize) {
        self.roams = false;
        self.wire.turn_to(node);
    }

    /// Do `actions` things, one after the other.
    pub(crate) async fn work(mut self, actions: u64) {
        for _ in 0..actions {
            if self.scene.chronicle.is_violated() {
                return;
            }
            self.act().await;
            if self.dice.chance(200) {
                self.wire.hang_up();
            }
            sleep(Duration::from_millis(self.dice.magnitude(8))).await;
        }
    }

    async fn act(&mut self) {
        let Some(image) = self.choose() else {
            self.create().await;
            return;
        };
        match self.dice.below(100) {
            0..18 => drop(self.create().await),
            18..42 => self.upload(&image).await,
            42..46 => self.race(&image).await,
            46..55 => self.patch(&image).await,
            55..60 => self.add_tag(&image).await,
            60..63 => self.remove_tag(&image).await,
            63..70 => drop(self.show(&image).await),
            70..80 => drop(self.download(&image).await),
            80..86 => self.download_range(&image).await,
            86..89 => drop(self.list().await),
            89..92 => self.switch(&image, "deactivate", Op::Deactivate).await,
            92..95 => self.switch(&image, "reactivate", Op::Reactivate).await,
            _ => drop(self.delete(&image).await),
        }
    }

    /// An image to do something with: mostly one that may exist, sometimes any that ever did.
    fn choose(&mut self) -> Option<String> {
        let ids =
            if self.dice.chance(950) { self.scene.oracle().ids_here() } else { self.scene.oracle().ids() };
        // Prefer the young: their uploads are still to come.
        (!ids.is_empty()).then(|| self.dice.pick(&ids).clone())
    }

    pub(super) async fn ask(
        &mut self,
        what: &str,
        request: Request<RequestBody>,
        patience: Duration,
    ) -> Answer {
        let answer = self.wire.ask(request, patience).await;
        self.note(what, &answer);
        self.roam(&answer);
        answer
    }

    /// Turn to another node when this one could not help.
    pub(super) fn roam(&mut self, answer: &Answer) {
        let helped = matches!(answer, Answer::Whole { status: 0..500, .. });
        if !helped && self.roams && self.scene.nodes > 1 {
            let others = (0..self.scene.nodes).filter(|node| *node != self.wire.node());
            let others: Vec<usize> = others.collect();
            self.wire.turn_to(*self.dice.pick(&others));
            self.scene.chronicle.count("client turned to another node");
        }
    }

    pub(super) fn note(&self, what: &str, answer: &Answer) {
        let chronicle = &self.scene.chronicle;
        let what = &format!("{}: {what}", self.wire.node());
        match answer {
            Answer::Whole { status, body, .. } => {
                chronicle
                    .note(&self.name, format_args!("{what} -> {status}, {} {}", body.len(), short(body)));
            }
            Answer::Broken { status, received, why } => {
                let received = received.len();
                chronicle.note(&self.name, format_args!("{what} -> {why}, {status:?} and {received} bytes"));
            }
        }
    }

    pub(super) fn end(&self, asked: Asked, answer: &Answer) -> Ending {
        let ending = ending(answer);
        self.scene.oracle().answer(asked, ending);
        ending
    }

    /// `POST`, with an id of the client's or without. Answers with the new image's id.
    pub(crate) async fn create(&mut self) -> Option<String> {
        self.created += 1;
        let record = Record {
            life: Life::Queued,
            content: None,
            name: format!("{}-{}", self.name, self.created),
            min_ram: self.dice.below(4),
            tags: self.tags(),
            properties: BTreeMap::from([(format!("{PROPERTY_PREFIX}a"), self.word())]),
        };
        match self.dice.below(20) {
            // An id that is or was taken: the answer must be 409.
            0 => {
                let taken = self.choose()?;
                self.create_as(taken, record).await
            }
            1..11 => {
                let id = self.new_id();
                self.create_as(id, record).await
            }
            _ => self.create_nameless(record).await,
        }
    }

    async fn create_as(&mut self, id: String, record: Record) -> Option<String> {
        let asked = self.scene.oracle().ask(&id, "POST", Op::Create(record.clone()));
        let answer = self.ask(&format!("POST {id}"), request::create(Some(&id), &record), PATIENCE).await;
        let done = self.end(asked, &answer) == Ending::Done;
        if done {
            self.scene.oracle().named(&id);
        }
        done.then_some(id)
    }

    async fn create_nameless(&mut self, record: Record) -> Option<String> {
        self.scene.oracle().ask_nameless(&record);
        let what = format!("POST {}", record.name);
        let answer = self.ask(&what, request::create(None, &record), PATIENCE).await;
        match ending(&answer) {
            Ending::Done => {
                let observed = document(&answer).as_ref().and_then(Observed::parse)?;
                self.scene.oracle().answer_nameless(&record, &observed.id);
                Some(observed.id)
            }
            Ending::Refused(_) | Ending::NoRoom => {
                self.scene.oracle().never_nameless(&record);
                None
            }
            Ending::Unknown => None,
        }
    }

    async fn patch(&mut self, image: &str) {
        let mut changes = Vec::new();
        for _ in 0..self.dice.between(1, 3) {
            let property = format!("{PROPERTY_PREFIX}{}", self.dice.pick(&["a", "b", "c"]));
            changes.push(match self.dice.below(6) {
                0 => Change::Name(self.word()),
                1 => Change::MinRam(self.dice.below(1_000)),
                2 => Change::Tags(self.tags()),
                3 => Change::RemoveProperty(property),
                _ => Change::SetProperty(property, self.dice.below(1_000).to_string()),
            });
        }
        let request = request::patch(&path(image), &changes);
        self.change(image, "PATCH", Op::Patch(changes), request).await;
    }

    async fn add_tag(&mut self, image: &str) {
        let tag = self.word();
        let request = request::bare(Method::PUT, &format!("{}/tags/{tag}", path(image)));
        self.change(image, "PUT tag", Op::AddTag(tag), request).await;
    }

    async fn remove_tag(&mut self, image: &str) {
        let tag = self.word();
        let request = request::bare(Method::DELETE, &format!("{}/tags/{tag}", path(image)));
        self.change(image, "DELETE tag", Op::RemoveTag(tag), request).await;
    }

    async fn switch(&mut self, image: &str, action: &'static str, op: Op) {
        let request = request::bare(Method::POST, &format!("{}/actions/{action}", path(image)));
        self.change(image, action, op, request).await;
    }

    /// `DELETE`.
    pub(crate) async fn delete(&mut self, image: &str) -> Ending {
        self.change(image, "DELETE", Op::Delete, request::bare(Method::DELETE, &path(image))).await
    }

    async fn change(
        &mut self,
        image: &str,
        what: &'static str,
        op: Op,
        request: Request<RequestBody>,
    ) -> Ending {
        let event = format!("{what} {image} {op:?}");
        let asked = self.scene.oracle().ask(image, what, op);
        let answer = self.ask(&event, request, PATIENCE).await;
        self.end(asked, &answer)
    }

    /// `GET`. Answers with the record, if there was one.
    pub(crate) async fn show(&mut self, image: &str) -> Option<Observed> {
        let reading = self.scene.oracle().read(image)?;
        let request = request::bare(Method::GET, &path(image));
        let answer = self.ask(&format!("GET {image}"), request, PATIENCE).await;
        match ending(&answer) {
            Ending::Done => {
                let observed = document(&answer).as_ref().and_then(Observed::parse)?;
                self.scene.oracle().saw(&reading, &observed);
                Some(observed)
            }
            Ending::Refused(404) => {
                self.scene.oracle().saw_nothing(&reading);
                None
            }
            Ending::Refused(_) | Ending::NoRoom | Ending::Unknown => None,
        }
    }

    /// `GET` the whole image.
    pub(crate) async fn download(&mut self, image: &str) -> Downloaded {
        let request = request::bare(Method::GET, &format!("{}/file", path(image)));
        self.fetch(image, request, |size| Some(0..size)).await
    }

    async fn download_range(&mut self, image: &str) {
        let (first, len) = (self.dice.magnitude(20) - 1, self.dice.magnitude(19));
        let request = request::range(&format!("{}/file", path(image)), first, first + len - 1);
        let (first, len) = (usize::try_from(first).unwrap_or(0), usize::try_from(len).unwrap_or(0));
        self.fetch(image, request, move |size| (first < size).then(|| first..size.min(first + len))).await;
    }

    async fn fetch(
        &mut self,
        image: &str,
        request: Request<RequestBody>,
        range: impl Fn(usize) -> Option<Range<usize>>,
    ) -> Downloaded {
        let Some(reading) = self.scene.oracle().read(image) else { return Downloaded::Nothing };
        let answer = self.ask(&format!("GET file {image}"), request, PATIENCE_FOR_BYTES).await;
        let mut oracle = self.scene.oracle();
        match answer {
            Answer::Whole { status: 200 | 206, headers, body } => {
                oracle.saw_bytes(&reading, range, &headers, &body);
                return Downloaded::Whole;
            }
            Answer::Whole { status: 204, .. } => oracle.saw_no_bytes(&reading),
            Answer::Whole { status: 404, .. } => oracle.saw_nothing(&reading),
            Answer::Whole { status: 416, .. } => oracle.saw_no_range(&reading, range),
            Answer::Whole { status, .. } => return Downloaded::Failed(format!("status {status}")),
            Answer::Broken { status, received, why } => {
                if matches!(status, Some(200 | 206)) {
                    oracle.saw_part(&reading, range, &received);
                }
                return Downloaded::Failed(format!("{why} after {} bytes", received.len()));
            }
        }
        Downloaded::Nothing
    }

    /// `GET` every page of the list. Answers with the records, if the scan got to its end.
    pub(crate) async fn list(&mut self) -> Option<Vec<Observed>> {
        let readings = self.scene.oracle().read_all();
        let mut found = Vec::new();
        let mut next = format!("/v2/images?limit={}", self.dice.between(1, 7));
        loop {
            let answer = self.ask(&format!("GET {next}"), request::bare(Method::GET, &next), PATIENCE).await;
            if ending(&answer) != Ending::Done {
                return None;
            }
            let page = document(&answer)?;
            found.extend(page["images"].as_array()?.iter().filter_map(Observed::parse));
            match page["next"].as_str() {
                Some(link) => link.clone_into(&mut next),
                None => break,
            }
        }
        self.scene.oracle().saw_all(&readings, &found);
        Some(found)
    }

    fn word(&mut self) -> String {
        (*self.dice.pick(&WORDS)).to_owned()
    }

    fn tags(&mut self) -> BTreeSet<String> {
        (0..self.dice.below(3)).map(|_| self.word()).collect()
    }

    fn new_id(&mut self) -> String {
        let (high, low) = (self.dice.number(), self.dice.number());
        let (time, mid, version) = (high >> 32, (high >> 16) & 0xffff, high & 0xfff);
        let (variant, node) = ((low >> 48) & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
        format!("{time:08x}-{mid:04x}-4{version:03x}-{variant:04x}-{node:012x}")
    }
}

pub(super) fn path(image: &str) -> String {
    format!("/v2/images/{image}")
}

fn ending(answer: &Answer) -> Ending {
    match answer {
        Answer::Whole { status: 200..300, .. } => Ending::Done,
        Answer::Whole { status: 413, .. } => Ending::NoRoom,
        Answer::Whole { status: status @ 400..500, .. } => Ending::Refused(*status),
        Answer::Whole { .. } | Answer::Broken { .. } => Ending::Unknown,
    }
}

/// The JSON of a complete answer.
pub(crate) fn document(answer: &Answer) -> Option<Value> {
    match answer {
        Answer::Whole { body, .. } => serde_json::from_slice(body).ok(),
        Answer::Broken { .. } => None,
    }
}

/// Eight hex digits that tell bodies apart.
fn short(body: &[u8]) -> String {
    blake3::hash(body).to_hex()[..8].to_owned()
}
