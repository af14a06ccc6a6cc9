//! How clients sign in at this node, and the file of users, read again when an operator asks for it.
//!
//! A file that cannot be used changes nothing while the node runs: whoever could sign in still can.

use std::path::{Path, PathBuf};

use peerglass_api::{Auth, Htpasswd, HtpasswdError};

use crate::config::{AuthMode, AuthSection};

/// What clients are checked against.
pub(crate) enum SignIn {
    /// Nothing.
    Open,
    /// The users of a file.
    Users(PathBuf, Htpasswd),
}

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is malformed.
    #[error(transparent)]
    Malformed(#[from] HtpasswdError),
}

/// Whether the file of users, if `section` names one, can be read and used.
pub fn check_users(section: &AuthSection) -> Result<(), UsersError> {
    SignIn::new(section).map(|_| ())
}

impl SignIn {
    /// As the settings say. Reads the file of users.
    pub(crate) fn new(section: &AuthSection) -> Result<Self, UsersError> {
        match section.mode {
            AuthMode::None => Ok(Self::Open),
            AuthMode::HttpBasic => {
                let path = section.htpasswd.clone();
                let users = Htpasswd::parse(&path.display().to_string(), &read(&path)?)?;
                Ok(Self::Users(path, users))
            }
        }
    }

    /// What the API checks callers by. It follows [`reload`](Self::reload).
    pub(crate) fn auth(&self) -> Auth {
        match self {
            Self::Open => Auth::None,
            Self::Users(_, users) => Auth::HttpBasic(users.clone()),
        }
    }

    /// Read the file of users again, if there is one, and say what came of it.
    pub(crate) fn reload(&self) {
        let Self::Users(path, users) = self else {
            tracing::info!("there is no file of users to read again");
            return;
        };
        let file = path.display();
        let reloaded = read(path).and_then(|text| Ok(users.reload(&file.to_string(), &text)?));
        match reloaded {
            Ok(()) => tracing::info!(%file, "the users were read again"),
            Err(error) => tracing::error!(%error, "the users were not read again, those of before stay"),
        }
    }
}

fn read(path: &Path) -> Result<String, UsersError> {
    std::fs::read_to_string(path).map_err(|source| UsersError::Unreadable { path: path.to_owned(), source })
}
