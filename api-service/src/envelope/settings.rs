//! Settings of the keys: master keys of content at rest, and relay keys under which messages pass through Redis.

use std::io::Read;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use shared::kit::crypto::key_ring::{InvalidKeys, KeyFile, KeyRing, RELAY_KEYS, read_relay_keys};
use shared::kit::env::{Env, Setting};

/// Maximum output of a key command.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;
/// Time limit of a key command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) const CONTENT_KEYS: Setting = Setting {
    name: "CONTENT_KEYS",
    default: Some(""),
    help: "master keys of content at rest: id:base64 of 32 bytes, separated by commas; the first is used for what is new, \
           the others open what they have wrapped; a `-` in front of the first: nothing new is encrypted. Needs RELAY_KEYS",
};
pub(crate) const CONTENT_KEYS_FILE: Setting =
    Setting { name: "CONTENT_KEYS_FILE", default: Some(""), help: "a file that holds what CONTENT_KEYS would" };
pub(crate) const CONTENT_KEYS_COMMAND: Setting = Setting {
    name: "CONTENT_KEYS_COMMAND",
    default: Some(""),
    help: "a program and its arguments, quoted as in a shell, that prints what CONTENT_KEYS would, within 10 seconds: for a \
           vault or a key service; run once, at the start, without a shell",
};

/// All keys of content.
#[derive(Debug, Clone, Default)]
pub struct EncryptionConfig {
    /// Master keys; `None` when content is stored as plain text.
    pub content: Option<KeyRing>,
    /// Keys under which messages pass through Redis.
    pub relay: Option<KeyRing>,
}

/// Reads both. `None` on an error.
pub(crate) fn read(env: &mut Env) -> Option<EncryptionConfig> {
    let content = read_content_keys(env);
    let relay = read_relay_keys(env);
    let (content, relay) = (content?, relay?);
    match (&content, &relay) {
        (Some(_), None) => {
            env.add_error(
                &RELAY_KEYS,
                "is required with CONTENT_KEYS: without it Redis would hold what the database must not",
            );
            return None;
        }
        (None, Some(_)) => {
            env.add_error(&RELAY_KEYS, "is of no use without CONTENT_KEYS");
            return None;
        }
        (Some(content), Some(relay)) if content.overlaps(relay) => {
            env.add_error(&RELAY_KEYS, "must hold no key of CONTENT_KEYS: gateways know it");
            return None;
        }
        _ => {}
    }
    Some(EncryptionConfig { content, relay })
}

/// Reads the master keys from one of their three sources. `None` on an error.
pub(crate) fn read_content_keys(env: &mut Env) -> Option<Option<KeyRing>> {
    let list = env.read_optional::<KeyRing>(&CONTENT_KEYS);
    let file = env.read_optional::<KeyFile>(&CONTENT_KEYS_FILE);
    let command = env.read_optional::<KeyCommand>(&CONTENT_KEYS_COMMAND);
    let sources = [list?, file?.map(|KeyFile(ring)| ring), command?.map(|KeyCommand(ring)| ring)];
    let mut sources = sources.into_iter().flatten();
    let ring = sources.next();
    if sources.next().is_some() {
        env.add_error(
            &CONTENT_KEYS,
            "comes from more than one of CONTENT_KEYS, CONTENT_KEYS_FILE, CONTENT_KEYS_COMMAND",
        );
        return None;
    }
    Some(ring)
}

/// Keys that a command printed.
struct KeyCommand(KeyRing);

/// Why a command gave no keys. Never contains its output.
#[derive(Debug, thiserror::Error)]
enum KeyCommandError {
    #[error("has a quote that is not closed, or ends with a backslash")]
    BadQuoting,
    #[error("names no program")]
    Empty,
    #[error("cannot be run: {0}; it names a program and its arguments, and no shell runs it")]
    NotStarted(std::io::ErrorKind),
    #[error("has failed ({0}); no shell runs it, so $ and | have no meaning")]
    Failed(std::process::ExitStatus),
    #[error("has not ended in time")]
    TimedOut,
    #[error("{0}")]
    Keys(#[from] InvalidKeys),
}

impl FromStr for KeyCommand {
    type Err = KeyCommandError;

