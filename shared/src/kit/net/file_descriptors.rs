//! File descriptors: every connection takes one. Client connections must leave enough for PostgreSQL, Redis and the admin port.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit to what the system allows: the usual soft limit of 1024 is meant for programs that use `select`.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::info!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of file descriptors"),
    }
}

/// How many client connections the limit allows: all but `reserved` descriptors, and at least a quarter of the limit.
#[must_use]
pub fn connection_budget(reserved: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    remaining_after(limit, reserved)
}

fn remaining_after(limit: u64, reserved: usize) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.saturating_sub(reserved).max(limit / 4).max(1)
}

/// Caps a setting at what the descriptor limit allows, and logs a warning if it was higher.
#[must_use]
pub fn cap_setting(setting: &str, wanted: usize, affordable: usize) -> usize {
    if wanted > affordable {
        tracing::warn!(
            wanted,
            lowered_to = affordable,
            "{setting} is lowered: the limit of file descriptors allows no more; raise `ulimit -n` or LimitNOFILE"
        );
    }
    wanted.min(affordable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_keeps_reserved_descriptors() {
        for (limit, reserved, expected) in
            [(256, 64, 192), (1024, 64, 960), (64, 100, 16), (1, 100, 1), (u64::MAX, 64, usize::MAX - 64)]
        {
            assert_eq!(remaining_after(limit, reserved), expected, "{limit}");
        }
        assert!(connection_budget(64) >= 1);
    }

    #[test]
    fn setting_is_capped_and_never_raised() {
        assert_eq!(cap_setting("MAX_SOCKETS", 50_000, 192), 192);
        assert_eq!(cap_setting("MAX_SOCKETS", 100, 192), 100);
    }
}
