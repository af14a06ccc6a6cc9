//! `cluster status` for people.

use std::fmt::Write;

use serde_json::Value;

/// Columns: their heads, and each member's cells.
const HEADS: [&str; 8] = ["NODE", "PEER", "ADDRESS", "SITE", "RACK", "STATE", "LAG", "SILENT"];

/// The cluster that `document` describes, as text.
pub(super) fn of(document: &Value) -> String {
    let status = &document["status"];
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(members.iter().map(|member| row(status, member)));
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let leader = status["leader"].as_str().unwrap_or("nobody");
    let stored_mib = document["stored_bytes"].as_u64().unwrap_or(0) >> 20;
    let _ = writeln!(
        text,
        "cluster {}, asked node {}, version {}, {stored_mib} MiB of images stored on it\nterm {}, led by {leader}; log to {}, committed to {}, applied to {}",
        word(&status["cluster"]),
        word(&status["node"]),
        word(&document["version"]),
        status["term"],
        status["last_log"],
        status["committed"],
        status["applied"],
    );
    text
}

fn row(status: &Value, member: &Value) -> [String; 8] {
    let voter = member["voter"] == true;
    let state = match (status["leader"] == member["node"], voter, word(&member["role"])) {
        (true, ..) => "leader",
        (false, true, _) => "voter",
        (false, false, "voter") => "learner, may vote",
        (false, false, _) => "learner",
    };
    let state = if member["out"] == true { format!("{state}, out") } else { state.to_owned() };
    // Only the leader hears of others, and not of itself.
    let asks_leader = status["leader"] == status["node"] && status["leader"].is_string();
    let unheard = if asks_leader && member["node"] != status["node"] { "never" } else { "-" };
    [
        word(&member["node"]).to_owned(),
        word(&member["peer"]).to_owned(),
        or_dash(word(&member["address"])),
        or_dash(word(&member["site"])),
        or_dash(word(&member["rack"])),
        state,
        member["lag"].as_u64().map_or("?".to_owned(), |lag| lag.to_string()),
        member["silent_ms"].as_u64().map_or(unheard.to_owned(), |ms| format!("{ms} ms")),
    ]
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
