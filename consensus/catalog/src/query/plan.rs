//! Chooses which index entries answer a query, and in which order they already are.

use std::collections::BTreeSet;

use super::{Direction, Filter, ImageQuery, SortKey, TextField, VisibilityFilter};
use crate::image::{Image, Visibility};
use crate::index::{self, Facet, Scope};

/// Most values of an `in:` filter that are looked up one by one; longer lists are filtered instead,
/// because each value costs an open iterator.
const LOOKED_UP_VALUES_MAX: usize = 64;

/// How a query is going to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Key prefixes to read. What follows a prefix orders all streams alike.
    pub(super) streams: Vec<Vec<u8>>,
    /// The order of what follows the prefixes.
    pub(super) order: Order,
}

/// The order in which a plan's entries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As the query wants them: by this key's value (`None`: it is part of the prefix), then by
    /// place. A page can be cut out where it begins.
    Wanted(Option<SortKey>, Direction),
    /// Some other order: every candidate has to be looked at.
    Other,
}

impl Plan {
    pub(super) fn of(query: &ImageQuery, marker: Option<&Image>) -> Self {
        let scopes = scopes(query);
        let streams = |facet, values: &[Vec<u8>]| {
            let mut streams = Vec::new();
            for scope in &scopes {
                let prefix = index::prefix(query.hidden, *scope, facet);
                streams.extend(values.iter().map(|value| [prefix.as_slice(), value].concat()));
            }
            streams
        };
        if let Some(chosen) = Lookup::choose(&query.filters) {
            let fixed = chosen.fixes.filter(|key| chosen.has_value_of(*key, marker));
            let sort: Vec<_> = query.sort.iter().copied().filter(|(key, _)| fixed != Some(*key)).collect();
            let order = match aligned(&sort) {
                Some((SortKey::CreatedAt, direction)) => Order::Wanted(None, direction),
                _ => Order::Other,
            };
            return Self { streams: streams(chosen.facet, &chosen.values), order };
        }
        match aligned(&query.sort) {
            Some((key, direction)) => Self {
                streams: streams(Facet::Sort(key), &[Vec::new()]),
                order: Order::Wanted(Some(key), direction),
            },
            None => {
                Self { streams: streams(Facet::Sort(SortKey::CreatedAt), &[Vec::new()]), order: Order::Other }
            }
        }
    }

    /// Whether answering `query` may take reading more records than the page holds.
    pub(super) fn may_scan(query: &ImageQuery) -> bool {
        let by_lookup = usize::from(Lookup::choose(&query.filters).is_some());
        let by_scope = usize::from(query.viewer.admin && wanted_owners(&query.filters).is_some());
        Self::of(query, None).order == Order::Other || query.filters.len() > by_lookup + by_scope
    }

    /// What follows the prefix in an entry of `image`, where the order is the wanted one.
    pub(super) fn suffix_of(key: Option<SortKey>, image: &Image) -> Vec<u8> {
        let mut suffix = Vec::new();
        if let Some(key) = key {
            index::push_sort_value(&mut suffix, key, image);
        }
        index::push_place(&mut suffix, image);
        suffix
    }
}

/// The audiences whose union holds every candidate. Their entries may hold more than the caller
/// may see or asked for; each record is checked.
fn scopes(query: &ImageQuery) -> Vec<Scope<'_>> {
    use Visibility::{Community, Private, Public, Shared};
    let everything = [Public, Private, Shared, Community].map(Scope::Visibility);
    if query.viewer.admin {
        return match (wanted_owners(&query.filters), query.visibility) {
            (Some(owners), _) => owners,
            (None, VisibilityFilter::Only(visibility)) => vec![Scope::Visibility(visibility)],
            (None, VisibilityFilter::Default | VisibilityFilter::All) => everything.to_vec(),
        };
    }
    let own = query.viewer.project.as_deref().map(Scope::Owner);
    match query.visibility {
        VisibilityFilter::Only(open @ (Public | Community)) => vec![Scope::Visibility(open)],
        VisibilityFilter::Only(Private | Shared) => own.into_iter().collect(),
        VisibilityFilter::Default => own.into_iter().chain([Scope::Visibility(Public)]).collect(),
        VisibilityFilter::All => {
            own.into_iter().chain([Scope::Visibility(Public), Scope::Visibility(Community)]).collect()
        }
    }
}

