//! Conversations that a fault must not touch: while it lasts each message comes live, and no socket hears of any trouble.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Node;
use crate::socket::Socket;
use crate::test_location::{TestLocation, TestUser};

/// Conversations to choose from: some are on each of three masters.
const CONVERSATIONS: usize = 16;
/// For one message to come. A message that waits for the lost node takes longer.
const LIVE: Duration = Duration::from_secs(5);
/// Between two messages to all: they are looked at, and are no load.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// A location of their own, apart from the load.
pub(super) struct Neighbours {
    doctor: TestUser,
    all: Vec<(TestUser, Socket)>,
}

impl Neighbours {
    /// Those whose conversations are not on this node.
    pub(super) async fn of(node: &Node, place: &TestLocation) -> Result<Self> {
        let place = place.other_location();
        let doctor = place.user("doc");
        let mut all = Vec::new();
        for number in 0..CONVERSATIONS {
            let patient = place.contact(&format!("pat{number}"));
            let mut socket = patient.open(&doctor).await;
            let message = doctor.send_ok(&patient, "before").await;
            ensure!(socket.expect("message").await["message"]["id"] == message["id"], "another message");
            let conversation = message["conversation_id"].as_str().context("a message has a conversation")?;
            if !node.serves(&format!("chat:{{{}:{conversation}}}", place.location)).await? {
                all.push((patient, socket));
            }
        }
        ensure!(!all.is_empty(), "all {CONVERSATIONS} conversations are on one node");
        Ok(Self { doctor, all })
    }

    /// Sends to each of them, again and again. Fails when one hears nothing, or of trouble.
    pub(super) async fn stay_live(&mut self, lasts: Duration) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < lasts {
            for (patient, socket) in &mut self.all {
                let sent = self.doctor.send_ok(patient, "meanwhile").await;
                let arrives = async {
                    loop {
                        let frame = socket.next().await;
                        let is_trouble = ["degraded", "resync"].iter().any(|kind| frame["type"] == *kind);
                        ensure!(!is_trouble, "a socket of another node hears {frame}");
                        if frame["type"] == "message" && frame["message"]["id"] == sent["id"] {
                            return Ok(());
                        }
                    }
                };
                timeout(LIVE, arrives).await.context("a conversation of another node is not live")??;
            }
            sleep(MIN_INTERVAL).await;
        }
        Ok(())
    }
}
