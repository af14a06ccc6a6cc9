//! Decides whether one record is in a list, and which of two comes first.

use std::cmp::Ordering;

use super::{Direction, Filter, ImageQuery, NumberField, SortKey, TextField, TimeField, VisibilityFilter};
use crate::image::{Image, Status, Timestamp, Visibility};

const MICROSECONDS: i64 = 1_000_000;

/// The query with what [`is_wanted`] relies on: the values of each filter in order.
pub(super) fn ready(query: &ImageQuery) -> ImageQuery {
    let mut query = query.clone();
    for filter in &mut query.filters {
        if let Filter::Text { any_of, .. } = filter {
            any_of.sort_unstable();
        }
    }
    query
}

/// Whether `image` belongs in the list that `query`, made [`ready`], asks for.
pub(super) fn is_wanted(query: &ImageQuery, image: &Image) -> bool {
    // `killed` is a ghost of old Glances and is never listed.
    image.status != Status::Killed
        && image.hidden == query.hidden
        && image.is_visible_to(&query.viewer)
        && has_wanted_visibility(query, image)
        && query.filters.iter().all(|filter| holds(filter, image))
}

fn has_wanted_visibility(query: &ImageQuery, image: &Image) -> bool {
    match query.visibility {
        VisibilityFilter::All => true,
        VisibilityFilter::Only(visibility) => image.visibility == visibility,
        VisibilityFilter::Default => {
            // An administrator without a project made the ownerless images.
            let own = image.owner == query.viewer.project && (query.viewer.admin || image.owner.is_some());
            image.visibility != Visibility::Community || own
        }
    }
}

fn holds(filter: &Filter, image: &Image) -> bool {
    match filter {
        Filter::Text { field, any_of } => text(*field, image)
            .is_some_and(|text| any_of.binary_search_by(|wanted| wanted.as_str().cmp(text)).is_ok()),
        Filter::Number { field, comparison, value } => {
            number(*field, image).is_some_and(|number| comparison.holds(number.cmp(value)))
        }
        Filter::Time { field, comparison, at } => {
            let time = match field {
                TimeField::CreatedAt => image.created_at,
                TimeField::UpdatedAt => image.updated_at,
            };
            comparison.holds(seconds(time).cmp(&seconds(*at)))
        }
        Filter::Protected(protected) => image.protected == *protected,
        Filter::Tag(tag) => image.tags.contains(tag),
        Filter::Property { name, value } => image.properties.get(name) == Some(value),
    }
}

fn text(field: TextField, image: &Image) -> Option<&str> {
    let content = image.content.as_ref();
    match field {
        TextField::Id => Some(image.id.as_str()),
        TextField::Name => image.name.as_deref(),
        TextField::Status => Some(image.status.name()),
        TextField::ContainerFormat => image.container_format.as_deref(),
        TextField::DiskFormat => image.disk_format.as_deref(),
        TextField::Owner => image.owner.as_deref(),
        TextField::Checksum => content.map(|content| content.checksum.as_str()),
        TextField::OsHashAlgo => content.map(|content| content.os_hash_algo.name()),
        TextField::OsHashValue => content.map(|content| content.os_hash_value.as_str()),
    }
}

fn number(field: NumberField, image: &Image) -> Option<u64> {
    match field {
        NumberField::Size => image.content.as_ref().map(|content| content.size),
        NumberField::VirtualSize => image.content.as_ref().and_then(|content| content.virtual_size),
        NumberField::MinRam => Some(u64::from(image.min_ram_mb)),
        NumberField::MinDisk => Some(u64::from(image.min_disk_gb)),
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(MICROSECONDS)
}

/// Which of two images a sort puts first. Unset text counts as empty, unknown size as 0.
pub(super) fn order(sort: &[(SortKey, Direction)], a: &Image, b: &Image) -> Ordering {
    let by_key = |(key, direction): &(SortKey, Direction)| {
        let ordering = match key {
            SortKey::Name => or_empty(&a.name).cmp(or_empty(&b.name)),
            SortKey::Status => a.status.name().cmp(b.status.name()),
            SortKey::ContainerFormat => or_empty(&a.container_format).cmp(or_empty(&b.container_format)),
            SortKey::DiskFormat => or_empty(&a.disk_format).cmp(or_empty(&b.disk_format)),
            SortKey::Size => size(a).cmp(&size(b)),
            SortKey::Id => a.id.cmp(&b.id),
            SortKey::CreatedAt => a.created_at.cmp(&b.created_at),
            SortKey::UpdatedAt => a.updated_at.cmp(&b.updated_at),
        };
        match direction {
            Direction::Ascending => ordering,
            Direction::Descending => ordering.reverse(),
        }
    };
    sort.iter().map(by_key).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

fn size(image: &Image) -> u64 {
    image.content.as_ref().map_or(0, |content| content.size)
}

fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}
