//! Log lines on their way to standard error.
//!
//! Logging never blocks: a line goes into a bounded queue, and one thread writes it within [`WRITE_INTERVAL`]. Standard error may be
//! a pipe that is not read (a blocking log driver, a paused terminal). Then lines are dropped and counted, and the service goes on.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::fmt::MakeWriter;

use super::repeat_limiter::RepeatLimiter;

/// Bytes that may wait, with the lines that are being written.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// What a line costs beside its text.
const LINE_OVERHEAD_BYTES: usize = 32;
/// How long a writer waits when standard error is a pipe that does not block and is full.
const RETRY_DELAY: Duration = Duration::from_millis(10);
/// Pause after a round whose last line was not taken: the reader has gone, or the disk is full.
const WRITE_ERROR_DELAY: Duration = Duration::from_millis(100);
/// Between two rounds of writing. Lines of this time are written together: a wakeup of the writer for each line takes more CPU than
/// the line itself, on the thread that logs.
const WRITE_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes of lines in one write. A pipe takes so many without bytes of another process in between (POSIX: `PIPE_BUF`).
const MAX_WRITE_BYTES: usize = 4096;
/// How often suppressed lines are reported while no line arrives.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The entrance of the queue. Clones share it.
#[derive(Clone)]
pub(super) struct LogQueue {
    queue: Arc<SharedQueue>,
    max_bytes: usize,
    repeats: RepeatLimiter,
}

#[derive(Default)]
struct SharedQueue {
    state: Mutex<State>,
    arrived: Condvar,
    is_empty: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Vec<u8>>,
    /// Of what waits and of what is being written.
    bytes: usize,
    /// Lines dropped since the log last said so.
    dropped: u64,
}

impl LogQueue {
    /// Nothing waits. Of lines that repeat, `repeats` decides which are written.
    pub(super) fn new(repeats: RepeatLimiter) -> Self {
        Self { queue: Arc::default(), max_bytes: MAX_QUEUED_BYTES, repeats }
    }

    /// Starts the thread that writes to `out`. `notify` is called on that thread between lines, with the number of lines
    /// that were dropped since the last call; what it logs comes back through this queue.
    pub(super) fn start(
        &self,
        out: impl Write + Send + 'static,
        notify: impl FnMut(u64) + Send + 'static,
    ) -> io::Result<()> {
        let queue = self.queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || queue.write(out, notify)).map(drop)
    }

    /// Adds a line, or drops it when too much waits. Never waits for the writer.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.queue.state.lock();
        if state.bytes + line.len() + LINE_OVERHEAD_BYTES > self.max_bytes {
            state.dropped += 1;
            drop(state);
            count_dropped();
            return;
        }
        state.bytes += line.len() + LINE_OVERHEAD_BYTES;
        state.waiting.push(line.to_vec());
        drop(state);
        self.queue.arrived.notify_one();
    }

    /// Waits until everything is written, `patience` at most.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.queue.state.lock();
        while state.bytes > 0 {
            if self.queue.is_empty.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }
}

fn count_dropped() {
    metrics::counter!("ehr_chat_log_lines_dropped_total").increment(1);
}

impl SharedQueue {
    /// Writes for as long as the process lives.
    fn write(&self, mut out: impl Write, mut notify: impl FnMut(u64)) {
        loop {
            let lines = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    self.arrived.wait_for(&mut state, IDLE_INTERVAL);
                }
                std::mem::take(&mut state.waiting)
            };
            let mut is_broken = false;
            let mut lines = lines.into_iter();
            while !lines.as_slice().is_empty() {
                let count = batch_len(lines.as_slice());
                let batch: Vec<_> = lines.by_ref().take(count).collect();
                let lost;
                (lost, is_broken) = write_batch(&mut out, &batch);
                let mut state = self.state.lock();
                state.bytes -= batch.iter().map(|line| line.len() + LINE_OVERHEAD_BYTES).sum::<usize>();
                state.dropped += lost;
                if state.bytes == 0 {
                    self.is_empty.notify_all();
                }
                drop(state);
                (0..lost).for_each(|_| count_dropped());
            }
            if is_broken {
                // To say so would only be one more line that is lost, and the next round would begin with it.
                thread::sleep(WRITE_ERROR_DELAY);
                continue;
            }
            let dropped = std::mem::take(&mut self.state.lock().dropped);
            notify(dropped);
            thread::sleep(WRITE_INTERVAL);
        }
    }
}

/// How many of these lines fit into one write; at least one.
fn batch_len(lines: &[Vec<u8>]) -> usize {
    let mut bytes = 0;
    let fits = |line: &&Vec<u8>| {
        bytes += line.len();
        bytes <= MAX_WRITE_BYTES
    };
    lines.iter().take_while(fits).count().max(1)
}

