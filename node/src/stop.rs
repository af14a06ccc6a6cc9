//! What signals ask of a node: to stop, or to read again what may change while it runs.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, from now on. It no longer ends the process, also while the node starts or stops.
pub struct Reloads(Signal);

impl Reloads {
    /// Listen for them.
    pub fn listen() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Resolves at the next one. Those that came before anybody asked are one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime has ended, and with it whoever asks.
            std::future::pending().await
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT.
pub async fn requested() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
