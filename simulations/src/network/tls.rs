//! TLS that repeats: ring's, but for what it draws from the machine.
//!
//! Datagrams that depend on the seed alone make a run that does. How far a receiver gets with a packet
//! that was damaged, or that comes after its connection has ended, depends on every byte of it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use curve25519_dalek::MontgomeryPoint;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};

use crate::dice::Dice;

thread_local! {
    /// A world has a thread, and a thread at most one world at a time.
    static DICE: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// What TLS draws on this thread depends on `seed` from now on.
pub(crate) fn begin(seed: u64) {
    DICE.set(Some(Dice::new(seed, "tls")));
}

/// TLS for the nodes of a world that [began](begin) on this thread.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![&Repeatable],
        secure_random: &Repeatable,
        ..rustls::crypto::ring::default_provider()
    })
}

/// As its name says, no secret is safe with it.
#[derive(Debug)]
struct Repeatable;

impl SecureRandom for Repeatable {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        DICE.with_borrow_mut(|dice| {
            let dice = dice.as_mut().ok_or(GetRandomFailed)?;
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&dice.number().to_le_bytes()[..chunk.len()]);
            }
            Ok(())
        })
    }
}

impl SupportedKxGroup for Repeatable {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.fill(&mut secret)?;
        Ok(Box::new(X25519 { secret, public: MontgomeryPoint::mul_base_clamped(secret) }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// RFC 7748; ring's own takes its secrets from the machine.
struct X25519 {
    secret: [u8; 32],
    public: MontgomeryPoint,
}

impl ActiveKeyExchange for X25519 {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        Ok(SharedSecret::from(&MontgomeryPoint(peer).mul_clamped(self.secret).to_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl fmt::Debug for X25519 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("X25519")
    }
}
