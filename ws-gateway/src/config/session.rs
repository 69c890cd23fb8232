//! One socket: heartbeats, and the sizes of its frames and its queue.

use std::time::Duration;

use shared::kit::env::{Env, Setting};

const HEARTBEAT: Setting = Setting::new("HEARTBEAT_SECONDS", Some("25"), "1 to 3600: between two Pings to a client");
const IDLE_TIMEOUT: Setting = Setting::new(
    "IDLE_TIMEOUT_SECONDS",
    Some("60"),
    "1 to 7200, more than HEARTBEAT_SECONDS: silence after which a client is gone",
);
const MAX_FRAME: Setting =
    Setting::new("MAX_FRAME_BYTES", Some("65536"), "1024 to 16777216: largest frame of a client");
const OUTBOUND_QUEUE: Setting = Setting::new(
    "OUTBOUND_QUEUE_BYTES",
    Some("1048576"),
    "65536 to 1073741824: what may wait for one socket before it is too slow",
);
const MAX_FRAMES_PER_SECOND: Setting = Setting::new(
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
        let heartbeat_interval = env.read_seconds(&HEARTBEAT, 1..=3600);
        let idle_timeout = env.read_seconds(&IDLE_TIMEOUT, 1..=7200);
        let max_frame_bytes = env.read_number(&MAX_FRAME, 1024..=16 << 20);
        let outbound_queue_bytes = env.read_number(&OUTBOUND_QUEUE, 65_536..=1 << 30);
        let max_frames_per_second = env.read_number(&MAX_FRAMES_PER_SECOND, 0..=1_000_000);
        Some(Self {
            heartbeat_interval: heartbeat_interval?,
            idle_timeout: idle_timeout?,
            max_frame_bytes: max_frame_bytes?,
            outbound_queue_bytes: outbound_queue_bytes?,
            max_frames_per_second: max_frames_per_second?,
        })
    }
}