/// Writes lines. Returns how many were not taken, and whether the last was not.
fn write_batch(out: &mut impl Write, mut lines: &[Vec<u8>]) -> (u64, bool) {
    let mut lost = 0;
    while !lines.is_empty() {
        let Err(taken) = write_text(out, &lines.concat()) else { return (lost, false) };
        // The reader has gone, or a disk is full. The next line may find it mended.
        let mut end = 0;
        let is_taken = |line: &&Vec<u8>| {
            end += line.len();
            end <= taken
        };
        let whole = lines.iter().take_while(is_taken).count();
        lines = lines.get(whole + 1..).unwrap_or_default();
        lost += 1;
    }
    (lost, lost > 0)
}

/// Writes all of a text, or fails with the number of bytes that were taken.
fn write_text(out: &mut impl Write, text: &[u8]) -> Result<(), usize> {
    let mut taken = 0;
    while taken < text.len() {
        match out.write(&text[taken..]) {
            Ok(0) => return Err(taken),
            Ok(written) => taken += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A process that shares the pipe may have made it one that does not block.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
            Err(_) => return Err(taken),
        }
    }
    Ok(())
}

/// Takes one line: the formatter writes each in one call.
pub(super) struct LineWriter<'a> {
    lines: &'a LogQueue,
    /// Where it comes from, if it is left out.
    left_out: Option<Identifier>,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.left_out {
            None => self.lines.push(line),
            Some(place) => self.lines.repeats.record_suppressed(place, line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { lines: self, left_out: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let left_out = (!self.repeats.try_acquire(metadata, Instant::now())).then(|| metadata.callsite());
        LineWriter { lines: self, left_out }
    }
}

/// Writes a text to standard error, and gives up after `patience`: for what is said outside of the log, at the end of a process.
pub(super) fn write_stderr(text: &str, patience: Duration) {
    let text = format!("{text}\n");
    let (done, written) = std::sync::mpsc::channel();
    let writing = thread::Builder::new().spawn(move || {
        let _failed = write_text(&mut io::stderr(), text.as_bytes());
        let _gave_up = done.send(());
    });
    if writing.is_ok() {
        let _gave_up = written.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

    /// A reader that reads only when the test resumes it, as a full pipe behaves.
    struct Stalled {
        go_on: Receiver<()>,
        read: Sender<String>,
    }

    impl Write for Stalled {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _go_on = self.go_on.recv();
            let _gone = self.read.send(String::from_utf8(line.to_vec()).unwrap());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(lines: &LogQueue, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn logging_does_not_wait_for_a_stalled_reader() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let lines = LogQueue { max_bytes: 10 * (4 + LINE_OVERHEAD_BYTES), ..LogQueue::new(RepeatLimiter::default()) };
        let ((resume, go_on), (read, received)) = (channel(), channel());
        let (notify, notices) = channel();
        lines
            .start(Stalled { go_on, read }, move |dropped| {
                let _gone = notify.send(dropped);
            })
            .unwrap();
        for number in 0..25 {
            log(&lines, &format!("{number:03}\n"));
        }
        lines.flush(Duration::from_millis(1)); // Gives up.
        assert!(recorder.handle().render().contains("ehr_chat_log_lines_dropped_total 15"));

        drop(resume);
        let mut first = String::new();
        while first.lines().count() < 10 {
            first += &received.recv_timeout(WAIT_TIMEOUT).unwrap();
        }
        assert!(first.starts_with("000\n") && first.ends_with("\n009\n"), "the oldest stay, in order: {first}");
        let dropped: u64 =
            std::iter::from_fn(|| notices.recv_timeout(WAIT_TIMEOUT).ok()).find(|dropped| *dropped > 0).unwrap();
        assert_eq!(dropped, 15);
        log(&lines, "after\n");
        lines.flush(WAIT_TIMEOUT);
        assert_eq!(received.try_recv().unwrap(), "after\n", "a flush waits for what is being written too");
    }

    #[test]
    fn waiting_lines_are_written_together() {
        let ((resume, go_on), (read, written)) = (channel(), channel());
        let lines = LogQueue::new(RepeatLimiter::default());
        lines.start(Stalled { go_on, read }, |_| ()).unwrap();
        let long = "x".repeat(MAX_WRITE_BYTES);
        log(&lines, "first\n");
        resume.send(()).unwrap();
        assert_eq!(written.recv_timeout(WAIT_TIMEOUT).unwrap(), "first\n");
        log(&lines, "second\n");
        // The writer has taken the second line once it waits for the reader. What comes now is of one round.
        while !lines.queue.state.lock().waiting.is_empty() {
            thread::yield_now();
        }
        ["a\n", "b\n", &long, "c\n"].into_iter().for_each(|text| log(&lines, text));
        drop(resume);
        let texts: Vec<String> = (0..4).map(|_| written.recv_timeout(WAIT_TIMEOUT).unwrap()).collect();
        assert_eq!(texts, ["second\n", "a\nb\n", &long, "c\n"]);
    }

    #[test]
    fn incompletely_written_lines_are_lost() {
        /// Takes so many bytes of each write, until the numbers are used up.
        struct Partly(Vec<usize>, Vec<u8>);
        impl Write for Partly {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                match self.0.remove(0) {
                    0 => Err(ErrorKind::BrokenPipe.into()),
                    bytes => self.1.write(&text[..bytes.min(text.len())]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = ["one\n", "two\n", "three\n"].map(|line| line.as_bytes().to_vec());
        for (takes, text, lost) in [
            (vec![99], "one\ntwo\nthree\n", (0, false)),
            (vec![4, 0, 99], "one\nthree\n", (1, false)),
            (vec![5, 0, 99], "one\ntthree\n", (1, false)),
            (vec![0, 0, 99], "three\n", (2, false)),
            (vec![10], "one\ntwo\nth", (1, true)),
            (vec![], "", (3, true)),
        ] {
            let mut out = Partly(takes, Vec::new());
            assert_eq!(write_batch(&mut out, &lines), lost, "{text:?}");
            assert_eq!(String::from_utf8(out.1).unwrap(), text);
        }
    }

    #[test]
    fn repeated_warnings_are_counted() {
        let (lines, read) = (LogQueue::new(RepeatLimiter::default()), Arc::new(Mutex::new(Vec::new())));
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().extend_from_slice(line);
                Ok(line.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        lines.start(Kept(read.clone()), |_| ()).unwrap();
        let repeats = lines.repeats.clone();
        let log = tracing_subscriber::fmt().with_writer(lines.clone()).with_target(false).json().finish();
        tracing::subscriber::with_default(log, || {
            for number in 0..500 {
                tracing::warn!(number, "the same again");
                tracing::info!(number, "something else");
            }
        });
        lines.flush(WAIT_TIMEOUT);
        let text = String::from_utf8(read.lock().clone()).unwrap();
        assert_eq!(text.matches("something else").count(), 500);
        let written = text.matches("the same again").count();
        let [left_out] = &repeats.take_suppressed(Instant::now(), true)[..] else {
            panic!("one place has repeated itself")
        };
        assert!((50..100).contains(&written), "{written}");
        assert_eq!(written as u64 + left_out.count, 500);
        assert!(left_out.sample.contains("the same again") && left_out.sample.contains("499"), "{}", left_out.sample);
    }

    #[test]
    fn write_error_loses_only_its_line() {
        struct Broken(u32);
        impl Write for Broken {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::BrokenPipe.into()),
                    2 => Err(ErrorKind::WouldBlock.into()),
                    _ => Ok(line.len().min(2)),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = LogQueue::new(RepeatLimiter::default());
        let (notify, notices) = channel();
        lines
            .start(Broken(0), move |dropped| {
                let _gone = notify.send(dropped);
            })
            .unwrap();
        log(&lines, "lost\n");
        log(&lines, "written in pieces\n");
        lines.flush(WAIT_TIMEOUT);
        let dropped: u64 =
            std::iter::from_fn(|| notices.recv_timeout(WAIT_TIMEOUT).ok()).find(|dropped| *dropped > 0).unwrap();
        assert_eq!(dropped, 1);
    }

    #[test]
    fn broken_standard_error_is_retried_with_delay() {
        struct Broken(std::sync::mpsc::Sender<Instant>);
        impl Write for Broken {
            fn write(&mut self, _line: &[u8]) -> io::Result<usize> {
                let _gone = self.0.send(Instant::now());
                Err(ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tried, tries) = channel();
        let lines = LogQueue::new(RepeatLimiter::default());
        let own = lines.clone();
        lines
            .start(Broken(tried), move |dropped| {
                if dropped > 0 {
                    log(&own, "lines were dropped\n");
                }
            })
            .unwrap();
        // What is logged about a dropped line is itself a line: without a pause each round would begin the next.
        let times: Vec<Instant> = (0..3)
            .map(|_| {
                log(&lines, "lost\n");
                tries.recv_timeout(WAIT_TIMEOUT).unwrap()
            })
            .collect();
        assert!(times[2] - times[0] >= WRITE_ERROR_DELAY, "{times:?}");
        lines.flush(WAIT_TIMEOUT);
    }
}
