//! No sign-in: Glance without an identity service.

use std::sync::OnceLock;

use super::Caller;

/// Everybody: an administrator who belongs to no project.
pub(super) fn caller() -> Caller {
    static EVERYBODY: OnceLock<Caller> = OnceLock::new();
    EVERYBODY
        .get_or_init(|| {
            let roles = ["admin", "member", "reader"].map(str::to_owned);
            Caller::new(None, None, roles.into_iter().collect())
        })
        .clone()
}
