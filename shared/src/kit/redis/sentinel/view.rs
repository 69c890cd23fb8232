//! What a Sentinel says about the master, and which of several views counts.

use std::collections::HashMap;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike;
use fred::types::config::Server;
use fred::types::{ClusterHash, CustomCommand};

/// What one Sentinel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentinelView {
    /// Increases with every failover. A Sentinel that was cut off from the others has a lower one.
    pub(super) epoch: u64,
    /// Where the master is.
    pub(super) master: Server,
    /// How long a master must be silent before the Sentinels replace it.
    pub(super) down_after: Duration,
}

/// Asks a Sentinel.
///
/// # Errors
/// When it does not answer, or does not know the name.
pub(super) async fn fetch(client: &Client, name: &str) -> Result<SentinelView, Error> {
    let mut state = fetch_state(client, name).await?;
    let command = CustomCommand::new_static("SENTINEL", ClusterHash::FirstKey, false);
    let address: Option<(String, u16)> = client.custom(command, vec!["GET-MASTER-ADDR-BY-NAME", name]).await?;
    let (host, port) = address.ok_or_else(|| invalid("the Sentinel names no master"))?;
    let master = Server::new(host, port);
    if state.0 != master {
        // It is replacing the master. Its epoch belongs to the new one only from now on.
        state = fetch_state(client, name).await?;
    }
    let (_, epoch, down_after) = state;
    Ok(SentinelView { epoch, master, down_after })
}

async fn fetch_state(client: &Client, name: &str) -> Result<(Server, u64, Duration), Error> {
    let command = CustomCommand::new_static("SENTINEL", ClusterHash::FirstKey, false);
    let state: HashMap<String, String> = client.custom(command, vec!["MASTER", name]).await?;
    let number = |field: &str| state.get(field).and_then(|value| value.parse::<u64>().ok());
    let (Some(host), Some(port), Some(epoch)) = (state.get("ip"), number("port"), number("config-epoch")) else {
        return Err(invalid("the Sentinel does not say where the master is"));
    };
    let port = u16::try_from(port).map_err(|_| invalid("the port of the master is none"))?;
    let down_after = Duration::from_millis(number("down-after-milliseconds").unwrap_or_default());
    Ok((Server::new(host, port), epoch, down_after))
}

fn invalid(details: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, details)
}

/// The view that counts, of those that Sentinels have at the moment (`None`: it does not answer): that of the highest epoch. One
/// older than `known` counts only if most Sentinels answer and none has a newer one, which is so after an operator has set them
/// up afresh. A single Sentinel that was cut off may name a master that was replaced long ago.
pub(super) fn choose(known: Option<&SentinelView>, views: &[Option<SentinelView>]) -> Option<SentinelView> {
    let answered = || views.iter().flatten();
    let epoch = answered().map(|view| view.epoch).max()?;
    let mut newest = answered().filter(|view| view.epoch == epoch);
    match known {
        Some(known) if epoch < known.epoch && answered().count() * 2 <= views.len() => None,
        // Of two views of the same age, the one that is in use.
        Some(known) => newest.clone().find(|view| view.master == known.master).or_else(|| newest.next()).cloned(),
        None => newest.next().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, port: u16) -> SentinelView {
        SentinelView { epoch, master: Server::new("10.0.0.1", port), down_after: Duration::from_secs(5) }
    }

    #[test]
    fn highest_epoch_counts() {
        assert_eq!(choose(None, &[None, None, None]), None);
        assert_eq!(choose(None, &[None, Some(view(3, 1)), None]), Some(view(3, 1)), "one is enough");
        assert_eq!(choose(None, &[Some(view(3, 1)), Some(view(4, 2)), None]), Some(view(4, 2)));
        assert_eq!(choose(Some(&view(3, 1)), &[Some(view(3, 1)), Some(view(4, 2)), None]), Some(view(4, 2)));
    }

    #[test]
    fn view_in_use_wins_a_tie() {
        let both = [Some(view(3, 1)), Some(view(3, 2))];
        assert_eq!(choose(Some(&view(3, 2)), &both), Some(view(3, 2)));
        assert_eq!(choose(Some(&view(3, 1)), &both), Some(view(3, 1)));
    }

    #[test]
    fn older_view_needs_a_majority() {
        let known = view(4, 2);
        assert_eq!(choose(Some(&known), &[Some(view(3, 1)), None, None]), None, "it may have been cut off");
        assert_eq!(choose(Some(&known), &[Some(view(3, 1)), Some(view(4, 2)), None]), Some(known.clone()));
        assert_eq!(
            choose(Some(&known), &[Some(view(1, 1)), Some(view(1, 1)), None]),
            Some(view(1, 1)),
            "set up afresh"
        );
    }
}
