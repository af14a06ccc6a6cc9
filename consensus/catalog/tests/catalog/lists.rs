//! A list from the indexes is the list a full scan would give.

use std::cmp::Ordering;

use peerglass_catalog::testing::{Dice, populate};
use peerglass_catalog::{
    Catalog, Comparison, Direction, Filter, Image, ImageQuery, Keyspace, MemoryKeyspace, NumberField,
    QueryError, SortKey, TextField, Visibility, VisibilityFilter, keyspace,
};
use proptest::prelude::*;

/// Every image, found by asking for each possible id.
fn all(catalog: &Catalog<'_>) -> Vec<Image> {
    let mut dice = Dice(0);
    let mut found: Vec<Image> = (0..400).filter_map(|_| catalog.image(&dice.image_id()).unwrap()).collect();
    found.sort_by_key(|image| image.id);
    found.dedup_by_key(|image| image.id);
    found
}

fn matches(query: &ImageQuery, image: &Image) -> bool {
    let own = image.owner.is_some() && image.owner == query.viewer.project;
    let visible =
        query.viewer.admin || own || matches!(image.visibility, Visibility::Public | Visibility::Community);
    let wanted = match query.visibility {
        VisibilityFilter::All => true,
        VisibilityFilter::Default => {
            let ownerless = query.viewer.admin && image.owner.is_none() && query.viewer.project.is_none();
            own || ownerless || image.visibility != Visibility::Community
        }
        VisibilityFilter::Only(visibility) => image.visibility == visibility,
    };
    let holds = |filter: &Filter| match filter {
        Filter::Text { field, any_of } => {
            let value = match field {
                TextField::Name => image.name.clone(),
                TextField::Status => Some(image.status.name().to_owned()),
                TextField::DiskFormat => image.disk_format.clone(),
                TextField::Owner => image.owner.clone(),
                TextField::Id => Some(image.id.to_string()),
                other @ (TextField::ContainerFormat
                | TextField::Checksum
                | TextField::OsHashAlgo
                | TextField::OsHashValue) => panic!("the generator does not ask for {other:?}"),
            };
            value.is_some_and(|value| any_of.contains(&value))
        }
        Filter::Tag(tag) => image.tags.contains(tag),
        Filter::Property { name, value } => image.properties.get(name) == Some(value),
        Filter::Number { field: NumberField::Size, comparison: Comparison::GreaterOrEqual, value } => {
            image.content.as_ref().is_some_and(|content| content.size >= *value)
        }
        other @ (Filter::Number { .. } | Filter::Time { .. } | Filter::Protected(_)) => {
            panic!("the generator does not make {other:?}")
        }
    };
    visible && wanted && image.hidden == query.hidden && query.filters.iter().all(holds)
}

