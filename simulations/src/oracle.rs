//! What the clients of one run were told, and therefore what must be true.
//!
//! All clients of a run share one oracle, whichever nodes they ask: to a client, a cluster is one
//! registry. It knows nothing of how nodes work: only requests, answers and the contract.

pub(crate) mod history;
pub(crate) mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use http::HeaderMap;

use self::history::{History, Impossible, OpId, Since};
use self::state::{Op, Record, State};
use crate::chronicle::{Chronicle, Violation};
use crate::disk::DISK_FULL;
use crate::invariants::never_changed::SeenContents;
use crate::invariants::used_once::UsedIds;
use crate::invariants::{acknowledged, listed_once, whole};
use crate::workload::content::{Content, ContentId};
use crate::workload::observed::Observed;

/// A request on its way.
pub(crate) struct Asked {
    image: String,
    op: OpId,
    what: &'static str,
}

/// A read on its way.
pub(crate) struct Reading {
    image: String,
    since: Since,
    /// Whether the image was known to have bytes when the read began.
    had_bytes: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// 2xx.
    Done,
    /// 4xx, with the status code.
    Refused(u16),
    /// Refused for want of room: no state of the image explains it, the disk does.
    NoRoom,
    /// 5xx, a timeout, a broken connection.
    Unknown,
}

/// The oracle of one run.
pub(crate) struct Oracle {
    chronicle: Chronicle,
    pub(crate) contents: Vec<Content>,
    histories: BTreeMap<String, History>,
    /// Images that were asked for without an id and without an answer so far, by name.
    nameless: BTreeMap<String, Record>,
    used: UsedIds,
    seen: SeenContents,
}

impl Oracle {
    pub(crate) fn new(chronicle: Chronicle) -> Self {
        Self {
            chronicle,
            contents: Vec::new(),
            histories: BTreeMap::new(),
            nameless: BTreeMap::new(),
            used: UsedIds::default(),
            seen: SeenContents::default(),
        }
    }

