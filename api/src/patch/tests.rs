//! The PATCH table of both media types.

use peerglass_catalog::Visibility;
use serde_json::json;

use super::*;

fn parse(document: &Value, spelling: Spelling) -> Result<Patch, PatchProblem> {
    Patch::parse(document, MediaType(spelling), &ApiSettings::default())
}

fn edits(document: &Value, spelling: Spelling) -> Result<Vec<Edit>, PatchProblem> {
    parse(document, spelling)?.into_edits()
}

fn set(presence: Presence) -> Vec<Edit> {
    vec![Edit::SetProperty { name: "k".into(), value: "v".into(), presence }]
}

#[test]
fn core_members_can_be_set_but_not_removed() {
    for op in ["add", "replace"] {
        let patch = json!([{"op": op, "path": "/visibility", "value": "public"}]);
        assert_eq!(edits(&patch, Spelling::V21).unwrap(), [Edit::Visibility(Visibility::Public)]);
    }
    let replace = json!([{"replace": "/name", "value": null}]);
    assert_eq!(edits(&replace, Spelling::V20).unwrap(), [Edit::Name(None)]);
    let add = json!([{"add": "/name", "value": "x"}]);
    assert_eq!(edits(&add, Spelling::V20), Err(PatchProblem::Exists("name".into())));
    for name in ["name", "visibility", "tags", "min_ram", "owner", "disk_format"] {
        let path = format!("/{name}");
        for (patch, spelling) in [
            (json!([{"op": "remove", "path": path}]), Spelling::V21),
            (json!([{"remove": path}]), Spelling::V20),
        ] {
            assert_eq!(edits(&patch, spelling), Err(PatchProblem::NotRemovable(name.into())));
        }
    }
}

/// What a property must be before depends on the operation and on the media type.
#[test]
fn presence_follows_the_operation() {
    let v21 = |op| json!([{"op": op, "path": "/k", "value": "v"}]);
    assert_eq!(edits(&v21("add"), Spelling::V21).unwrap(), set(Presence::Any));
    assert_eq!(edits(&v21("replace"), Spelling::V21).unwrap(), set(Presence::Present));
    assert_eq!(edits(&json!([{"add": "/k", "value": "v"}]), Spelling::V20).unwrap(), set(Presence::Absent));
    assert_eq!(
        edits(&json!([{"replace": "/k", "value": "v"}]), Spelling::V20).unwrap(),
        set(Presence::Present)
    );
    let removed = [Edit::RemoveProperty("k".into())];
    assert_eq!(edits(&json!([{"remove": "/k"}]), Spelling::V20).unwrap(), removed);
    assert_eq!(edits(&json!([{"op": "remove", "path": "/k"}]), Spelling::V21).unwrap(), removed);
}

#[test]
fn the_service_s_own_members_are_refused() {
    for name in [
        "id",
        "created_at",
        "updated_at",
        "status",
        "checksum",
        "size",
        "virtual_size",
        "direct_url",
        "self",
        "file",
        "schema",
        "stores",
        "os_hash_algo",
        "os_hash_value",
    ] {
        for op in ["add", "replace", "remove"] {
            let patch = json!([{"op": op, "path": format!("/{name}"), "value": "x"}]);
            let refused = PatchProblem::Document(DocumentProblem::ReadOnly(name.into()));
            assert_eq!(parse(&patch, Spelling::V21), Err(refused), "{op} {name}");
        }
    }
    for name in ["location", "deleted", "deleted_at", "os_glance_x", "os_glancex"] {
        let patch = json!([{"op": "add", "path": format!("/{name}"), "value": "x"}]);
        let refused = PatchProblem::Document(DocumentProblem::Reserved(name.into()));
        assert_eq!(parse(&patch, Spelling::V21), Err(refused), "{name}");
    }
}

#[test]
fn locations_are_closed_and_their_paths_still_checked() {
    for patch in [
        json!([{"op": "add", "path": "/locations/-", "value": {}}]),
        json!([{"op": "replace", "path": "/locations", "value": []}]),
        json!([{"op": "remove", "path": "/locations/0"}]),
    ] {
        assert_eq!(edits(&patch, Spelling::V21), Err(PatchProblem::Locations));
    }
    for patch in [
        json!([{"op": "add", "path": "/locations", "value": []}]),
        json!([{"op": "remove", "path": "/locations"}]),
        json!([{"op": "replace", "path": "/locations/0", "value": {}}]),
        json!([{"op": "replace", "path": "/tags/-", "value": "x"}]),
        json!([{"op": "add", "path": "/a/b/c", "value": "x"}]),
    ] {
        assert!(matches!(parse(&patch, Spelling::V21), Err(PatchProblem::Depth { .. })), "{patch}");
    }
}

/// RB-27.
#[test]
fn malformed_operations_are_refused() {
    for patch in [
        json!({}),
        json!("x"),
        json!([1]),
        json!([{"path": "/k", "value": "v"}]),
        json!([{"op": "test", "path": "/k", "value": "v"}]),
        json!([{"op": "copy", "path": "/k", "from": "/a"}]),
        json!([{"op": "move", "path": "/k", "from": "/a"}]),
        json!([{"op": 1, "path": "/k", "value": "v"}]),
        json!([{"op": "add", "value": "v"}]),
        json!([{"op": "add", "path": 7, "value": "v"}]),
        json!([{"op": "add", "path": "/k"}]),
        json!([{"op": "add", "path": "k", "value": "v"}]),
        json!([{"op": "add", "path": "/k~2", "value": "v"}]),
        json!([{"op": "add", "path": "/k", "value": 1}]),
        json!([{"op": "add", "path": "/k", "value": null}]),
        json!([{"op": "add", "path": "/min_ram", "value": null}]),
        json!([{"op": "add", "path": "/min_disk", "value": 2_147_483_648_u64}]),
        json!([{"add": "/k", "value": "v"}]),
    ] {
        assert!(parse(&patch, Spelling::V21).is_err(), "{patch}");
    }
    for patch in [
        json!([{"add": "/k", "remove": "/k", "value": "v"}]),
        json!([{"op": "add", "path": "/k", "value": "v"}]),
    ] {
        assert_eq!(parse(&patch, Spelling::V20), Err(PatchProblem::Operation));
    }
}

#[test]
fn ten_thousand_operations_keep_their_order() {
    let operations: Vec<Value> =
        (0..10_000).map(|n| json!({"op": "add", "path": "/k", "value": n.to_string()})).collect();
    let edits = edits(&Value::Array(operations), Spelling::V21).unwrap();
    assert_eq!(edits.len(), 10_000);
    assert!(matches!(edits.last(), Some(Edit::SetProperty { value, .. }) if value == "9999"));
}

#[test]
fn media_types_are_compared_without_parameters_and_case() {
    let of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        }
        MediaType::of(&headers).map(|media_type| media_type.0)
    };
    assert_eq!(of(&[V21]), Ok(Spelling::V21));
    assert_eq!(of(&["application/OpenStack-images-v2.0-json-patch; charset=utf-8"]), Ok(Spelling::V20));
    for values in [&[][..], &["application/json-patch+json"], &["application/json"], &[V21, V20]] {
        assert_eq!(of(values), Err(PatchProblem::MediaType), "{values:?}");
    }
}
