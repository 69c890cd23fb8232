//! One connection to Redis, and the little of its protocol (RESP2) that a relay needs: commands out, messages in.
//! The client libraries would do as well; without one, no baseline is slower than it must be.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail};

/// Connects to the server of `url` (`redis://USER:PASSWORD@HOST:PORT`) and logs in. The stream blocks.
///
/// # Errors
/// When it is no such URL, the server out of reach, or the password wrong.
pub fn connect(url: &str) -> Result<TcpStream> {
    let rest = url.strip_prefix("redis://").context("the URL of Redis does not start with redis://")?;
    let (login, address) = rest.rsplit_once('@').unwrap_or(("", rest));
    let mut stream = TcpStream::connect(address.trim_end_matches('/')).context("Redis is out of reach")?;
    stream.set_nodelay(true)?;
    let mut commands = Vec::new();
    let mut replies = 1;
    if let Some((user, password)) = login.split_once(':') {
        let user = if user.is_empty() { "default" } else { user };
        write_command(&mut commands, &[b"AUTH", user.as_bytes(), password.as_bytes()]);
        replies += 1;
    }
    write_command(&mut commands, &[b"PING"]);
    stream.write_all(&commands)?;
    let mut answer = Vec::new();
    while replies > 0 {
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            bail!("Redis hung up");
        }
        answer.extend_from_slice(&chunk[..read]);
        while let Some((_, length)) = next_reply(&answer)? {
            answer.drain(..length);
            replies -= 1;
        }
    }
    Ok(stream)
}

/// Appends a command to `out`.
pub fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    push_header(out, b'*', words.len());
    for word in words {
        push_header(out, b'$', word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(count.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What Redis sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Something was published.
    Message {
        /// Where.
        channel: &'a [u8],
        /// What.
        payload: &'a [u8],
    },
    /// Any other reply: none is expected here.
    Other,
}

/// The first reply in `bytes` and its length; `None` when it is not complete yet.
///
/// # Errors
/// When the reply is an error, or is not RESP2.
pub fn next_reply(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>> {
    let mut cursor = Cursor { bytes, at: 0 };
    let Some(reply) = cursor.reply()? else { return Ok(None) };
    Ok(Some((reply, cursor.at)))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn reply(&mut self) -> Result<Option<Reply<'a>>> {
        if self.bytes.first() != Some(&b'*') {
            return Ok(self.item()?.map(|_| Reply::Other));
        }
        let Some(header) = self.line() else { return Ok(None) };
        let count = number(&header[1..])?;
        let mut items: [&[u8]; 3] = [b""; 3];
        for place in 0..count {
            let Some(item) = self.item()? else { return Ok(None) };
            if let Some(slot) = items.get_mut(place) {
                *slot = item;
            }
        }
        Ok(Some(match items {
            [b"message", channel, payload] => Reply::Message { channel, payload },
            _ => Reply::Other,
        }))
    }

    /// Anything but an array, without its type.
    fn item(&mut self) -> Result<Option<&'a [u8]>> {
        let Some(line) = self.line() else { return Ok(None) };
        match line.split_first() {
            Some((b'+' | b':', rest)) => Ok(Some(rest)),
            Some((b'$', b"-1")) => Ok(Some(b"")),
            Some((b'$', length)) => {
                let length = number(length)?;
                let item = self.bytes.get(self.at..self.at + length);
                self.at += length + 2;
                Ok(item.filter(|_| self.at <= self.bytes.len()))
            }
            Some((b'-', text)) => bail!("Redis refuses: {}", String::from_utf8_lossy(text)),
            _ => bail!("Redis speaks something else than RESP2"),
        }
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == b'\r')?;
        rest.get(length + 1)?;
        self.at += length + 2;
        Some(&rest[..length])
    }
}

fn number(digits: &[u8]) -> Result<usize> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok())
        .context("Redis sent no number where one belongs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_parsed_only_when_complete() {
        let bytes = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n{}\r\n+OK\r\n";
        let whole = bytes.len() - 5;
        for cut in 0..whole {
            assert!(next_reply(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        let message = Reply::Message { channel: b"a", payload: b"\r\n{}" };
        assert_eq!(next_reply(bytes).unwrap(), Some((message, whole)));
        assert_eq!(next_reply(&bytes[whole..]).unwrap(), Some((Reply::Other, 5)));
    }

    #[test]
    fn subscription_replies_are_skipped_and_errors_reported() {
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        assert_eq!(next_reply(subscribed).unwrap(), Some((Reply::Other, subscribed.len())));
        assert!(next_reply(b"-NOAUTH no\r\n").unwrap_err().to_string().contains("NOAUTH no"));
    }
}