    /// Every id that somebody used or saw, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.histories.keys().cloned().collect()
    }

    /// Ids of images that may exist now.
    pub(crate) fn ids_here(&self) -> Vec<String> {
        let here = |history: &History| history.possible().iter().any(|state| matches!(state, State::Here(_)));
        self.histories.iter().filter(|(_, history)| here(history)).map(|(id, _)| id.clone()).collect()
    }

    /// A request for `image` is sent.
    pub(crate) fn ask(&mut self, image: &str, what: &'static str, op: Op) -> Asked {
        let history = self.histories.entry(image.to_owned());
        let op = history.or_insert_with(|| History::certain(State::Absent)).begin(op);
        Asked { image: image.to_owned(), op, what }
    }

    /// It ended.
    pub(crate) fn answer(&mut self, asked: Asked, ending: Ending) {
        let Some(history) = self.histories.get_mut(&asked.image) else { return };
        let fits = match ending {
            Ending::Done => history.done(asked.op),
            Ending::Refused(status) => history.refused(asked.op, status),
            Ending::NoRoom if DISK_FULL.iter().any(|full| self.chronicle.has_counted(full)) => {
                history.never(asked.op)
            }
            Ending::NoRoom => Err(Impossible("a disk with room".to_owned())),
            Ending::Unknown => {
                history.unknown(asked.op);
                Ok(())
            }
        };
        self.chronicle.count(match ending {
            Ending::Done => "requests done",
            Ending::Refused(_) | Ending::NoRoom => "requests refused",
            Ending::Unknown => "requests with unknown outcome",
        });
        if let Err(impossible) = fits {
            let violation =
                acknowledged::answer(&asked.image, asked.what, &format!("{ending:?}"), impossible);
            self.chronicle.violate(violation);
        }
    }

    /// The node gave a client's image an id, or took the client's.
    pub(crate) fn named(&mut self, id: &str) {
        self.report(|oracle| oracle.used.check(id));
    }

    /// An image is asked for whose id the node will choose.
    pub(crate) fn ask_nameless(&mut self, record: &Record) {
        self.nameless.insert(record.name.clone(), record.clone());
    }

    /// It got `id`.
    pub(crate) fn answer_nameless(&mut self, record: &Record, id: &str) {
        self.nameless.remove(&record.name);
        self.named(id);
        self.histories.insert(id.to_owned(), History::certain(State::Here(record.clone())));
    }

    /// It certainly does not exist.
    pub(crate) fn never_nameless(&mut self, record: &Record) {
        self.nameless.remove(&record.name);
    }

    /// An image was found whose id nobody knows. If somebody asked for one of that name and got no
    /// answer, this is it.
    pub(crate) fn adopt(&mut self, observed: &Observed) -> bool {
        if self.histories.contains_key(&observed.id) {
            return true;
        }
        let Some(record) = self.nameless.get(&observed.name).cloned() else { return false };
        self.answer_nameless(&record, &observed.id);
        true
    }

    /// Uploads whose clients still wait.
    pub(crate) fn uploads_in_flight(&self) -> usize {
        self.histories.values().map(History::uploads_in_flight).sum()
    }

    /// No node works on anything that nobody waits for: a lone node began a new life, or all nodes
    /// did and agree again on who leads. What was asked before and got no answer has happened by now
    /// or never will.
    ///
    /// The crash of one node of several settles nothing. What it was asked may be in the logs of
    /// others, and another node may be carrying on with what it proposed.
    pub(crate) fn settle(&mut self) {
        self.histories.values_mut().for_each(History::settle);
    }

    /// How many histories have more unknown outcomes than can be followed.
    pub(crate) fn vague(&self) -> usize {
        self.histories.values().filter(|history| history.is_vague()).count()
    }

    /// A read of `image` begins.
    pub(crate) fn read(&self, image: &str) -> Option<Reading> {
        let since = self.histories.get(image)?.now();
        Some(Reading { image: image.to_owned(), since, had_bytes: self.seen.knows(image) })
    }

    /// The read found a record.
    pub(crate) fn saw(&mut self, reading: &Reading, observed: &Observed) {
        self.report(|oracle| oracle.seen.check(&reading.image, observed, !reading.had_bytes));
        let contents = std::mem::take(&mut self.contents);
        self.observe(reading, &format!("{observed:?}"), |state, uploading| {
            matches!(state, State::Here(record) if observed.shows(record, &contents, uploading))
        });
        self.contents = contents;
    }

    /// The read found no image.
    pub(crate) fn saw_nothing(&mut self, reading: &Reading) {
        self.observe(reading, "404", |state, _| !matches!(state, State::Here(_)));
    }

    /// The read found an image without bytes.
    pub(crate) fn saw_no_bytes(&mut self, reading: &Reading) {
        self.observe(
            reading,
            "no bytes",
            |state, _| matches!(state, State::Here(record) if record.content.is_none()),
        );
    }

    /// The read brought bytes: `range` cuts what was asked for out of a content of that size.
    pub(crate) fn saw_bytes(
        &mut self,
        reading: &Reading,
        range: impl Fn(usize) -> Option<Range<usize>>,
        headers: &HeaderMap,
        body: &[u8],
    ) {
        let wrong = |oracle: &Self, id: ContentId| {
            let content = &oracle.contents[id.0];
            match range(content.bytes.len()) {
                Some(range) => whole::check(&reading.image, content, range, headers, body),
                None => whole::withheld(&reading.image, format!("{} bytes instead of 416", body.len())),
            }
        };
        let candidates = self.candidates(reading);
        let right = candidates.iter().copied().find(|id| wrong(self, *id).is_none());
        match (right, candidates.first()) {
            (Some(right), _) => {
                self.chronicle.count_many("bytes downloaded and checked", body.len() as u64);
                self.observe(
                    reading,
                    "bytes",
                    |state, _| matches!(state, State::Here(record) if record.content == Some(right)),
                );
            }
            // Nobody knows all that may be true of it.
            (None, _) if self.is_vague(&reading.image) => {}
            (None, Some(first)) => self.report(|oracle| wrong(oracle, *first)),
            (None, None) => {
                let impossible = Impossible("an image without bytes".to_owned());
                self.chronicle.violate(acknowledged::record(&reading.image, "a download", impossible));
            }
        }
    }

    /// The read broke off after some bytes.
    pub(crate) fn saw_part(
        &mut self,
        reading: &Reading,
        range: impl Fn(usize) -> Option<Range<usize>>,
        part: &[u8],
    ) {
        let wrong = |oracle: &Self, id: ContentId| {
            let content = &oracle.contents[id.0];
            whole::check_part(&reading.image, content, range(content.bytes.len()).unwrap_or(0..0), part)
        };
        let candidates = self.candidates(reading);
        if !part.is_empty()
            && !self.is_vague(&reading.image)
            && candidates.iter().all(|id| wrong(self, *id).is_some())
        {
            self.report(|oracle| wrong(oracle, *candidates.first()?));
        }
    }

    /// The read was told that its range lies outside.
    pub(crate) fn saw_no_range(&mut self, reading: &Reading, range: impl Fn(usize) -> Option<Range<usize>>) {
        let outside = |content: ContentId| range(self.contents[content.0].bytes.len()).is_none();
        let outside: Vec<_> =
            self.candidates(reading).into_iter().filter(|content| outside(*content)).collect();
        self.observe(reading, "416", |state, _| {
            matches!(state, State::Here(record) if record.content.is_some_and(|id| outside.contains(&id)))
        });
    }

    /// A scan of all pages begins.
    pub(crate) fn read_all(&self) -> Vec<Reading> {
        self.histories.keys().filter_map(|id| self.read(id)).collect()
    }

    /// It found these images, in this order. Images that appeared meanwhile may be among them.
    pub(crate) fn saw_all(&mut self, readings: &[Reading], found: &[Observed]) {
        let known: BTreeSet<&String> = readings.iter().map(|reading| &reading.image).collect();
        let here = |state: &State| matches!(state, State::Here(_));
        let mut must = BTreeSet::new();
        let mut may: BTreeSet<String> =
            self.histories.keys().filter(|id| !known.contains(id)).cloned().collect();
        for Reading { image, since, .. } in readings {
            let Some(history) = self.histories.get(image) else { continue };
            if history.is_vague() || history.possible_since(*since).any(here) {
                may.insert(image.clone());
            }
            if !history.is_vague() && history.possible_since(*since).all(here) {
                must.insert(image.clone());
            }
        }
        let nameless = found.iter().filter(|observed| self.nameless.contains_key(&observed.name));
        may.extend(nameless.map(|observed| observed.id.clone()));
        let ids: Vec<String> = found.iter().map(|observed| observed.id.clone()).collect();
        self.report(|_| listed_once::check(&ids, &must, &may));
        for reading in readings {
            if let Some(observed) = found.iter().find(|observed| observed.id == reading.image) {
                self.saw(reading, observed);
            }
        }
    }

    /// The only content `image` can have now, if that is certain.
    pub(crate) fn certain_content(&self, image: &str) -> Option<ContentId> {
        let history = self.histories.get(image).filter(|history| !history.is_vague())?;
        let content = |state: &State| match state {
            State::Here(record) => record.content,
            State::Absent | State::Deleted => None,
        };
        let mut contents = history.possible().iter().map(content);
        let first = contents.next()??;
        contents.all(|other| other == Some(first)).then_some(first)
    }

    /// Whether more may be true of the image than can be followed.
    fn is_vague(&self, image: &str) -> bool {
        self.histories.get(image).is_some_and(History::is_vague)
    }

    /// Contents the image may have had since the read began.
    fn candidates(&self, reading: &Reading) -> BTreeSet<ContentId> {
        let Some(history) = self.histories.get(&reading.image) else { return BTreeSet::new() };
        let content = |state: &State| match state {
            State::Here(record) => record.content,
            State::Absent | State::Deleted => None,
        };
        history.possible_since(reading.since).filter_map(content).collect()
    }

    fn observe(&mut self, reading: &Reading, got: &str, fits: impl Fn(&State, bool) -> bool) {
        let Some(history) = self.histories.get_mut(&reading.image) else { return };
        let uploading = history.uploading_since(reading.since);
        if let Err(impossible) = history.observe(reading.since, |state| fits(state, uploading)) {
            self.chronicle.violate(acknowledged::record(&reading.image, got, impossible));
        }
    }

    fn report(&mut self, check: impl FnOnce(&mut Self) -> Option<Violation>) {
        if let Some(violation) = check(self) {
            self.chronicle.violate(violation);
        }
    }
}
