//! Sends a second from a fixed number of connections, each of which sends again as soon as it is answered.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::figures::Durations;
use crate::people::Target;

/// What came out.
pub(crate) struct Throughput {
    per_second: f64,
    answered: Durations,
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} sends a second; POST → 201: {}", self.per_second, self.answered)
    }
}

/// Sends from `connections` at once for `duration`, each in a conversation of its own.
pub(crate) async fn measure(target: &Target, connections: usize, duration: Duration) -> Result<Throughput> {
    let start = Instant::now();
    let target = Arc::new(target.clone());
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..connections {
        let target = target.clone();
        senders.spawn(async move {
            let pair = target.pair(1_000 + number)?;
            let mut answered = Durations::new()?;
            while start.elapsed() < duration {
                let asked = Instant::now();
                target.send(&pair, "How do you feel today?").await?;
                answered.record(asked.elapsed());
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = Durations::new()?;
    while let Some(sender) = senders.join_next().await {
        answered.add(&sender??)?;
    }
    Ok(Throughput { per_second: answered.count() as f64 / start.elapsed().as_secs_f64(), answered })
}
