//! Questions about images: filter, sort, page.
//!
//! A query is plain data, already checked and parsed by the API. [`Catalog::images`](crate::Catalog::images)
//! answers it from the indexes so that a page costs what the page holds, not what the catalog holds,
//! for every single sort key and for the usual filters; `query/walk.rs` says exactly when.

mod plan;
mod select;
mod walk;

use std::cmp::Ordering;

use crate::image::{Image, ImageId, Timestamp, Visibility};
pub use crate::keyspace::Direction;

pub(crate) use walk::list;

/// Who is asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Viewer {
    /// May see every image.
    pub admin: bool,
    /// The project the caller acts for.
    pub project: Option<String>,
}

/// A list request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageQuery {
    /// Who is asking, which decides what is a candidate at all.
    pub viewer: Viewer,
    /// Which visibilities are wanted.
    pub visibility: VisibilityFilter,
    /// `true` lists hidden images only, `false` none of them.
    pub hidden: bool,
    /// All of them must hold.
    pub filters: Vec<Filter>,
    /// First key decides first. Complete it with [`ImageQuery::sort_with_tie_break`].
    pub sort: Vec<(SortKey, Direction)>,
    /// The last image of the page before. It must exist and be visible; it need not match.
    pub marker: Option<ImageId>,
    /// Most images to answer.
    pub limit: usize,
}

/// Which visibilities a list is restricted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VisibilityFilter {
    /// The request did not say: everything but other projects' community images.
    Default,
    /// `all`: no restriction.
    All,
    /// One of them.
    Only(Visibility),
}

/// A field images can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SortKey {
    /// By name; unnamed first.
    Name,
    /// By the status's word.
    Status,
    /// By container format; unset first.
    ContainerFormat,
    /// By disk format; unset first.
    DiskFormat,
    /// By size in bytes; unknown counts as 0.
    Size,
    /// By id.
    Id,
    /// By time of creation.
    CreatedAt,
    /// By time of the last change.
    UpdatedAt,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The field has one of these values.
    Text {
        /// Which field.
        field: TextField,
        /// Any of these.
        any_of: Vec<String>,
    },
    /// The field compares so with the value.
    Number {
        /// Which field.
        field: NumberField,
        /// How.
        comparison: Comparison,
        /// With what.
        value: u64,
    },
    /// The time compares so with the given one, both cut to whole seconds, as clients see them.
    Time {
        /// Which time.
        field: TimeField,
        /// How.
        comparison: Comparison,
        /// With what.
        at: Timestamp,
    },
    /// Protected or not.
    Protected(bool),
    /// Carries the tag.
    Tag(String),
    /// Has the custom property with exactly this value.
    Property {
        /// The property's name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// A field that compares as text. An unset field equals nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextField {
    /// The image id.
    Id,
    /// The name.
    Name,
    /// The status's word.
    Status,
    /// The container format.
    ContainerFormat,
    /// The disk format.
    DiskFormat,
    /// The owning project.
    Owner,
    /// MD5, hex.
    Checksum,
    /// The secure hash's algorithm.
    OsHashAlgo,
    /// The secure hash, hex.
    OsHashValue,
}

/// A field that compares as a number. An unset field satisfies no comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NumberField {
    /// Bytes.
    Size,
    /// Bytes of the disk inside.
    VirtualSize,
    /// Megabytes.
    MinRam,
    /// Gigabytes.
    MinDisk,
}

/// A time of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeField {
    /// When it was made.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
}

/// How a field relates to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
}

impl Comparison {
    /// Whether a field that stands in `ordering` to the value satisfies it.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The images, in order.
    pub images: Vec<Image>,
    /// Whether the page holds as many as were asked for, so that another may follow.
    pub full: bool,
}

/// Why a list cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The marker does not exist or the caller may not see it.
    #[error("marker {0} is not an image the caller can see")]
    NoSuchMarker(ImageId),
    /// The catalog could not be read.
    #[error(transparent)]
    Fault(#[from] crate::keyspace::Fault),
}

impl ImageQuery {
    /// Whether the answer may take reading many more records than it holds, and so a while: where that would
    /// hold others up, ask elsewhere.
    pub fn may_scan(&self) -> bool {
        plan::Plan::may_scan(self)
    }

    /// The sort order completed to a total one, as Glance does: `created_at`, then `id` are
    /// appended unless present, in the one direction given, or descending if there were several.
    pub fn sort_with_tie_break(mut sort: Vec<(SortKey, Direction)>) -> Vec<(SortKey, Direction)> {
        let tie = match sort.as_slice() {
            [(_, direction)] => *direction,
            _ => Direction::Descending,
        };
        if sort.is_empty() {
            sort.push((SortKey::CreatedAt, Direction::Descending));
        }
        for key in [SortKey::CreatedAt, SortKey::Id] {
            if !sort.iter().any(|(present, _)| *present == key) {
                sort.push((key, tie));
            }
        }
        sort
    }
}
