//! One socket: heartbeats, and the sizes of its frames and its queue.

use std::time::Duration;

use shared::kit::env::{Env, Setting};

use super::{number, seconds, setting};

pub(super) const HEARTBEAT: Setting =
    setting("HEARTBEAT_SECONDS", Some("25"), "1 to 3600: between two Pings to a client");
pub(super) const IDLE_TIMEOUT: Setting = setting(
    "IDLE_TIMEOUT_SECONDS",
    Some("60"),
    "1 to 7200, more than HEARTBEAT_SECONDS: silence after which a client is gone",
);
pub(super) const MAX_FRAME: Setting =
    setting("MAX_FRAME_BYTES", Some("65536"), "1024 to 16777216: largest frame of a client");
pub(super) const OUTBOUND_QUEUE: Setting = setting(
    "OUTBOUND_QUEUE_BYTES",
    Some("1048576"),
    "65536 to 1073741824: what may wait for one socket before it is too slow",
);
pub(super) const MAX_FRAMES_PER_SECOND: Setting = setting(
    "MAX_FRAMES_PER_SECOND",
    Some("100"),
    "0 to 1000000: frames a second of one client, ten times as many at once; more are dropped (`rate_limited`), and \
     a hundred times as many close the socket (1008); 0 for no limit",
);

/// Settings of every session.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Between two Pings to an idle client.
    pub heartbeat_interval: Duration,
    /// A client that sends nothing for this long is closed.
    pub idle_timeout: Duration,
    /// Largest frame and message of a client.
    pub max_frame_bytes: usize,
    /// Bytes that may wait for one socket.
    pub outbound_queue_bytes: usize,
    /// Frames per second of one client; 0 for no limit.
    pub max_frames_per_second: u32,
}

impl SessionConfig {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let heartbeat_interval = seconds(env, &HEARTBEAT, 1, 3600);
        let idle_timeout = seconds(env, &IDLE_TIMEOUT, 1, 7200);
        let max_frame_bytes = number(env, &MAX_FRAME, &1024, &(16 << 20));
        let outbound_queue_bytes = number(env, &OUTBOUND_QUEUE, &65_536, &(1 << 30));
        let max_frames_per_second = number(env, &MAX_FRAMES_PER_SECOND, &0, &1_000_000);
        Some(Self {
            heartbeat_interval: heartbeat_interval?,
            idle_timeout: idle_timeout?,
            max_frame_bytes: max_frame_bytes?,
            outbound_queue_bytes: outbound_queue_bytes?,
            max_frames_per_second: max_frames_per_second?,
        })
    }
}
