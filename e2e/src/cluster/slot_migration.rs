//! A slot on its way from one master to another, step by step as `redis-cli --cluster reshard` does it.

use anyhow::{Result, ensure};

use super::nodes::{Node, Nodes};

/// Keys of one slot that are moved at a time; more than tests put there.
const KEYS: &str = "1000";

/// The slot of one key, and where it goes.
#[derive(Debug)]
pub struct SlotMigration {
    /// What is moved.
    pub slot: String,
    from: Node,
    /// Where it goes.
    pub to: Node,
    others: Vec<Node>,
}

impl SlotMigration {
    /// Of the slot of `key`, from the master that serves it to the `choice`th of the others.
    ///
    /// # Errors
    /// When the cluster does not say who that is.
    pub async fn of(nodes: &Nodes, key: &str, choice: usize) -> Result<Self> {
        let from = nodes.owner_of(key).await?;
        let slot = from.ask(&["CLUSTER", "KEYSLOT", key]).await?.trim().to_owned();
        let mut others = nodes.masters().await?;
        others.retain(|node| node.place != from.place);
        ensure!(!others.is_empty(), "there is no other master");
        let to = others.remove(choice % others.len());
        Ok(Self { slot, from, to, others })
    }

    /// Both masters know of it. What is there is asked of the old one still.
    ///
    /// # Errors
    /// When they refuse.
    pub async fn begin(&self) -> Result<()> {
        self.to.tell(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", &id(&self.from).await?]).await?;
        self.from.tell(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", &id(&self.to).await?]).await
    }

    /// The old one has nothing any more, and the new one does not serve the slot yet.
    ///
    /// # Errors
    /// When they refuse.
    pub async fn move_keys(&self) -> Result<()> {
        let keys = self.from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, KEYS]).await?;
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let Node { host, port, password, .. } = &self.to;
        let words = [["MIGRATE", host, port, "", "0", "5000", "AUTH", password, "KEYS"].as_slice(), &keys].concat();
        self.from.tell(&words).await
    }

    /// The new one serves it.
    ///
    /// # Errors
    /// When they refuse.
    pub async fn finish(&self) -> Result<()> {
        // The new one first: no client may be sent to an owner that does not know it yet.
        for node in [&self.to, &self.from].into_iter().chain(&self.others) {
            node.tell(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id(&self.to).await?]).await?;
        }
        Ok(())
    }
}

async fn id(node: &Node) -> Result<String> {
    Ok(node.ask(&["CLUSTER", "MYID"]).await?.trim().to_owned())
}
