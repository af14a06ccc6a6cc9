//! What this service offers: stores and import methods. Clients ask before they upload.

use axum::http::StatusCode;
use serde_json::json;

use super::PEER_STORE;
use crate::call::{Answer, Call};
use crate::front;
use crate::policy::Target;

/// `GET /v2/info/import`: none yet.
pub(crate) fn import_methods(call: &Call) -> Answer {
    call.check(Target::Service)?;
    let methods = json!({
        "import-methods": {"description": "Import methods available.", "type": "array", "value": []}
    });
    Ok(front::json(StatusCode::OK, methods.to_string()))
}

/// `GET /v2/info/stores`. The flag is the text "true" because clients compare it so.
pub(crate) fn stores(call: &Call) -> Answer {
    call.check(Target::Service)?;
    let peer = json!({"id": PEER_STORE, "description": "The disks of the nodes", "default": "true"});
    Ok(front::json(StatusCode::OK, json!({"stores": [peer]}).to_string()))
}
