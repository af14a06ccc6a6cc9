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

/// Wait until somebody wrote a line with all of `parts`. They have to name one of the lab's own nodes: tests run side
/// by side, and all of them are heard.
pub(crate) async fn wait_for(parts: &[&str]) {
    wait_for_lines(1, parts).await;
}

/// Wait until so many such lines were written.
pub(crate) async fn wait_for_lines(count: usize, parts: &[&str]) {
    let began = Instant::now();
    loop {
        let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = written.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        if found >= count {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{found} of {count} lines {parts:?}:\n{written}");
        sleep(Duration::from_millis(20)).await;
    }
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