    fn from_str(command: &str) -> Result<Self, KeyCommandError> {
        run_command(command, COMMAND_TIMEOUT)
    }
}

fn run_command(command: &str, timeout: Duration) -> Result<KeyCommand, KeyCommandError> {
    let failed = |error: std::io::Error| KeyCommandError::NotStarted(error.kind());
    let words = shlex::split(command).ok_or(KeyCommandError::BadQuoting)?;
    let (program, arguments) = words.split_first().ok_or(KeyCommandError::Empty)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Its error output may contain secrets.
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take();
    // Read concurrently: a command with much output would block until it is read.
    let (sender, read) = mpsc::channel();
    let _reading = thread::spawn(move || {
        let mut text = zeroize::Zeroizing::new(String::new());
        let read = output.map(|output| output.take(MAX_OUTPUT_BYTES).read_to_string(&mut text)).transpose();
        let _timed_out = sender.send(read.map(|_| text));
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if started.elapsed() > timeout {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Err(KeyCommandError::TimedOut);
        }
        thread::sleep(POLL_INTERVAL);
    };
    if !status.success() {
        return Err(KeyCommandError::Failed(status));
    }
    // The output ends when its last holder ends, which may be a process that the command left behind.
    let remaining = timeout.saturating_sub(started.elapsed());
    let text = read.recv_timeout(remaining).map_err(|_| KeyCommandError::TimedOut)?.map_err(failed)?;
    Ok(KeyCommand(text.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
    const B: &str = "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";

    fn read_with(variables: &[(&'static str, &str)]) -> Result<EncryptionConfig, Vec<String>> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut env = Env::from_fn(move |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()));
        let config = read(&mut env);
        config.ok_or_else(|| env.into_error().0)
    }

    #[test]
    fn keys_are_read_from_command() {
        let config =
            read_with(&[("CONTENT_KEYS_COMMAND", &format!("printf '%s\\n \\n' {A}")), ("RELAY_KEYS", B)]).unwrap();
        assert_eq!(config.content.unwrap().current().unwrap().as_str(), "a");
        assert_eq!(config.relay.unwrap().current().unwrap().as_str(), "b");
        assert!(read_with(&[]).unwrap().content.is_none());
    }

    #[test]
    fn failed_command_hides_its_output() {
        for command in ["echo hunter2", "sh -c 'echo hunter2; echo hunter2 >&2; exit 3'", "hunter2-is-no-command"] {
            let mistakes = read_with(&[("CONTENT_KEYS_COMMAND", command), ("RELAY_KEYS", B)]).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with("CONTENT_KEYS_COMMAND"), "{mistakes:?}");
            assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
        }
        assert!(matches!(run_command("sleep 60", Duration::ZERO), Err(KeyCommandError::TimedOut)));
    }

    #[test]
    fn process_that_command_leaves_behind_does_not_block() {
        let (sender, waiting) = mpsc::channel();
        thread::spawn(move || sender.send(run_command("sh -c 'sleep 5 & echo $!'", Duration::from_millis(500)).err()));
        let error = waiting.recv_timeout(Duration::from_secs(30)).expect("the start goes on");
        assert!(matches!(error, Some(KeyCommandError::TimedOut)), "{error:?}");
    }

    #[test]
    fn command_is_an_argument_vector() {
        let keys = format!("{A},{B}");
        for command in [
            format!("printf %s%s%s {A} , {B}"),
            format!("printf '%s' '{keys}'"),
            format!("printf \"%s\" \"{keys}\""),
            format!("printf %s\\ {keys}"),
            format!("/usr/bin/env printf '%s' {keys}"),
        ] {
            let KeyCommand(ring) =
                run_command(&command, COMMAND_TIMEOUT).unwrap_or_else(|error| panic!("{command}: {error}"));
            assert_eq!(ring.current().unwrap().as_str(), "a", "{command}");
        }
        // A shell would print the keys of both commands, or run the second.
        for command in [format!("echo {A}; true"), format!("false || echo {A}"), format!("echo $(echo {A})")] {
            let mistakes = read_with(&[("CONTENT_KEYS_COMMAND", &command), ("RELAY_KEYS", B)]).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with("CONTENT_KEYS_COMMAND: "), "{mistakes:?}");
        }
    }

    #[test]
    fn bad_quoting_is_named() {
        for (command, why) in [
            ("vault kv get 'hunter2", "quote that is not closed"),
            ("vault kv get \"hunter2", "quote that is not closed"),
            ("vault hunter2\\", "ends with a backslash"),
            ("   ", "names no program"),
            ("# hunter2", "names no program"),
        ] {
            let mistakes = read_with(&[("CONTENT_KEYS_COMMAND", command), ("RELAY_KEYS", B)]).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(why), "{command}: {mistakes:?}");
            assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
        }
    }

    #[test]
    fn content_and_relay_keys_must_pair_and_differ() {
        for (variables, wrong) in [
            (&[("CONTENT_KEYS", A)][..], "RELAY_KEYS"),
            (&[("RELAY_KEYS", A)], "RELAY_KEYS"),
            (&[("CONTENT_KEYS", A), ("RELAY_KEYS", &A.replace("a:", "b:"))], "RELAY_KEYS"),
            (&[("CONTENT_KEYS", A), ("CONTENT_KEYS_FILE", "/nonexistent"), ("RELAY_KEYS", B)], "CONTENT_KEYS_FILE"),
            (
                &[
                    ("CONTENT_KEYS", A),
                    ("CONTENT_KEYS_COMMAND", "echo b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="),
                    ("RELAY_KEYS", B),
                ],
                "CONTENT_KEYS",
            ),
            (&[("CONTENT_KEYS", "a:YWFh"), ("RELAY_KEYS", B)], "CONTENT_KEYS"),
        ] {
            let mistakes = read_with(variables).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(wrong), "{mistakes:?}");
            assert!(!mistakes[0].contains("YWFh"), "{mistakes:?}");
        }
    }
}
