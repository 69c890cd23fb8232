//! A zero-copy parser for the part of RESP3 that a subscriber connection receives.
//!
//! Published events are by far the most frequent, so their path does not allocate. `redis-protocol` takes eight times as
//! long per event, and does not limit nesting or lengths (docs/adr/0053-own-resp-parser.md).

/// Deepest nesting. The reply to `HELLO` has two levels.
const MAX_DEPTH: usize = 8;
/// Longest bulk string, far beyond the largest event.
const MAX_BULK_BYTES: usize = 64 << 20;
/// Longest line: an error or a number.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Most elements of an array, map or push.
const MAX_ELEMENTS: usize = 1024;

/// A parsed reply or push.
#[derive(PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// A published event.
    Event { channel: &'a str, payload: &'a [u8] },
    /// Another push: its kind and first argument.
    Push(&'a str, &'a str),
    /// A string reply.
    Text(&'a [u8]),
    /// An error reply.
    Error(&'a str),
    /// Another reply.
    Other,
}

/// Prints only the kind, because a payload may contain a message.
impl std::fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Event { .. } => "Event",
            Self::Push(..) => "Push",
            Self::Text(_) => "Text",
            Self::Error(_) => "Error",
            Self::Other => "Other",
        })
    }
}

/// The bytes are not valid RESP3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid RESP")]
pub(crate) struct InvalidResp;

/// Parses the first reply of `input` and returns its length. `None` if it is incomplete.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, InvalidResp> {
    let mut rest = Parser { bytes: input };
    let reply = match rest.reply() {
        Ok(reply) => reply,
        Err(ParseError::Incomplete) => return Ok(None),
        Err(ParseError::Invalid) => return Err(InvalidResp),
    };
    Ok(Some((reply, input.len() - rest.bytes.len())))
}

enum ParseError {
    Incomplete,
    Invalid,
}

struct Parser<'a> {
    bytes: &'a [u8],
}

impl<'a> Parser<'a> {
    fn reply(&mut self) -> Result<Reply<'a>, ParseError> {
        let (kind, line) = self.line()?;
        match kind {
            b'>' => self.push(elements(line)?),
            b'$' if line != b"-1" => self.take(length(line)?).map(Reply::Text),
            b'+' => Ok(Reply::Text(line)),
            b'-' => text(line).map(Reply::Error),
            b'!' => self.take(length(line)?).and_then(text).map(Reply::Error),
            _ => {
                self.skip(kind, line, MAX_DEPTH)?;
                Ok(Reply::Other)
            }
        }
    }

    fn push(&mut self, elements: usize) -> Result<Reply<'a>, ParseError> {
        if elements == 0 {
            return Err(ParseError::Invalid);
        }
        let kind = self.string()?;
        match (kind, elements) {
            (b"message" | b"smessage", 3) => {
                let channel = self.string()?;
                Ok(Reply::Event { channel: text(channel)?, payload: self.string()? })
            }
            _ => {
                let mut first = &b""[..];
                for n in 1..elements {
                    let (kind, line) = self.line()?;
                    match kind {
                        b'$' if line != b"-1" => {
                            let string = self.take(length(line)?)?;
                            first = if n == 1 { string } else { first };
                        }
                        kind => self.skip(kind, line, MAX_DEPTH)?,
                    }
                }
                Ok(Reply::Push(text(kind)?, text(first)?))
            }
        }
    }

    /// A string element.
    fn string(&mut self) -> Result<&'a [u8], ParseError> {
        match self.line()? {
            (b'$', line) => self.take(length(line)?),
            _ => Err(ParseError::Invalid),
        }
    }

    /// Skips the rest of the value that began with `line`.
    fn skip(&mut self, kind: u8, line: &[u8], depth: usize) -> Result<(), ParseError> {
        let elements = match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(()),
            b'$' | b'*' if line == b"-1" => return Ok(()),
            b'$' | b'!' | b'=' => return self.take(length(line)?).map(drop),
            b'*' | b'~' | b'>' => elements(line)?,
            b'%' => 2 * elements(line)?,
            _ => return Err(ParseError::Invalid),
        };
        let deeper = depth.checked_sub(1).ok_or(ParseError::Invalid)?;
        for _ in 0..elements {
            let (kind, line) = self.line()?;
            self.skip(kind, line, deeper)?;
        }
        Ok(())
    }

    /// The type byte and the rest of a line.
    fn line(&mut self) -> Result<(u8, &'a [u8]), ParseError> {
        let within = &self.bytes[..self.bytes.len().min(MAX_LINE_BYTES)];
        let end = within.iter().position(|byte| *byte == b'\r');
        let end =
            end.ok_or(if within.len() < MAX_LINE_BYTES { ParseError::Incomplete } else { ParseError::Invalid })?;
        let (line, rest) = self.bytes.split_at(end);
        let [_, newline, rest @ ..] = rest else { return Err(ParseError::Incomplete) };
        let [kind, line @ ..] = line else { return Err(ParseError::Invalid) };
        if *newline != b'\n' {
            return Err(ParseError::Invalid);
        }
        self.bytes = rest;
        Ok((*kind, line))
    }

    /// Takes a string of this length and its CRLF.
    fn take(&mut self, length: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(ParseError::Incomplete)?;
        match rest {
            [b'\r', b'\n', rest @ ..] => {
                self.bytes = rest;
                Ok(taken)
            }
            [] | [b'\r'] => Err(ParseError::Incomplete),
            _ => Err(ParseError::Invalid),
        }
    }
}

