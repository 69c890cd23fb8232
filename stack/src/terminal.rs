//! What the stack says. A terminal may be paused, or a pipe that nobody reads: then the text waits in a bounded queue, and
//! the system goes on. Nobody who has a process to look after waits for a reader.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Texts that may wait; further ones are dropped.
const WAITING: usize = 256;
/// How long the end of the process waits for its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

enum Said {
    Output(String),
    Error(String),
    Flush(Sender<()>),
}

fn queue() -> &'static SyncSender<Said> {
    static QUEUE: OnceLock<SyncSender<Said>> = OnceLock::new();
    QUEUE.get_or_init(|| {
        let (queue, said) = sync_channel(WAITING);
        // If there is no thread, nothing is said: the receiver is gone, and sending fails at once.
        let _silent = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || write(&said));
        queue
    })
}

fn write(said: &Receiver<Said>) {
    for said in said {
        let _closed = match said {
            Said::Output(text) => writeln!(std::io::stdout(), "{text}"),
            Said::Error(text) => writeln!(std::io::stderr(), "stack: {text}"),
            Said::Flush(done) => {
                let _gave_up = done.send(());
                Ok(())
            }
        };
    }
}

/// Says how things go, on standard output.
pub(crate) fn say(text: impl Into<String>) {
    let _dropped = queue().try_send(Said::Output(text.into()));
}

/// Says what is wrong, on standard error.
pub(crate) fn complain(text: impl Into<String>) {
    let _dropped = queue().try_send(Said::Error(text.into()));
}

/// Waits until everything is said, half a second at most.
pub(crate) fn flush() {
    let (done, flushed) = channel();
    if queue().try_send(Said::Flush(done)).is_ok() {
        let _gave_up = flushed.recv_timeout(LAST_WORDS);
    }
}
