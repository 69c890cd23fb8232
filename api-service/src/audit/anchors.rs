//! Anchors: ends of chains, kept outside the database. They reveal a database that was restored to an earlier state together with
//! its heads.
//!
//! One JSON object per line. The service's log lines `audit anchor` are anchors too; other lines are skipped.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};

use super::chain::Head;
use super::key::MAC_BYTES;

/// The message of a log line that is an anchor.
pub const LOG_MESSAGE: &str = "audit anchor";

/// The hash of a row in hexadecimal, by chain and position.
pub type Anchors = BTreeMap<(i64, i64), String>;

#[derive(Serialize, Deserialize)]
struct AnchorLine {
    chain: i64,
    n: i64,
    mac: String,
}

/// A hash in hexadecimal.
#[must_use]
pub fn hex(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The anchor of a chain's end, as one line.
#[must_use]
pub fn format_line(head: &Head) -> String {
    serde_json::json!(AnchorLine { chain: head.chain, n: head.n, mac: hex(&head.mac) }).to_string()
}

/// Parses anchors and skips other lines.
///
/// # Errors
/// When the file cannot be read.
pub fn parse(lines: impl BufRead) -> io::Result<Anchors> {
    let mut anchors = Anchors::new();
    for line in lines.lines() {
        let line = line?;
        if let Ok(AnchorLine { chain, n, mac }) = serde_json::from_str(&line)
            && n > 0
            && mac.len() == 2 * MAC_BYTES
        {
            anchors.insert((chain, n), mac);
        }
    }
    Ok(anchors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_parsed_from_files_and_logs() {
        let head = Head { n: 7, mac: [0xab; MAC_BYTES], ..Head::new(3, 0) };
        let log = format!(
            "{}\n\nnot JSON\n{{\"level\":\"INFO\",\"message\":\"{LOG_MESSAGE}\",\"chain\":4,\"n\":9,\"mac\":\"{}\"}}\n\
             {{\"chain\":5,\"n\":1,\"mac\":\"short\"}}\n{{\"level\":\"INFO\"}}\n",
            format_line(&head),
            "0".repeat(64)
        );
        let anchors = parse(log.as_bytes()).unwrap();
        assert_eq!(anchors, Anchors::from([((3, 7), "ab".repeat(32)), ((4, 9), "0".repeat(64))]));
    }
}
