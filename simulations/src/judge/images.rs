//! What may be true of each image of a recorded history, and where an answer contradicted all of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::call::{Asked, Call, Ending, Facts};
use crate::chronicle::Violation;
use crate::oracle::history::{History, Impossible, OpId, Since};
use crate::oracle::state::{Life, Record, State};
use crate::workload::content::ContentId;
use crate::workload::observed::Observed;

const INVARIANT: &str =
    "I-M1, I-M2 (each image's history is linearizable, and no acknowledged write is lost)";
const WHOLE: &str = "I-D1 (bytes are those that were uploaded)";

/// What is remembered of a call that has not ended.
pub(super) enum Open {
    Write(OpId),
    /// Where a read began, in each image it may show.
    Read(BTreeMap<String, Since>),
    Nothing,
}

/// All images of a history.
#[derive(Default)]
pub(super) struct Images {
    histories: BTreeMap<String, History>,
    contents: Vec<Facts>,
    violations: BTreeMap<String, Violation>,
}

impl Images {
    /// A call begins.
    pub(super) fn begin(&mut self, call: &Call) -> anyhow::Result<Open> {
        let contents = &mut self.contents;
        if let Some(op) = call.op(|facts| known(contents, facts))? {
            let history = self.histories.entry(call.image.clone());
            return Ok(Open::Write(history.or_insert_with(|| History::certain(State::Absent)).begin(op)));
        }
        let all = matches!(call.asked, Asked::List { .. });
        let shown = self.histories.iter().filter(|(image, _)| all || **image == call.image);
        if matches!(call.asked, Asked::Settle) {
            return Ok(Open::Nothing);
        }
        Ok(Open::Read(shown.map(|(image, history)| (image.clone(), history.now())).collect()))
    }

    /// A call ends.
    pub(super) fn end(&mut self, call: &Call, began: Open) {
        match (began, &call.asked) {
            (Open::Write(op), _) => self.end_write(call, op),
            (Open::Nothing, _) => self.histories.values_mut().for_each(History::settle),
            (Open::Read(_), Asked::Download { fits, bytes }) if *bytes > 0 && fits.is_empty() => {
                let impossible = Impossible("bytes of an upload to this image".to_owned());
                self.violate(&call.image, WHOLE, call, impossible);
            }
            (Open::Read(since), _) if call.ending == Ending::Done => self.end_read(call, &since),
            (Open::Read(_), _) => {}
        }
    }

    fn end_write(&mut self, call: &Call, op: OpId) {
        let Some(history) = self.histories.get_mut(&call.image) else { return };
        let fits = match call.ending {
            Ending::Done => history.done(op),
            Ending::Refused => history.refused(op, call.status),
            Ending::Never => history.never(op),
            Ending::Unknown => {
                history.unknown(op);
                Ok(())
            }
        };
        if let Err(impossible) = fits {
            self.violate(&call.image, INVARIANT, call, impossible);
        }
    }

    fn end_read(&mut self, call: &Call, since: &BTreeMap<String, Since>) {
        match &call.asked {
            Asked::Get { saw } => self.saw(call, &call.image, since, saw.as_ref()),
            Asked::Download { fits, bytes } => {
                let contents = std::mem::take(&mut self.contents);
                let fitting = |id: &ContentId| fits.contains(&contents[id.0].sha512);
                self.observe(call, &call.image, since, |state, _| {
                    matches!(state, State::Here(record) if match &record.content {
                        None => *bytes == 0 && fits.is_empty(),
                        Some(id) => fitting(id),
                    })
                });
                self.contents = contents;
            }
            Asked::List { saw } => {
                for image in since.keys() {
                    let found = saw.iter().find(|document| document["id"] == **image);
                    self.saw(call, image, since, found);
                }
                for image in saw.iter().filter_map(|document| document["id"].as_str()) {
                    if !self.histories.contains_key(image) {
                        let impossible = Impossible("an image that somebody asked for".to_owned());
                        self.violate(image, INVARIANT, call, impossible);
                    }
                }
            }
            Asked::Create { .. }
            | Asked::Upload { .. }
            | Asked::Patch { .. }
            | Asked::AddTag { .. }
            | Asked::RemoveTag { .. }
            | Asked::Delete
            | Asked::Settle => {}
        }
    }

    /// A record of `image` was seen, or none.
    fn saw(&mut self, call: &Call, image: &str, since: &BTreeMap<String, Since>, document: Option<&Value>) {
        let here = |state: &State| matches!(state, State::Here(_));
        let Some(document) = document else {
            if !self.histories[image].possible().iter().any(here) {
                return; // nothing can be learnt from it
            }
            return self.observe(call, image, since, |state, _| !matches!(state, State::Here(_)));
        };
        let Some(observed) = Observed::parse(document) else {
            let impossible = Impossible("a document of an image".to_owned());
            return self.violate(image, INVARIANT, call, impossible);
        };
        let contents = std::mem::take(&mut self.contents);
        self.observe(call, image, since, |state, uploading| {
            matches!(state, State::Here(record) if shows(&observed, record, &contents, uploading))
        });
        self.contents = contents;
    }

    fn observe(
        &mut self,
        call: &Call,
        image: &str,
        since: &BTreeMap<String, Since>,
        fits: impl Fn(&State, bool) -> bool,
    ) {
        if self.violations.contains_key(image) {
            return;
        }
        let (Some(since), Some(history)) = (since.get(image), self.histories.get_mut(image)) else {
            let impossible = Impossible("an image that somebody asked for".to_owned());
            return self.violate(image, INVARIANT, call, impossible);
        };
        let uploading = history.uploading_since(*since);
        if let Err(impossible) = history.observe(*since, |state| fits(state, uploading)) {
            self.violate(image, INVARIANT, call, impossible);
        }
    }

    /// Only the first contradiction of an image is kept: nothing fits any more after it.
    fn violate(&mut self, image: &str, invariant: &'static str, call: &Call, impossible: Impossible) {
        self.violations.entry(image.to_owned()).or_insert_with(|| Violation {
            invariant,
            subject: format!("image {image}"),
            expected: impossible.0,
            got: call.of(image),
        });
    }

    /// How many images somebody asked for.
    pub(super) fn count(&self) -> usize {
        self.histories.len()
    }

    /// How many of them cannot be followed.
    pub(super) fn vague(&self) -> usize {
        self.histories.values().filter(|history| history.is_vague()).count()
    }

    /// What was broken.
    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.violations.into_values().collect()
    }
}

/// The id of a content; equal contents are one.
fn known(contents: &mut Vec<Facts>, facts: &Facts) -> ContentId {
    let found = contents.iter().position(|content| content == facts).unwrap_or_else(|| {
        contents.push(facts.clone());
        contents.len() - 1
    });
    ContentId(found)
}

/// Whether a document shows `record`. [`Observed::shows`] needs the bytes; a recorded history has their facts.
fn shows(observed: &Observed, record: &Record, contents: &[Facts], uploading: bool) -> bool {
    let status = match observed.status.as_str() {
        "queued" => record.life == Life::Queued,
        "saving" => record.life == Life::Queued && uploading,
        "active" => record.life == Life::Active,
        _ => false,
    };
    let content = match record.content {
        None => observed.content().is_none(),
        Some(id) => {
            let facts = &contents[id.0];
            observed.size == Some(facts.size)
                && observed.checksum.as_ref() == Some(&facts.md5)
                && observed.os_hash_value.as_ref() == Some(&facts.sha512)
        }
    };
    status
        && content
        && observed.name == record.name
        && observed.min_ram == record.min_ram
        && observed.tags == record.tags
        && observed.properties == record.properties
}