/// The projects a list is restricted to, if it is to few enough.
fn wanted_owners(filters: &[Filter]) -> Option<Vec<Scope<'_>>> {
    filters.iter().find_map(|filter| match filter {
        Filter::Text { field: TextField::Owner, any_of } if any_of.len() <= LOOKED_UP_VALUES_MAX => {
            let owners: BTreeSet<&str> = any_of.iter().map(String::as_str).collect();
            Some(owners.into_iter().map(Scope::Owner).collect())
        }
        Filter::Text { .. }
        | Filter::Number { .. }
        | Filter::Time { .. }
        | Filter::Protected(_)
        | Filter::Tag(_)
        | Filter::Property { .. } => None,
    })
}

/// The single key a sort amounts to in an index, whose entries end in `created_at`, `id`.
fn aligned(sort: &[(SortKey, Direction)]) -> Option<(SortKey, Direction)> {
    let (&(first, direction), rest) = sort.split_first()?;
    let tail: &[SortKey] = match first {
        SortKey::Id => &[], // unique, so nothing after it matters
        SortKey::CreatedAt => &[SortKey::Id],
        SortKey::Name
        | SortKey::Status
        | SortKey::ContainerFormat
        | SortKey::DiskFormat
        | SortKey::Size
        | SortKey::UpdatedAt => &[SortKey::CreatedAt, SortKey::Id],
    };
    let follows = tail.iter().zip(rest).all(|(key, given)| (*key, direction) == *given);
    (follows && rest.len() >= tail.len()).then_some((first, direction))
}

/// A filter that an index answers directly.
struct Lookup {
    facet: Facet,
    values: Vec<Vec<u8>>,
    /// The sort key that has one value among all matches, and so decides nothing.
    fixes: Option<SortKey>,
    /// Smaller is expected to leave fewer images.
    rank: u8,
}

impl Lookup {
    /// Whether the marker has the value that all matches have. If not, the key still decides on
    /// which side of the marker they are.
    fn has_value_of(&self, key: SortKey, marker: Option<&Image>) -> bool {
        marker.is_none_or(|image| {
            let mut value = Vec::new();
            index::push_sort_value(&mut value, key, image);
            self.values.contains(&value)
        })
    }

    fn choose(filters: &[Filter]) -> Option<Self> {
        filters.iter().filter_map(Self::of).min_by_key(|lookup| lookup.rank)
    }

    fn of(filter: &Filter) -> Option<Self> {
        match filter {
            Filter::Text { field, any_of } => {
                let (key, rank) = match field {
                    TextField::Id => (SortKey::Id, 0),
                    TextField::Name => (SortKey::Name, 1),
                    TextField::DiskFormat => (SortKey::DiskFormat, 4),
                    TextField::ContainerFormat => (SortKey::ContainerFormat, 5),
                    TextField::Status => (SortKey::Status, 6),
                    TextField::Owner
                    | TextField::Checksum
                    | TextField::OsHashAlgo
                    | TextField::OsHashValue => {
                        return None;
                    }
                };
                let mut values: Vec<_> = any_of.iter().map(|text| text_value(text)).collect();
                values.sort();
                values.dedup();
                let fixes = (values.len() == 1).then_some(key);
                (values.len() <= LOOKED_UP_VALUES_MAX).then_some(Self {
                    facet: Facet::Sort(key),
                    values,
                    fixes,
                    rank,
                })
            }
            Filter::Tag(tag) => {
                Some(Self { facet: Facet::Tag, values: vec![text_value(tag)], fixes: None, rank: 2 })
            }
            Filter::Property { name, value } => {
                let mut key = Vec::new();
                index::push_property(&mut key, name, value);
                Some(Self { facet: Facet::Property, values: vec![key], fixes: None, rank: 3 })
            }
            Filter::Number { .. } | Filter::Time { .. } | Filter::Protected(_) => None,
        }
    }
}

fn text_value(text: &str) -> Vec<u8> {
    let mut value = Vec::new();
    index::push_text(&mut value, text);
    value
}