fn length(digits: &[u8]) -> Result<usize, ParseError> {
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::Invalid);
    }
    let length = digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    if length > MAX_BULK_BYTES { Err(ParseError::Invalid) } else { Ok(length) }
}

fn elements(digits: &[u8]) -> Result<usize, ParseError> {
    length(digits).and_then(|elements| if elements > MAX_ELEMENTS { Err(ParseError::Invalid) } else { Ok(elements) })
}

fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|_| ParseError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parser_reads_every_kind_of_reply() {
        for (bytes, reply) in [
            (">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n", Reply::Event { channel: "c", payload: b"a\r\nb" }),
            (">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n", Reply::Event { channel: "c", payload: b"" }),
            (">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", Reply::Push("subscribe", "c")),
            (">3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", Reply::Push("unsubscribe", "")),
            (">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n_\r\n", Reply::Push("invalidate", "")),
            ("$2\r\nhi\r\n", Reply::Text(b"hi")),
            ("+PONG\r\n", Reply::Text(b"PONG")),
            ("-MOVED 1 h:2\r\n", Reply::Error("MOVED 1 h:2")),
            ("!5\r\nERR x\r\n", Reply::Error("ERR x")),
            ("$-1\r\n", Reply::Other),
            ("_\r\n", Reply::Other),
            ("%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*1\r\n%1\r\n+a\r\n,1.5\r\n", Reply::Other),
        ] {
            assert_eq!(parse(bytes.as_bytes()), Ok(Some((reply, bytes.len()))), "{bytes:?}");
            // Following bytes are not consumed, and a prefix is incomplete.
            let followed = format!("{bytes}+x");
            assert_eq!(parse(followed.as_bytes()).map(|read| read.map(|(_, used)| used)), Ok(Some(bytes.len())));
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes.as_bytes()[..length]), Ok(None), "{:?}", &bytes[..length]);
            }
        }
    }

    #[test]
    fn invalid_resp_is_rejected_within_bounds() {
        for bytes in [
            "x\r\n",
            "\r\n",
            "$x\r\n",
            "$-2\r\n",
            "$99999999999\r\n",
            "$67108865\r\n",
            ">0\r\n",
            "$1\r\nab\r\n",
            "+a\rb\r\n",
            ">3\r\n:7\r\n",
        ] {
            assert_eq!(parse(bytes.as_bytes()), Err(InvalidResp), "{bytes:?}");
        }
        assert_eq!(parse("*1\r\n".repeat(1000).as_bytes()), Err(InvalidResp));
        assert_eq!(parse(format!("*1024\r\n{}", ":1\r\n".repeat(1023)).as_bytes()), Ok(None));
        for head in ["*1025\r\n", "%1025\r\n", ">1025\r\n$1\r\nx\r\n"] {
            assert_eq!(parse(head.as_bytes()), Err(InvalidResp), "{head:?}");
        }
        assert_eq!(parse("-".repeat(MAX_LINE_BYTES - 1).as_bytes()), Ok(None));
        assert_eq!(parse("-".repeat(MAX_LINE_BYTES).as_bytes()), Err(InvalidResp), "a line without an end");
    }

    fn push(kind: &str, channel: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n${}\r\n", kind.len(), channel.len(), payload.len())
                .into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    proptest! {
        #[test]
        fn parser_returns_published_events(
            events in prop::collection::vec(("\\PC{1,30}", prop::collection::vec(any::<u8>(), 0..300)), 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes: Vec<u8> = events.iter().flat_map(|(channel, payload)| push("message", channel, payload)).collect();
            let cut = cut.index(bytes.len());
            let (mut at, mut push) = (0, Vec::new());
            // All that is complete before the cut, then the rest.
            for end in [cut, bytes.len()] {
                while let Some((reply, used)) = parse(&bytes[at..end]).unwrap() {
                    let Reply::Event { channel, payload } = reply else { panic!("{reply:?}") };
                    push.push((channel.to_owned(), payload.to_vec()));
                    at += used;
                }
            }
            prop_assert_eq!(push, events);
        }

        #[test]
        fn reader_never_panics_on_any_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'1')], 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
