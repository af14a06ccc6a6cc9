//! One line of a recorded history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::oracle::state::{Change, Life, Op, Record};
use crate::workload::content::ContentId;
use crate::workload::observed::PROPERTY_PREFIX;

/// A request and how it ended.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    /// When it was sent and when it ended or was given up, in nanoseconds.
    pub(super) at: (u64, u64),
    /// Which node was asked.
    #[serde(default)]
    node: String,
    /// The image it is about; empty for a list.
    #[serde(default)]
    pub(super) image: String,
    #[serde(flatten)]
    pub(super) asked: Asked,
    pub(super) ending: Ending,
    /// The status code of a refusal.
    #[serde(default)]
    pub(super) status: u16,
}

/// What was asked and, of reads, what was seen.
#[derive(Debug, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(super) enum Asked {
    Create {
        record: Created,
    },
    Upload {
        content: Facts,
    },
    Patch {
        changes: Vec<Value>,
    },
    AddTag {
        tag: String,
    },
    RemoveTag {
        tag: String,
    },
    Delete,
    /// A record, or nothing where there was none.
    Get {
        saw: Option<Value>,
    },
    /// Bytes. `fits` names, by SHA-512, the contents that what came is (the asked-for part of).
    Download {
        fits: Vec<String>,
        bytes: u64,
    },
    /// All records.
    List {
        saw: Vec<Value>,
    },
    /// Not a request: no node works any more on what was asked before.
    Settle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ending {
    /// 2xx; of reads also 404, with nothing seen.
    Done,
    /// 4xx, by a rule of the registry.
    Refused,
    /// It certainly did not happen: never sent, or refused for want of room.
    Never,
    /// 5xx, a timeout, a broken connection.
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(super) struct Created {
    name: String,
    min_ram: u64,
}

/// What identifies the bytes of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Facts {
    pub(super) size: u64,
    pub(super) md5: String,
    pub(super) sha512: String,
}

impl Call {
    /// The change it asks for. `None` for what changes nothing.
    pub(super) fn op(&self, content: impl FnOnce(&Facts) -> ContentId) -> anyhow::Result<Option<Op>> {
        Ok(Some(match &self.asked {
            Asked::Create { record } => Op::Create(Record {
                life: Life::Queued,
                content: None,
                name: record.name.clone(),
                min_ram: record.min_ram,
                tags: BTreeSet::new(),
                properties: BTreeMap::new(),
            }),
            Asked::Upload { content: facts } => Op::Upload(content(facts)),
            Asked::Patch { changes } => Op::Patch(changes.iter().map(change).collect::<Result<_, _>>()?),
            Asked::AddTag { tag } => Op::AddTag(tag.clone()),
            Asked::RemoveTag { tag } => Op::RemoveTag(tag.clone()),
            Asked::Delete => Op::Delete,
            Asked::Get { .. } | Asked::Download { .. } | Asked::List { .. } | Asked::Settle => {
                return Ok(None);
            }
        }))
    }

    /// The call as far as it is about `image`.
    pub(super) fn of(&self, image: &str) -> String {
        let Asked::List { saw } = &self.asked else { return self.to_string() };
        let found = saw.iter().find(|document| document["id"] == *image);
        let found = found.map_or("without it".to_owned(), Value::to_string);
        format!("a list, {found}, on node {} from {} to {}", self.node, self.at.0, self.at.1)
    }

    /// How it ended, for counting.
    pub(super) fn ending_name(&self) -> String {
        match self.ending {
            Ending::Refused => format!("refused {}", self.status),
            Ending::Done | Ending::Never | Ending::Unknown => format!("{:?}", self.ending).to_lowercase(),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: (begin, end), node, asked, ending, status, .. } = self;
        write!(f, "{asked:?} on node {node} from {begin} to {end}: {ending:?} {status}")
    }
}

/// One operation of a JSON patch, of the kinds that clients of a recorded run send.
fn change(operation: &Value) -> anyhow::Result<Change> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let kind = text("op").context("a change without op")?;
    let field = text("path").and_then(|path| path.strip_prefix('/')).context("a change without path")?;
    let value = operation.get("value");
    Ok(match (kind, field, value) {
        ("replace", "name", Some(Value::String(name))) => Change::Name(name.clone()),
        ("replace", "min_ram", Some(Value::Number(ram))) => {
            Change::MinRam(ram.as_u64().context("min_ram is not a number of MiB")?)
        }
        ("add", name, Some(Value::String(value))) if name.starts_with(PROPERTY_PREFIX) => {
            Change::SetProperty(name.to_owned(), value.clone())
        }
        ("remove", name, None) if name.starts_with(PROPERTY_PREFIX) => {
            Change::RemoveProperty(name.to_owned())
        }
        _ => bail!("no rule for the change {operation}"),
    })
}
