//! What the stack prints. A paused terminal or an unread pipe does not stop the system: the text waits in a bounded queue.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Texts that may wait; further ones are dropped.
const QUEUE_CAPACITY: usize = 256;
/// How long the end of the process waits for its last words.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_millis(500);

enum Line {
    Output(String),
    Error(String),
    Flush(Sender<()>),
}

fn queue() -> &'static SyncSender<Line> {
    static QUEUE: OnceLock<SyncSender<Line>> = OnceLock::new();
    QUEUE.get_or_init(|| {
        let (queue, lines) = sync_channel(QUEUE_CAPACITY);
        // If there is no thread, nothing is lines: the receiver is gone, and sending fails at once.
        let _silent = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || write(&lines));
        queue
    })
}

fn write(lines: &Receiver<Line>) {
    for line in lines {
        let _closed = match line {
            Line::Output(text) => writeln!(std::io::stdout(), "{text}"),
            Line::Error(text) => writeln!(std::io::stderr(), "stack: {text}"),
            Line::Flush(done) => {
                let _gave_up = done.send(());
                Ok(())
            }
        };
    }
}

/// Says how things go, on standard output.
pub(crate) fn print(text: impl Into<String>) {
    let _dropped = queue().try_send(Line::Output(text.into()));
}

/// Says what is wrong, on standard error.
pub(crate) fn print_error(text: impl Into<String>) {
    let _dropped = queue().try_send(Line::Error(text.into()));
}

/// Waits until everything is lines, half a second at most.
pub(crate) fn flush() {
    let (done, flushed) = channel();
    if queue().try_send(Line::Flush(done)).is_ok() {
        let _gave_up = flushed.recv_timeout(FINAL_WRITE_TIMEOUT);
    }
}
