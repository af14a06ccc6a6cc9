//! The htpasswd file's grammar.

use std::collections::{BTreeMap, BTreeSet};

/// One line of the file.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) hash: String,
    pub(super) project: String,
    pub(super) roles: BTreeSet<String>,
}

/// A line that cannot be meant. Nothing of the file is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct HtpasswdError {
    /// The file's name, as it was given.
    pub file: String,
    /// Counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong there.
    pub problem: HtpasswdProblem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdProblem {
    /// Fewer than two or more than four fields.
    #[error("expected user:bcrypt-hash, optionally followed by :project and :role,role")]
    Fields,
    /// No user name.
    #[error("the user name is empty")]
    NoUser,
    /// Not a bcrypt hash.
    #[error("the password is not a bcrypt hash; make one with: htpasswd -nB USER")]
    NotBcrypt,
    /// The project was given and is empty.
    #[error("the project is empty; leave the field out to use the user's name")]
    NoProject,
    /// A role is empty or there is none.
    #[error("a role is empty; leave the field out for member,reader")]
    NoRole,
    /// The user was on an earlier line.
    #[error("the user is listed twice")]
    Twice,
    /// Nobody could sign in.
    #[error("there is no user in the file")]
    Nobody,
}

pub(super) fn parse(file: &str, text: &str) -> Result<BTreeMap<String, User>, HtpasswdError> {
    let at = |line, problem| HtpasswdError { file: file.to_owned(), line, problem };
    let mut users = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, user) = parse_line(line).map_err(|problem| at(index + 1, problem))?;
        if users.insert(name, user).is_some() {
            return Err(at(index + 1, HtpasswdProblem::Twice));
        }
    }
    if users.is_empty() { Err(at(0, HtpasswdProblem::Nobody)) } else { Ok(users) }
}

fn parse_line(line: &str) -> Result<(String, User), HtpasswdProblem> {
    let fields: Vec<&str> = line.split(':').collect();
    let (name, hash, project, roles) = match fields.as_slice() {
        [name, hash] => (name, hash, name, "member,reader"),
        [name, hash, project] => (name, hash, project, "member,reader"),
        [name, hash, project, roles] => (name, hash, project, *roles),
        _ => return Err(HtpasswdProblem::Fields),
    };
    if name.is_empty() {
        return Err(HtpasswdProblem::NoUser);
    }
    if hash.parse::<bcrypt::HashParts>().is_err() {
        return Err(HtpasswdProblem::NotBcrypt);
    }
    if project.is_empty() {
        return Err(HtpasswdProblem::NoProject);
    }
    let roles: BTreeSet<String> = roles.split(',').map(|role| role.trim().to_lowercase()).collect();
    if roles.contains("") {
        return Err(HtpasswdProblem::NoRole);
    }
    let user = User { hash: (*hash).to_owned(), project: (*project).to_owned(), roles };
    Ok(((*name).to_owned(), user))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$10$abcdefghijklmnopqrstuuDZ9YpLAa7bmGcuKZ2Jf1bs0xzVkXnbe";

    #[test]
    fn project_and_roles_have_defaults() {
        let users = parse("f", &format!("# people\n\nann:{HASH}\nbob:{HASH}:lab:Admin, reader\n")).unwrap();
        assert_eq!(users["ann"].project, "ann");
        assert!(users["ann"].roles.iter().eq(["member", "reader"]));
        assert_eq!(users["bob"].project, "lab");
        assert!(users["bob"].roles.iter().eq(["admin", "reader"]));
    }

    #[test]
    fn a_bad_line_is_named_by_file_and_number() {
        for (line, problem) in [
            ("ann".to_owned(), HtpasswdProblem::Fields),
            (format!("ann:{HASH}:p:r:x"), HtpasswdProblem::Fields),
            (format!(":{HASH}"), HtpasswdProblem::NoUser),
            ("ann:secret".to_owned(), HtpasswdProblem::NotBcrypt),
            ("ann:$apr1$x$y".to_owned(), HtpasswdProblem::NotBcrypt),
            (format!("ann:{HASH}:"), HtpasswdProblem::NoProject),
            (format!("ann:{HASH}:p:a,,b"), HtpasswdProblem::NoRole),
            (format!("ann:{HASH}\nann:{HASH}"), HtpasswdProblem::Twice),
        ] {
            let error = parse("users", &format!("# head\n{line}")).unwrap_err();
            assert_eq!(error.problem, problem, "{line}");
            assert!(error.to_string().starts_with("users:"), "{error}");
        }
        assert_eq!(parse("users", "# nobody").unwrap_err().problem, HtpasswdProblem::Nobody);
    }
}
