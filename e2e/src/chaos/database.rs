//! What is done to PostgreSQL, by its owner and by the operating system.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stack::{PostgresCommand, Signal, Stack};
use tokio::time::{Instant, interval, sleep};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::comes_true;
use super::timing::{FROZEN, WAIT_TIMEOUT};

/// After which a failover manager promotes the standby.
const UNNOTICED: Duration = Duration::from_secs(2);
/// How often the connections of the services are terminated, and how long between two times.
const TERMINATIONS: usize = 3;
const BETWEEN_TERMINATIONS: Duration = Duration::from_secs(1);

/// The server of a stack, as its owner reaches it: past the links of the services.
pub(super) struct Database<'a> {
    backends: &'a Stack,
}

impl<'a> Database<'a> {
    pub(super) fn of(backends: &'a Stack) -> Self {
        Self { backends }
    }

    async fn connect(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.backends.env().database_url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn postmaster(&self) -> Result<i32> {
        self.backends.env().postgres_pid.context("no PostgreSQL")
    }

    /// Stops every process of the server, as a full disk or a lost volume does, and lets them go on.
    pub(super) async fn freeze(&self) -> Result<Instant> {
        let frozen = self.stop_processes()?;
        sleep(FROZEN).await;
        for pid in &frozen {
            let _ = self.backends.kill(*pid, Signal::SIGCONT);
        }
        Ok(Instant::now())
    }

    /// Stops every process of the server; gives their ids.
    pub(super) fn stop_processes(&self) -> Result<Vec<i32>> {
        let postmaster = self.postmaster()?;
        // The parent first, so that no child begins meanwhile.
        self.backends.kill(postmaster, Signal::SIGSTOP)?;
        let mut frozen = children(postmaster);
        frozen.push(postmaster);
        for pid in &frozen {
            // A child may have ended since it was listed.
            let _ = self.backends.kill(*pid, Signal::SIGSTOP);
        }
        Ok(frozen)
    }

    /// Tells the stack what to do with its pair of servers.
    pub(super) fn command(&self, command: PostgresCommand) -> Result<()> {
        tokio::task::block_in_place(|| self.backends.postgres(command))
    }

    /// Kills the primary and promotes the standby.
    pub(super) async fn lose_primary(&self) -> Result<Instant> {
        self.command(PostgresCommand::KillPrimary)?;
        self.promote().await
    }

    /// Stops every process of the primary, for good, and promotes the standby.
    pub(super) async fn freeze_primary(&self) -> Result<Instant> {
        self.stop_processes()?;
        self.promote().await
    }

    async fn promote(&self) -> Result<Instant> {
        sleep(UNNOTICED).await;
        self.command(PostgresCommand::Promote)?;
        Ok(Instant::now())
    }

    /// Stops the standby for a while, so that commits wait.
    pub(super) async fn stop_standby(&self) -> Result<Instant> {
        self.command(PostgresCommand::StopStandby)?;
        sleep(FROZEN).await;
        self.command(PostgresCommand::StartStandby)?;
        Ok(Instant::now())
    }

    /// Terminates all connections but its own, again and again.
    pub(super) async fn terminate_backends(&self) -> Result<Instant> {
        let client = self.connect().await?;
        let mut beat = interval(BETWEEN_TERMINATIONS);
        for _ in 0..TERMINATIONS {
            beat.tick().await;
            let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()";
            client.query(terminate, &[]).await?;
        }
        Ok(Instant::now())
    }

    /// Locks the row of one conversation that is in use, as a forgotten session does.
    pub(super) async fn lock_conversation(&self, choice: usize) -> Result<Instant> {
        let mut client = self.connect().await?;
        let in_use = "select id from conversations where last_activity_at > now() - interval '5 seconds' order by id";
        let ids: Vec<Uuid> = client.query(in_use, &[]).await?.iter().map(|row| row.get(0)).collect();
        let id = ids.get(choice % ids.len().max(1)).context("a conversation is in use")?;
        let transaction = client.transaction().await?;
        transaction.query_one("select 1 from conversations where id = $1 for update", &[id]).await?;
        sleep(FROZEN).await;
        transaction.rollback().await?;
        Ok(Instant::now())
    }

    /// Kills the server and lets it come back as a standby without a primary, which answers and takes no writes; then
    /// promotes it.
    pub(super) async fn make_read_only(&self) -> Result<Instant> {
        let postmaster = self.postmaster()?;
        let data = std::fs::canonicalize(self.backends.data_dir().join("postgres"))?;
        mark_as_standby(&data)?;
        self.backends.kill(postmaster, Signal::SIGKILL)?;
        let is_standby = comes_true(WAIT_TIMEOUT, || async { self.is_in_recovery().await == Some(true) }).await;
        ensure!(is_standby, "PostgreSQL did not come back as a standby");
        sleep(FROZEN).await;
        self.connect().await?.query_one("select pg_promote(true, 30)", &[]).await?;
        let is_primary = comes_true(WAIT_TIMEOUT, || async { self.is_in_recovery().await == Some(false) }).await;
        ensure!(is_primary, "the standby was not promoted");
        Ok(Instant::now())
    }

    async fn is_in_recovery(&self) -> Option<bool> {
        let row = self.connect().await.ok()?.query_one("select pg_is_in_recovery()", &[]).await.ok()?;
        row.try_get(0).ok()
    }

    /// Adds rows that tell of messages that do not exist: first of all that wait, and old enough for a sweep.
    pub(super) async fn poison_outbox(&self) -> Result<()> {
        let client = self.connect().await?;
        let poison = "insert into outbox (kind, message_ids, created_at)
             select 'message', array[gen_random_uuid(), gen_random_uuid()], now() - interval '1 hour'
             from generate_series(1, 5)";
        client.execute(poison, &[]).await?;
        Ok(())
    }
}

/// What the server looks for when it starts; it removes the file when it is promoted.
fn mark_as_standby(data: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let owner = std::fs::metadata(data)?;
    let signal = data.join("standby.signal");
    std::fs::write(&signal, "").with_context(|| format!("cannot write {}", signal.display()))?;
    chown(&signal, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// Processes whose parent this is.
fn children(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// The fourth field of `/proc/PID/stat`; the second one may hold spaces and ends with a parenthesis.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_process_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(children(own).contains(&pid) && !children(own).contains(&own));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
