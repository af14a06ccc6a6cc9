//! What the nodes of all tests of this process write to the log, warnings and worse.

use std::io;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

static WRITTEN: Mutex<String> = Mutex::new(String::new());

/// Begin to listen, if nobody does yet.
pub(crate) fn listen() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let lines = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::WARN);
        // Fails if somebody else listens, and then the tests that ask say so.
        let _ = lines.with_writer(|| Writer).try_init();
    });
}

/// Wait until somebody wrote `text`.
pub(crate) async fn wait_for(text: &str) {
    let began = Instant::now();
    while !written().contains(text) {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody wrote {text:?}:\n{}", written());
        sleep(Duration::from_millis(20)).await;
    }
}

fn written() -> String {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
