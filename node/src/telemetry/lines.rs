//! Log lines on their way out.
//!
//! # What it promises
//!
//! * Lines come out whole and in the order in which they were logged.
//! * A warning or an error is out before the call that logged it returns, and so is all that came before. Other
//!   lines follow within [`DELAY`]: a node that serves thousands of requests a second makes some
//!   twenty writes of their access log instead of thousands. Only a killed process loses those.
//! * What waits stays below [`WAITING_BYTES_MAX`], or is a single longer line; who logs more writes it himself, at
//!   the pace of whoever reads the log.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line may wait for others.
const DELAY: Duration = Duration::from_millis(50);

/// Bytes that may wait.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// Where lines wait. Clones share it.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or the log ends.
    stirred: Condvar,
}

struct Queue {
    waiting: Vec<u8>,
    out: Box<dyn Write + Send>,
    ended: bool,
}

impl Queue {
    /// A log that nobody reads any more must not stop the node.
    fn write_out(&mut self) {
        let _ = self.out.write_all(&self.waiting).and_then(|()| self.out.flush());
        self.waiting.clear();
    }
}

/// Held while the program runs: dropping it writes what waits.
pub struct Logging {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.lines.queue().ended = true;
        self.lines.0.stirred.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // a panic in it was reported
        }
        self.lines.queue().write_out();
    }
}

impl Lines {
    /// Lines that go to `out`, written by a thread of their own until the second value is dropped.
    pub(super) fn to(out: Box<dyn Write + Send>) -> (Self, Logging) {
        let queue = Queue { waiting: Vec::with_capacity(WAITING_BYTES_MAX), out, ended: false };
        let lines = Self(Arc::new(Shared { queue: Mutex::new(queue), stirred: Condvar::new() }));
        let ours = lines.clone();
        // Without the thread each line is written at once.
        let writer = std::thread::Builder::new().name("log".into()).spawn(move || ours.write_now_and_then());
        lines.queue().ended = writer.is_err();
        (lines.clone(), Logging { lines, writer: writer.ok() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_now_and_then(&self) {
        let stirred = &self.0.stirred;
        let mut queue = self.queue();
        while !queue.ended {
            let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.ended;
            queue = stirred.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
            let gathers = |queue: &mut Queue| !queue.ended;
            let gathered = stirred.wait_timeout_while(queue, DELAY, gathers);
            queue = gathered.unwrap_or_else(PoisonError::into_inner).0;
            queue.write_out();
        }
    }
}

/// One line; `tracing_subscriber` writes it in one piece.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.lines.queue();
        if queue.waiting.len() + line.len() > WAITING_BYTES_MAX {
            queue.write_out();
        }
        let first = queue.waiting.is_empty();
        queue.waiting.extend_from_slice(line);
        if self.urgent || queue.ended {
            queue.write_out();
        } else if first {
            self.lines.0.stirred.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end of a log that a test can look at.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.lock().unwrap().push(bytes.to_vec());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().concat()).unwrap()
        }
    }

    fn log(lines: &Lines, line: &str, urgent: bool) {
        Line { lines, urgent }.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn a_warning_takes_everything_before_it_along_at_once() {
        let paper = Paper::default();
        let (lines, _logging) = Lines::to(Box::new(paper.clone()));
        log(&lines, "request\n", false);
        log(&lines, "trouble\n", true);
        assert_eq!(paper.text(), "request\ntrouble\n");
    }

    #[test]
    fn the_end_writes_what_waits_and_later_lines_go_out_at_once() {
        let paper = Paper::default();
        let (lines, logging) = Lines::to(Box::new(paper.clone()));
        log(&lines, "one\n", false);
        drop(logging);
        assert_eq!(paper.text(), "one\n");
        log(&lines, "two\n", false);
        assert_eq!(paper.text(), "one\ntwo\n");
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_share_writes() {
        let paper = Paper::default();
        let (lines, logging) = Lines::to(Box::new(paper.clone()));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || (0..2_000).for_each(|n| log(lines, &format!("{thread} {n}\n"), false)));
            }
        });
        drop(logging);
        for thread in 0..4 {
            let text = paper.text();
            let of_thread = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(of_thread.eq((0..2_000).map(|n| n.to_string())), "thread {thread}");
        }
        let writes = paper.0.lock().unwrap().len();
        assert!(writes < 1_000, "8,000 lines took {writes} writes");
        assert!(paper.0.lock().unwrap().iter().all(|write| write.len() <= WAITING_BYTES_MAX));
    }

    #[test]
    fn a_line_comes_out_though_none_follows() {
        let paper = Paper::default();
        let (lines, _logging) = Lines::to(Box::new(paper.clone()));
        log(&lines, "alone\n", false);
        let mut looks = 0;
        while paper.text() != "alone\n" {
            looks += 1;
            assert!(looks < 1_000, "the line never came out");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
