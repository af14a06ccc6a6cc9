//! A caller whose identity was established.

use std::collections::BTreeSet;
use std::sync::Arc;

use peerglass_catalog::Viewer;

/// Who makes a request. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    user: Option<String>,
    viewer: Viewer,
    member: bool,
    reader: bool,
}

impl Caller {
    /// A caller named `user` who acts for `project` with these roles.
    pub(crate) fn new(user: Option<String>, project: Option<String>, roles: BTreeSet<String>) -> Self {
        let has = |role: &str| roles.iter().any(|held| held.eq_ignore_ascii_case(role));
        Self(Arc::new(Identity {
            user,
            viewer: Viewer { admin: has("admin"), project },
            member: has("member"),
            reader: has("reader"),
        }))
    }

    /// The user's name, for logs.
    pub(crate) fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// What the caller may see.
    pub(crate) fn viewer(&self) -> &Viewer {
        &self.0.viewer
    }

    /// The project the caller acts for.
    pub(crate) fn project(&self) -> Option<&str> {
        self.0.viewer.project.as_deref()
    }

    /// Holds the role `admin`.
    pub(crate) fn is_admin(&self) -> bool {
        self.0.viewer.admin
    }

    /// Holds the role `member`.
    pub(crate) fn is_member(&self) -> bool {
        self.0.member
    }

    /// Holds the role `reader`.
    pub(crate) fn is_reader(&self) -> bool {
        self.0.reader
    }
}
