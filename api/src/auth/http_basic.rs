//! Sign-in by user name and password, checked against an htpasswd file.
//!
//! A line is `user:bcrypt-hash`, optionally followed by `:project` and `:role,role`. The project
//! defaults to the user's name and the roles to member and reader. Lines that are empty or begin
//! with `#` are comments.
//!
//! # What it promises
//!
//! * An unknown user costs as much time as a wrong password, so names cannot be guessed by timing.
//! * At most a configured number of passwords are checked at once, and a bounded number wait for that.
//! * A user whose password is remembered waits for nobody.
//! * A verified password is remembered as a keyed digest, never as itself, and only until the file
//!   is reloaded.

mod checks;
mod file;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, header};

use super::{Caller, Unauthenticated};

pub(crate) use checks::PasswordChecks;
use file::User;
pub use file::{HtpasswdError, HtpasswdProblem};

/// Verified passwords remembered at once; the oldest goes first.
const REMEMBERED_MAX: usize = 1024;
/// Longest `Authorization` value looked at. Real ones are far below; bcrypt reads 72 bytes.
const CREDENTIALS_BYTES_MAX: usize = 4096;

/// The users of one htpasswd file. Cheap to clone; clones share reloads.
#[derive(Clone, Debug)]
pub struct Htpasswd(Arc<Mutex<Users>>);

#[derive(Debug)]
struct Users {
    by_name: BTreeMap<String, User>,
    remembered: Remembered,
    generation: u64,
}

#[derive(Debug, Default)]
struct Remembered {
    callers: BTreeMap<[u8; 32], Caller>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl Htpasswd {
    /// The users in `text`, which came from the file `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, HtpasswdError> {
        let by_name = file::parse(name, text)?;
        Ok(Self(Arc::new(Mutex::new(Users { by_name, remembered: Remembered::default(), generation: 0 }))))
    }

    /// Replace all users by those in `text`. On an error nothing changes.
    pub fn reload(&self, name: &str, text: &str) -> Result<(), HtpasswdError> {
        let by_name = file::parse(name, text)?;
        let mut users = self.users();
        users.by_name = by_name;
        users.remembered = Remembered::default();
        users.generation += 1;
        Ok(())
    }

    pub(super) async fn caller(
        &self,
        headers: &HeaderMap,
        remote: Option<IpAddr>,
        checks: &PasswordChecks,
    ) -> Result<Caller, Unauthenticated> {
        let (name, password) = credentials(headers).ok_or(Unauthenticated::Basic)?;
        let digest = digest(&checks.key, &name, &password);
        let (user, hash, generation) = {
            let users = self.users();
            // A digest is compared by value in an ordered map. That is not constant time, but the
            // digest is keyed: what the time tells about it tells nothing about the password.
            if let Some(caller) = users.remembered.callers.get(&digest) {
                return Ok(caller.clone());
            }
            let user = users.by_name.get(&name).cloned();
            let hash =
                user.as_ref().map_or_else(|| users.decoy(&checks.key, &name), |user| user.hash.clone());
            (user, hash, users.generation)
        };
        let right = checks.check((digest, generation), remote, password, hash).await?;
        let Some(user) = user.filter(|_| right) else { return Err(Unauthenticated::Basic) };
        let caller = Caller::new(Some(name), Some(user.project), user.roles);
        let mut users = self.users();
        if users.generation == generation {
            users.remembered.insert(digest, caller.clone());
        }
        Ok(caller)
    }

    fn users(&self) -> std::sync::MutexGuard<'_, Users> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// The hash to check when nobody has this name: somebody's, always the same for one name, so that
    /// the answer takes as long as for a user of this file, whatever its hashes cost.
    fn decoy(&self, key: &[u8; 32], name: &str) -> String {
        let [first, second, ..] = digest(key, name, "");
        let place = usize::from(u16::from_le_bytes([first, second])) % self.by_name.len().max(1);
        self.by_name.values().nth(place).map(|user| user.hash.clone()).unwrap_or_default()
    }
}

impl Remembered {
    fn insert(&mut self, digest: [u8; 32], caller: Caller) {
        if self.callers.insert(digest, caller).is_none() {
            self.oldest_first.push_back(digest);
        }
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.callers.remove(&oldest);
        }
    }
}

fn digest(key: &[u8; 32], user: &str, password: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // The length keeps ("ab", "c") and ("a", "bc") apart.
    hasher.update(&(user.len() as u64).to_le_bytes()).update(user.as_bytes()).update(password.as_bytes());
    *hasher.finalize().as_bytes()
}

/// User name and password from an `Authorization: Basic` header.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() || value.len() > CREDENTIALS_BYTES_MAX {
        return None;
    }
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(base64(encoded.trim().as_bytes())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Standard base64, padding optional; `None` for any other byte.
fn base64(encoded: &[u8]) -> Option<Vec<u8>> {
    let digits = encoded.strip_suffix(b"==").or_else(|| encoded.strip_suffix(b"=")).unwrap_or(encoded);
    let mut decoded = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            decoded.push((bits >> held & 0xff) as u8);
        }
        bits &= (1 << held) - 1;
    }
    (held != 6).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_what_clients_send_and_nothing_else() {
        assert_eq!(base64(b"YWxpY2U6cw==").as_deref(), Some(&b"alice:s"[..]));
        assert_eq!(base64(b"YWxpY2U6cw").as_deref(), Some(&b"alice:s"[..]));
        assert_eq!(base64(b"YTpi").as_deref(), Some(&b"a:b"[..]));
        assert_eq!(base64(b"a"), None);
        assert_eq!(base64(b"YT pi"), None);
    }

    #[test]
    fn memory_of_passwords_is_bounded() {
        let mut remembered = Remembered::default();
        for number in 0..2 * REMEMBERED_MAX as u64 {
            let digest = *blake3::hash(&number.to_le_bytes()).as_bytes();
            remembered.insert(digest, Caller::new(None, None, std::collections::BTreeSet::new()));
        }
        assert_eq!(remembered.callers.len(), REMEMBERED_MAX);
        assert_eq!(remembered.oldest_first.len(), REMEMBERED_MAX);
    }

    /// SEC-37: an unknown name is checked against a hash of this file, the same one each time.
    #[test]
    fn an_unknown_name_costs_what_a_known_one_does() {
        const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuDZ9YpLAa7bmGcuKZ2Jf1bs0xzVkXnbe";
        let users = Htpasswd::parse("f", &format!("ann:{HASH}\n")).unwrap();
        assert_eq!(users.users().decoy(&[7; 32], "nobody"), HASH);
    }
}
