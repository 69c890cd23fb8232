//! Variables that look like settings and are not: without an error, a misspelt limit would silently be no limit.

use super::{Env, Setting};

/// What the names of our settings begin with, as far as no other program is likely to use it.
const SETTING_PREFIXES: [&str; 22] = [
    "ALLOWED_ORIGIN",
    "AUDIT_KEY",
    "CONTENT_KEY",
    "DATABASE_BACKGROUND",
    "DATABASE_CA",
    "DATABASE_POOL",
    "DATABASE_READ",
    "DATABASE_WRITE",
    "EVENT_LOG_",
    "HANDSHAKE",
    "JWKS_",
    "JWT_",
    "MAX_CONNECTION",
    "MAX_FRAME",
    "MAX_SOCKET",
    "OUTBOUND_QUEUE",
    "PLAINTEXT_LINK",
    "POSITION_CHECK",
    "PRESENCE_",
    "RATE_LIMIT_",
    "RELAY_KEY",
    "TRUSTED_PROX",
];

/// Settings with such names that one of the services has and the other has not: both may be given the same environment.
/// A test of the whole system compares this with what the services say of themselves.
pub const SINGLE_SERVICE_SETTINGS: &[&str] = &[
    "AUDIT_KEY",
    "AUDIT_PREVIOUS_KEYS",
    "CONTENT_KEYS",
    "CONTENT_KEYS_COMMAND",
    "CONTENT_KEYS_FILE",
    "DATABASE_BACKGROUND_CONNECTIONS",
    "DATABASE_CA_FILE",
    "DATABASE_POOL_SIZE",
    "DATABASE_READ_URL",
    "DATABASE_WRITE_CONNECTIONS",
    "EVENT_LOG_LENGTH",
    "HANDSHAKES_PER_PARTICIPANT_BURST",
    "HANDSHAKES_PER_PARTICIPANT_PER_SECOND",
    "HANDSHAKES_PER_SECOND",
    "HANDSHAKE_TIMEOUT_SECONDS",
    "MAX_CONNECTIONS",
    "MAX_FRAMES_PER_SECOND",
    "MAX_FRAME_BYTES",
    "MAX_SOCKETS",
    "MAX_SOCKETS_PER_ADDRESS",
    "MAX_SOCKETS_PER_PARTICIPANT",
    "OUTBOUND_QUEUE_BYTES",
    "RECONCILE_INTERVAL_SECONDS",
    "PRESENCE_LINGER_SECONDS",
    "PRESENCE_TTL_SECONDS",
    "RATE_LIMIT_CONTACT_SENDS_BURST",
    "RATE_LIMIT_CONTACT_SENDS_PER_SECOND",
    "RATE_LIMIT_PARTICIPANT_BURST",
    "RATE_LIMIT_PARTICIPANT_PER_SECOND",
    "RATE_LIMIT_SERVICE_BURST",
    "RATE_LIMIT_SERVICE_PER_SECOND",
];

/// Whether a name has the prefix of a setting.
#[must_use]
pub fn has_setting_prefix(name: &str) -> bool {
    // Kubernetes sets variables for every service of the namespace, of any name.
    let is_kubernetes = name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT_");
    SETTING_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_kubernetes && !name.ends_with("_PORT")
}

impl Env {
    /// Notes each variable that looks like a setting and is none.
    pub fn reject_unknown(&mut self, settings: &[Setting]) {
        let known = || settings.iter().map(|setting| setting.name).chain(SINGLE_SERVICE_SETTINGS.iter().copied());
        let unknown: Vec<String> = self
            .names
            .iter()
            .filter(|name| has_setting_prefix(name) && !known().any(|known| known == name.as_str()))
            .map(|name| {
                let meant = known().min_by_key(|known| edit_distance(name, known)).unwrap_or_default();
                format!("{name}: there is no such setting; did you mean {meant}?")
            })
            .collect();
        self.errors.extend(unknown);
    }
}

/// How many letters must be added, removed or changed to make one text of the other (Levenshtein).
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting { name: "RATE_LIMIT_ADDRESS_BURST", default: Some("1"), help: "" },
        Setting { name: "LOG_LEVEL", default: Some("info"), help: "" },
    ];

    fn refused(names: &[&str]) -> Vec<String> {
        let mut env = Env::from_fn(|_| None).with_names(names.iter().map(|name| (*name).to_owned()));
        env.reject_unknown(SETTINGS);
        env.into_error().0
    }

    #[test]
    fn misspelt_setting_gets_a_suggestion() {
        assert_eq!(
            refused(&["RATE_LIMIT_ADDRES_BURST", "MAX_SOCKETS_PER_PARTICIPANTS", "PRESENCE_TTL"]),
            [
                "RATE_LIMIT_ADDRES_BURST: there is no such setting; did you mean RATE_LIMIT_ADDRESS_BURST?",
                "MAX_SOCKETS_PER_PARTICIPANTS: there is no such setting; did you mean MAX_SOCKETS_PER_PARTICIPANT?",
                "PRESENCE_TTL: there is no such setting; did you mean PRESENCE_TTL_SECONDS?",
            ]
        );
    }

    #[test]
    fn other_variables_are_ignored() {
        let fine = ["RATE_LIMIT_ADDRESS_BURST", "RATE_LIMIT_SERVICE_BURST", "PATH", "LOG_LEVELS", "DATABASE_HOST"];
        assert_eq!(refused(&fine), [""; 0]);
        let kubernetes =
            ["PRESENCE_SERVICE_HOST", "PRESENCE_SERVICE_PORT_HTTP", "PRESENCE_PORT", "JWT_PORT_80_TCP_ADDR"];
        assert_eq!(refused(&kubernetes), [""; 0]);
    }

    #[test]
    fn edit_distance_counts_letters() {
        for (one, other, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "abd", 1), ("abc", "", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(edit_distance(one, other), expected, "{one} {other}");
        }
    }
}
