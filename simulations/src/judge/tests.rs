//! Histories made by hand: good ones pass, and each way to be wrong is found.

use serde_json::{Value, json};

use super::*;

fn line(at: (u64, u64), ending: &str, call: Value) -> String {
    let mut line = json!({"at": [at.0, at.1], "node": "a", "image": "i", "ending": ending});
    for (key, value) in call.as_object().unwrap() {
        line[key] = value.clone();
    }
    line.to_string()
}

fn create(at: (u64, u64)) -> String {
    line(at, "done", json!({"what": "create", "record": {"name": "n", "min_ram": 0}}))
}

fn patch(at: (u64, u64), ending: &str, ram: u64) -> String {
    let changes = json!([{"op": "replace", "path": "/min_ram", "value": ram}]);
    line(at, ending, json!({"what": "patch", "changes": changes}))
}

fn document(ram: u64, status: &str) -> Value {
    json!({"id": "i", "status": status, "name": "n", "min_ram": ram, "tags": []})
}

fn get(at: (u64, u64), ram: u64) -> String {
    line(at, "done", json!({"what": "get", "saw": document(ram, "queued")}))
}

fn upload(at: (u64, u64), ending: &str) -> String {
    let content = json!({"size": 3, "md5": "m", "sha512": "s"});
    line(at, ending, json!({"what": "upload", "content": content}))
}

fn download(at: (u64, u64), fits: &[&str], bytes: u64) -> String {
    line(at, "done", json!({"what": "download", "fits": fits, "bytes": bytes}))
}

fn violations(lines: &[String]) -> usize {
    judge(&lines.join("\n")).unwrap().violations.len()
}

/// Without this the other tests prove nothing: an orderly history has to pass.
#[test]
fn a_good_history_passes() {
    let deleted = line((70, 71), "done", json!({"what": "delete"}));
    let gone = line((80, 81), "done", json!({"what": "get", "saw": null}));
    let listed = line((45, 46), "done", json!({"what": "list", "image": "", "saw": [document(5, "queued")]}));
    let active = json!({"id": "i", "status": "active", "name": "n", "min_ram": 5, "tags": [],
        "size": 3, "checksum": "m", "os_hash_value": "s"});
    let read = line((62, 63), "done", json!({"what": "get", "saw": active}));
    let good = [
        create((1, 2)),
        patch((10, 20), "done", 5),
        get((15, 16), 0),
        get((17, 18), 5),
        get((30, 31), 5),
        listed,
        upload((50, 55), "done"),
        download((60, 61), &["s"], 3),
        read,
        deleted,
        gone,
    ];
    assert_eq!(violations(&good), 0);
}

/// The follower that answers from its own state: the change was acknowledged before the read began.
#[test]
fn a_stale_read_is_found() {
    assert_eq!(violations(&[create((1, 2)), patch((10, 20), "done", 5), get((21, 22), 0)]), 1);
}

/// The same across two reads of a change that nobody was told of: it may not be seen and then be gone.
#[test]
fn a_read_that_goes_back_is_found() {
    let base = [create((1, 2)), patch((10, 20), "unknown", 5)];
    let seen = |first, second| [base.to_vec(), vec![get((30, 31), first), get((40, 41), second)]].concat();
    assert_eq!(violations(&seen(0, 5)), 0, "it may happen after it was given up");
    assert_eq!(violations(&seen(5, 0)), 1);
}

/// An acknowledged write that is missing at the end, in the record and in the list.
#[test]
fn a_lost_write_is_found() {
    let gone = line((80, 81), "done", json!({"what": "get", "saw": null}));
    let unlisted = line((80, 81), "done", json!({"what": "list", "image": "", "saw": []}));
    assert_eq!(violations(&[create((1, 2)), gone]), 1);
    assert_eq!(violations(&[create((1, 2)), unlisted]), 1);
    assert_eq!(violations(&[create((1, 2)), upload((3, 4), "done"), get((80, 81), 0)]), 1);
    assert_eq!(violations(&[create((1, 2)), upload((3, 4), "done"), download((80, 81), &[], 0)]), 1);
}

/// A write that was refused, or never sent, must leave no trace.
#[test]
fn a_refused_write_that_happened_is_found() {
    assert_eq!(violations(&[create((1, 2)), patch((10, 20), "never", 5), get((30, 31), 5)]), 1);
}

/// A refusal needs a state that explains it: a delete of an image that is there is not answered 404.
#[test]
fn a_refusal_without_a_reason_is_found() {
    let refused = line((10, 11), "refused", json!({"what": "delete", "status": 404}));
    assert_eq!(violations(&[create((1, 2)), refused]), 1);
}

/// Bytes that nobody uploaded, and an image that stays in `saving` after every upload ended for good.
#[test]
fn wrong_bytes_and_a_stuck_upload_are_found() {
    let base = [create((1, 2)), upload((3, 4), "unknown")];
    let then = |line: String| [base.to_vec(), vec![line]].concat();
    let saving = line((20, 21), "done", json!({"what": "get", "saw": document(0, "saving")}));
    let settled = line((10, 10), "done", json!({"what": "settle", "image": ""}));
    assert_eq!(violations(&then(saving.clone())), 0);
    assert_eq!(violations(&[then(settled), vec![saving]].concat()), 1);
    assert_eq!(violations(&then(download((20, 21), &[], 3))), 1);
    assert_eq!(violations(&then(download((20, 21), &["s"], 3))), 0);
}

/// What cannot be read is an error, not a pass.
#[test]
fn nonsense_is_refused() {
    assert!(judge("{}").is_err());
    assert!(judge(&create((2, 1))).is_err());
}
