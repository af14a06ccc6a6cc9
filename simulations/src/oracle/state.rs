//! What an image can be, and what each request does to it, as the API's contract tells it.
//!
//! Deliberately written without a look at the catalog: it is the second opinion.

use std::collections::{BTreeMap, BTreeSet};

use crate::workload::content::ContentId;

/// Where a complete record is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    Queued,
    Active,
    Deactivated,
}

/// What a client can read of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) life: Life,
    pub(crate) content: Option<ContentId>,
    pub(crate) name: String,
    pub(crate) min_ram: u64,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) properties: BTreeMap<String, String>,
}

/// What may be true of an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Absent,
    Here(Record),
    Deleted,
}

/// One field of a PATCH.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Name(String),
    MinRam(u64),
    SetProperty(String, String),
    RemoveProperty(String),
    Tags(BTreeSet<String>),
}

/// A request that may change an image.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Record),
    Upload(ContentId),
    /// An upload whose client hangs up before the end. It must never come to anything.
    CutUpload,
    Patch(Vec<Change>),
    AddTag(String),
    RemoveTag(String),
    Deactivate,
    Reactivate,
    Delete,
}

const NOT_FOUND: &[u16] = &[404];
const FORBIDDEN: &[u16] = &[403];
const CONFLICT: &[u16] = &[409];
/// An image that was deleted while its bytes arrived.
const GONE: &[u16] = &[404, 410];

impl Op {
    /// Whether it puts an image into `saving` for a while.
    pub(crate) fn is_upload(&self) -> bool {
        matches!(self, Self::Upload(_) | Self::CutUpload)
    }

    /// What it makes of `state`, or the status codes that may refuse it there.
    pub(crate) fn apply(&self, state: &State) -> Result<State, &'static [u16]> {
        let record = match (self, state) {
            (Self::Create(record), State::Absent) => return Ok(State::Here(record.clone())),
            (Self::Create(_), State::Here(_) | State::Deleted) => return Err(CONFLICT),
            (Self::Upload(_) | Self::CutUpload, State::Absent | State::Deleted) => return Err(GONE),
            (_, State::Absent | State::Deleted) => return Err(NOT_FOUND),
            (_, State::Here(record)) => record,
        };
        match self {
            Self::Create(_) => Err(CONFLICT),
            Self::Upload(_) | Self::CutUpload if record.life != Life::Queued => Err(CONFLICT),
            Self::CutUpload => Err(&[]),
            Self::Upload(content) => {
                Ok(State::Here(Record { life: Life::Active, content: Some(*content), ..record.clone() }))
            }
            Self::Patch(changes) => patched(record, changes),
            Self::AddTag(tag) => Ok(with_tags(record, |tags| tags.insert(tag.clone()))),
            Self::RemoveTag(tag) if record.tags.contains(tag) => {
                Ok(with_tags(record, |tags| tags.remove(tag)))
            }
            Self::RemoveTag(_) => Err(NOT_FOUND),
            Self::Deactivate | Self::Reactivate if record.life == Life::Queued => Err(FORBIDDEN),
            Self::Deactivate => Ok(State::Here(Record { life: Life::Deactivated, ..record.clone() })),
            Self::Reactivate => Ok(State::Here(Record { life: Life::Active, ..record.clone() })),
            Self::Delete => Ok(State::Deleted),
        }
    }
}

fn with_tags<T>(record: &Record, change: impl FnOnce(&mut BTreeSet<String>) -> T) -> State {
    let mut record = record.clone();
    change(&mut record.tags);
    State::Here(record)
}

fn patched(record: &Record, changes: &[Change]) -> Result<State, &'static [u16]> {
    let mut record = record.clone();
    for change in changes {
        match change {
            Change::Name(name) => record.name.clone_from(name),
            Change::MinRam(min_ram) => record.min_ram = *min_ram,
            Change::Tags(tags) => record.tags.clone_from(tags),
            Change::SetProperty(name, value) => {
                record.properties.insert(name.clone(), value.clone());
            }
            Change::RemoveProperty(name) => {
                record.properties.remove(name).ok_or(CONFLICT)?;
            }
        }
    }
    Ok(State::Here(record))
}