fn compare(query: &ImageQuery, a: &Image, b: &Image) -> Ordering {
    for (key, direction) in &query.sort {
        let value = |image: &Image| match key {
            SortKey::Name => image.name.clone().unwrap_or_default(),
            SortKey::Status => image.status.name().to_owned(),
            SortKey::ContainerFormat => image.container_format.clone().unwrap_or_default(),
            SortKey::DiskFormat => image.disk_format.clone().unwrap_or_default(),
            SortKey::Size => format!("{:020}", image.content.as_ref().map_or(0, |content| content.size)),
            SortKey::Id => image.id.to_string(),
            SortKey::CreatedAt => format!("{:020}", image.created_at.0),
            SortKey::UpdatedAt => format!("{:020}", image.updated_at.0),
        };
        let ordering = value(a).cmp(&value(b));
        let ordering = if *direction == Direction::Descending { ordering.reverse() } else { ordering };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_page_is_what_a_full_scan_gives(seed: u64) {
        let keyspace = MemoryKeyspace::new();
        populate(&keyspace, seed, 150, 10);
        let mut dice = Dice(seed ^ 1);
        keyspace::look(&keyspace as &dyn Keyspace, |read| {
            let catalog = Catalog::new(read);
            let images = all(&catalog);
            for _ in 0..60 {
                let query = dice.query();
                let marker = query.marker.and_then(|id| images.iter().find(|image| image.id == id));
                let visible = |image: &&Image| image.is_visible_to(&query.viewer);
                let page = catalog.images(&query);
                if query.marker.is_some() && marker.filter(visible).is_none() {
                    assert!(matches!(page, Err(QueryError::NoSuchMarker(_))), "{query:?}");
                    continue;
                }
                let mut expected: Vec<Image> = images.iter().filter(|image| matches(&query, image)).cloned().collect();
                expected.sort_by(|a, b| compare(&query, a, b));
                if let Some(marker) = marker {
                    expected.retain(|image| compare(&query, marker, image).is_lt());
                }
                expected.truncate(query.limit);
                assert_eq!(page.unwrap().images, expected, "{query:?}");
            }
        });
    }

    /// I-M13: following markers shows every match once, whatever the page size.
    #[test]
    fn pages_join_without_gap_or_overlap(seed: u64, limit in 1usize..5) {
        let keyspace = MemoryKeyspace::new();
        populate(&keyspace, seed, 150, 10);
        let mut query = Dice(seed ^ 2).query();
        query.marker = None;
        keyspace::look(&keyspace as &dyn Keyspace, |read| {
            let catalog = Catalog::new(read);
            let whole = catalog.images(&ImageQuery { limit: 1_000, ..query.clone() }).unwrap().images;
            let mut joined = Vec::new();
            query.limit = limit;
            loop {
                let page = catalog.images(&query).unwrap();
                query.marker = page.images.last().map(|image| image.id);
                joined.extend(page.images);
                if !page.full {
                    break;
                }
            }
            assert_eq!(joined, whole);
        });
    }
}

/// Found by the property above: a filter leaves one name, the order is by name, and the marker has
/// another one, so every match is on one side of it.
#[test]
fn a_marker_that_the_filter_leaves_out_still_has_its_place() {
    let keyspace = MemoryKeyspace::new();
    populate(&keyspace, 6_907_198_022_844_226_838, 150, 10);
    let mut dice = Dice(6_907_198_022_844_226_838 ^ 1);
    keyspace::look(&keyspace as &dyn Keyspace, |read| {
        let catalog = Catalog::new(read);
        let images = all(&catalog);
        for name in images.iter().filter_map(|image| image.name.clone()) {
            for marker in &images {
                let sort = vec![(SortKey::Name, dice.pick(&[Direction::Ascending, Direction::Descending]))];
                let query = ImageQuery {
                    viewer: peerglass_catalog::Viewer { admin: true, project: None },
                    visibility: VisibilityFilter::All,
                    hidden: marker.hidden,
                    filters: vec![Filter::Text { field: TextField::Name, any_of: vec![name.clone()] }],
                    sort: ImageQuery::sort_with_tie_break(sort),
                    marker: Some(marker.id),
                    limit: 100,
                };
                let mut expected: Vec<_> =
                    images.iter().filter(|image| matches(&query, image)).cloned().collect();
                expected.retain(|image| compare(&query, marker, image).is_lt());
                expected.sort_by(|a, b| compare(&query, a, b));
                assert_eq!(catalog.images(&query).unwrap().images, expected);
            }
        }
    });
}

/// I-S1: what clients put into records does not decide how much memory a page takes.
#[test]
fn a_page_of_large_records_ends_early_and_says_so() {
    use peerglass_catalog::{Command, Edit, Limits, Overlay, Presence, Timestamp, apply};
    let keyspace = MemoryKeyspace::new();
    populate(&keyspace, 3, 200, 10);
    let batch = keyspace::look(&keyspace as &dyn Keyspace, |read| {
        let mut overlay = Overlay::new(read);
        for image in all(&Catalog::new(read)) {
            let edits = vec![Edit::SetProperty {
                name: "large".into(),
                value: "x".repeat(500 << 10),
                presence: Presence::Any,
            }];
            let at = Timestamp(0);
            let _refused = apply(
                &mut overlay,
                Command::EditImage { image: image.id, edits, limits: Limits::default(), at },
            );
        }
        overlay.into_batch()
    });
    keyspace.write(batch).unwrap();
    for sort in [vec![], vec![(SortKey::Size, Direction::Ascending), (SortKey::Name, Direction::Descending)]]
    {
        let mut query = Dice(1).query();
        query.viewer = peerglass_catalog::Viewer { admin: true, project: None };
        query.visibility = VisibilityFilter::All;
        (query.hidden, query.filters, query.marker, query.limit) = (false, vec![], None, 100);
        query.sort = ImageQuery::sort_with_tie_break(sort);
        keyspace::look(&keyspace as &dyn Keyspace, |read| {
            let expected = all(&Catalog::new(read)).iter().filter(|image| !image.hidden).count();
            let mut seen = 0;
            loop {
                let page = Catalog::new(read).images(&query).unwrap();
                assert!(page.images.len() <= 9, "{} images of 500 KiB", page.images.len());
                seen += page.images.len();
                query.marker = page.images.last().map(|image| image.id);
                if !page.full {
                    break;
                }
            }
            assert_eq!(seen, expected);
        });
    }
}

/// The values of an `in:` filter come in any order, and there may be thousands.
#[test]
fn a_filter_holds_for_each_of_many_values_in_any_order() {
    let keyspace = MemoryKeyspace::new();
    populate(&keyspace, 5, 200, 8);
    keyspace::look(&keyspace, |read| {
        let catalog = Catalog::new(read);
        let mut query = Dice(3).query();
        query.viewer.admin = true;
        (query.visibility, query.hidden, query.marker, query.limit) =
            (VisibilityFilter::All, false, None, 500);
        query.sort = ImageQuery::sort_with_tie_break(Vec::new());
        query.filters = Vec::new();
        let everything = catalog.images(&query).unwrap().images;
        let names: Vec<String> = everything.iter().filter_map(|image| image.name.clone()).collect();
        let mut any_of: Vec<String> =
            (0..5_000).map(|n| format!("no such name {}", n * 7_919 % 5_000)).collect();
        any_of.extend(names.iter().rev().cloned());
        query.filters = vec![Filter::Text { field: TextField::Name, any_of }];
        assert!(query.may_scan(), "too many to look up one by one");
        let found = catalog.images(&query).unwrap().images;
        assert!(!names.is_empty());
        assert_eq!(found.len(), names.len());
    });
}

/// What the indexes answer is answered at once; what they do not is said to take long.
#[test]
fn a_query_says_whether_it_may_read_more_than_it_answers() {
    let plain = ImageQuery {
        viewer: Default::default(),
        visibility: VisibilityFilter::Default,
        hidden: false,
        filters: Vec::new(),
        sort: ImageQuery::sort_with_tie_break(Vec::new()),
        marker: None,
        limit: 25,
    };
    let with = |filters: Vec<Filter>| ImageQuery { filters, ..plain.clone() };
    let name = Filter::Text { field: TextField::Name, any_of: vec!["debian".to_owned()] };
    let large = Filter::Number { field: NumberField::Size, comparison: Comparison::Greater, value: 1 };
    assert!(!plain.may_scan());
    assert!(!with(vec![name.clone()]).may_scan());
    assert!(with(vec![large.clone()]).may_scan());
    assert!(with(vec![name, large]).may_scan());
    let mixed = vec![(SortKey::Name, Direction::Ascending), (SortKey::Size, Direction::Descending)];
    assert!(ImageQuery { sort: ImageQuery::sort_with_tie_break(mixed), ..plain.clone() }.may_scan());
}
