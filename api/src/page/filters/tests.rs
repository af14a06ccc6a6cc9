//! Every filter, operator and bad value.

use peerglass_catalog::Timestamp;

use super::*;

fn filters(pairs: &[(&'static str, &'static str)]) -> Result<Filters, QueryProblem> {
    parse(&pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
}

fn one(key: &'static str, value: &'static str) -> Filter {
    let mut found = filters(&[(key, value)]).unwrap().filters;
    assert_eq!(found.len(), 1, "{key}={value}");
    found.remove(0)
}

fn names(any_of: &[&str]) -> Filter {
    Filter::Text { field: TextField::Name, any_of: any_of.iter().map(ToString::to_string).collect() }
}

#[test]
fn text_fields_take_eq_and_in() {
    assert_eq!(one("name", "a"), names(&["a"]));
    assert_eq!(one("name", "eq:a:b"), names(&["a:b"]));
    assert_eq!(one("name", "in:a,b"), names(&["a", "b"]));
    assert_eq!(one("name", "in:\"a,b\",c"), names(&["a,b", "c"]));
    assert_eq!(one("name", "in:\"a\\\"b\",c"), names(&["a\"b", "c"]));
    assert_eq!(one("name", "2024-01-01T00:00:00Z"), names(&["2024-01-01T00:00:00Z"]));
    for value in ["neq:a", "gt:a", "a:b", ":", "in:\"a", "in:a\"b\"", "in:\"a\"b", "in:a\"", "in:\"\"\""] {
        assert!(filters(&[("name", value)]).is_err(), "{value}");
    }
}

/// Exact fields know no operators: a colon is a colon.
#[test]
fn exact_fields_compare_the_whole_value() {
    let wanted = Filter::Text { field: TextField::Owner, any_of: vec!["eq:a".to_owned()] };
    assert_eq!(one("owner", "eq:a"), wanted);
    assert_eq!(one("img_key", "neq:x"), Filter::Property { name: "img_key".into(), value: "neq:x".into() });
}

#[test]
fn times_compare_by_operator() {
    let day = Timestamp(1_704_067_200_000_000);
    for (value, comparison) in [
        ("2024-01-01", Comparison::Equal),
        ("2024-01-01T00:00:00Z", Comparison::Equal),
        ("eq:2024-01-01T00:00:00Z", Comparison::Equal),
        ("neq:2024-01-01T00:00:00Z", Comparison::NotEqual),
        ("gt:2024-01-01T01:00:00+01:00", Comparison::Greater),
        ("gte:2024-01-01", Comparison::GreaterOrEqual),
        ("lt:2024-01-01 00:00:00", Comparison::Less),
        ("lte:2024-01-01T00:00:00", Comparison::LessOrEqual),
    ] {
        let wanted = Filter::Time { field: TimeField::CreatedAt, comparison, at: day };
        assert_eq!(one("created_at", value), wanted, "{value}");
    }
    for value in ["", "gt:notadate", "in:2024-01-01", "ne:2024-01-01", "gt:", "2024"] {
        assert!(filters(&[("updated_at", value)]).is_err(), "{value}");
    }
}

#[test]
fn bounds_are_integers_of_any_width() {
    let bound = |comparison, value| Filter::Number { field: NumberField::Size, comparison, value };
    assert_eq!(one("size_min", "3"), bound(Comparison::GreaterOrEqual, 3));
    assert_eq!(one("size_min", "-3"), bound(Comparison::GreaterOrEqual, 0));
    assert_eq!(one("size_min", "18446744073709551616"), nothing());
    assert_eq!(one("size_max", "18446744073709551616"), bound(Comparison::LessOrEqual, u64::MAX));
    assert_eq!(one("size_max", "-1"), nothing());
    assert_eq!(one("size", "7"), bound(Comparison::Equal, 7));
    assert_eq!(one("size", "x"), nothing());
    for key in ["size_min", "min_ram_max", "virtual_size_min", "min_disk_max"] {
        assert!(filters(&[(key, "x")]).is_err(), "{key}");
        assert!(filters(&[(key, "")]).is_err(), "{key}");
    }
    assert_eq!(one("foo_min", "1"), Filter::Property { name: "foo_min".into(), value: "1".into() });
}

#[test]
fn words_are_checked() {
    assert_eq!(one("protected", "True"), Filter::Protected(true));
    assert!(filters(&[("os_hidden", "TRUE")]).unwrap().hidden);
    assert_eq!(filters(&[("visibility", "all")]).unwrap().visibility, VisibilityFilter::All);
    assert_eq!(one("visibility", ""), nothing());
    for (key, value) in [
        ("protected", "yes"),
        ("os_hidden", "1"),
        ("visibility", "secret"),
        ("member_status", "maybe"),
        ("changes-since", "2024-01-01"),
    ] {
        assert!(filters(&[(key, value)]).is_err(), "{key}");
    }
}

#[test]
fn tags_add_up_and_other_parameters_override() {
    let found = filters(&[("tag", "a"), ("tag", "b"), ("tags", "c"), ("name", "x"), ("name", "y")]).unwrap();
    assert_eq!(found.filters.len(), 4);
    assert!(found.filters.contains(&names(&["y"])));
    assert!(found.filters.contains(&Filter::Tag("a".to_owned())));
}

#[test]
fn what_is_not_known_is_a_property() {
    for key in ["is_public", "locations", "members", "properties", "__proto__"] {
        assert_eq!(one(key, "v"), Filter::Property { name: key.into(), value: "v".into() });
    }
    assert!(filters(&[("deleted", "true"), ("limit", "x"), ("marker", "y")]).unwrap().filters.is_empty());
}
