//! The PostgreSQL of a system: one server, or a primary with a synchronous standby.
//!
//! A server of a pair that dies is not started again: a primary that comes back by itself beside a promoted standby is a second
//! primary. What happens next is the caller's command, as it is a failover manager's elsewhere.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::command::PostgresCommand;
use super::{NAME, Postgres, SERVICE_ROLE};
use crate::data_dir::DataDir;
use crate::launcher::Launcher;
use crate::orphans;
use crate::ports::Ports;
use crate::stack_env::StackEnv;
use crate::supervisor::Supervisor;
use crate::terminal;

/// For a server to become ready, or to be followed; generous, because a laptop may be compiling at the same time.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at the standby.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// For a server to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// In the data folder: the number of the server that was promoted last.
const PRIMARY_FILE: &str = "postgres_primary";
/// Every commit waits for any one standby.
const SYNCHRONOUS: &str = "*";

/// The servers, of which one is the primary.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    primary: usize,
    data_file: std::path::PathBuf,
    launcher: Launcher,
}

#[derive(Debug)]
struct Server {
    postgres: Postgres,
    supervisor: Option<Supervisor>,
}

impl Servers {
    /// Prepares one server, or two with the second as a standby.
    pub(crate) async fn prepare(
        data: &DataDir,
        ports: &mut Ports,
        launcher: &Launcher,
        temporary: bool,
        has_standby: bool,
    ) -> Result<Self> {
        let mut first = Postgres::prepare(data, ports.free()?, temporary).await?;
        let mut servers = Vec::new();
        let data_file = data.join(PRIMARY_FILE);
        let promoted = fs::read_to_string(&data_file).unwrap_or_default();
        if has_standby {
            let mut second = first.prepare_second(data, ports.free()?).await?;
            (first.peer_port, second.peer_port) = (Some(second.port), Some(first.port));
            servers.push(second);
        } else {
            ensure!(promoted.trim() != "2", "the second server is the primary: start with --postgres-standby");
        }
        servers.insert(0, first);
        let servers = servers.into_iter().map(|postgres| Server { postgres, supervisor: None }).collect();
        Ok(Self { servers, primary: usize::from(promoted.trim() == "2"), data_file, launcher: launcher.clone() })
    }

    /// Starts all of them and makes the role of the services. Returns when commits wait for the standby.
    pub(crate) async fn start(&mut self) -> Result<()> {
        self.start_server(self.primary).await?;
        if let Some(standby) = self.standby() {
            match self.servers[standby].postgres.is_standby() {
                true => self.start_server(standby).await?,
                false => self.copy_primary_to(standby).await?,
            }
            self.require_standby().await?;
        }
        let primary = &self.servers[self.primary].postgres;
        self.launcher.mark(primary.roles()).complete().await?;
        terminal::print(format!("  postgresql  ready{}", if self.is_pair() { " (primary and standby)" } else { "" }));
        Ok(())
    }

    /// Whether there is a standby, as far as it runs.
    pub(crate) fn is_pair(&self) -> bool {
        self.servers.len() > 1
    }

    fn standby(&self) -> Option<usize> {
        self.is_pair().then(|| 1 - self.primary)
    }

    async fn start_server(&mut self, number: usize) -> Result<()> {
        let server = &mut self.servers[number];
        let supervisor = self.launcher.supervise(server.postgres.server())?;
        let supervisor = server.supervisor.insert(supervisor);
        supervisor.ready(&server.postgres.probe(), STARTUP_TIMEOUT).await
    }

    /// Does what the command says.
    ///
    /// # Errors
    /// When it fails, or there is no pair.
    pub(crate) async fn run(&mut self, command: PostgresCommand) -> Result<()> {
        let standby = self.standby().context("there is no standby: start with --postgres-standby")?;
        match command {
            PostgresCommand::KillPrimary => self.kill_server(self.primary).await,
            PostgresCommand::Promote => self.promote(standby).await?,
            PostgresCommand::Rejoin => {
                self.kill_server(standby).await;
                self.copy_primary_to(standby).await?;
                self.require_standby().await?;
            }
            PostgresCommand::StopStandby => {
                if let Some(supervisor) = self.servers[standby].supervisor.take() {
                    let signal = supervisor.stop_signal();
                    supervisor.stop(signal, STOP_TIMEOUT).await;
                }
            }
            PostgresCommand::StartStandby => {
                ensure!(!self.is_running(standby), "it runs already");
                self.start_server(standby).await?;
            }
        }
        Ok(())
    }

    fn is_running(&self, number: usize) -> bool {
        self.pid(number).is_some()
    }

    fn pid(&self, number: usize) -> Option<i32> {
        let supervisor = self.servers.get(number)?.supervisor.as_ref()?;
        supervisor.is_running().then(|| supervisor.pid())
    }

    /// Its children too: some serve on until they notice that their postmaster is gone.
    async fn kill_server(&mut self, number: usize) {
        let server = &mut self.servers[number];
        if let Some(supervisor) = server.supervisor.take() {
            supervisor.stop(Signal::SIGKILL, STOP_TIMEOUT).await;
        }
        orphans::end(Signal::SIGKILL, STOP_TIMEOUT, || orphans::postgres_in(&server.postgres.folder)).await;
    }

    async fn promote(&mut self, standby: usize) -> Result<()> {
        ensure!(self.is_running(standby), "the standby does not run");
        let sql = "alter system set synchronous_standby_names = '';
            select pg_reload_conf();
            do $$ begin if not pg_promote(true, 60) then raise exception 'not promoted in time'; end if; end $$;\n";
        self.launcher.mark(self.servers[standby].postgres.psql("promote", sql)).complete().await?;
        fs::write(&self.data_file, (standby + 1).to_string())?;
        self.primary = standby;
        Ok(())
    }

    async fn copy_primary_to(&mut self, standby: usize) -> Result<()> {
        let folder = self.servers[standby].postgres.empty_folder()?;
        let copying = self.servers[self.primary].postgres.base_backup(&folder);
        self.launcher.mark(copying).complete().await?;
        self.start_server(standby).await
    }

    /// Makes commits wait for the standby from now on. They did not before it streams: nothing would end their wait.
    async fn require_standby(&self) -> Result<()> {
        self.until_standby("state = 'streaming'").await?;
        let sql = format!("alter system set synchronous_standby_names = '{SYNCHRONOUS}';\nselect pg_reload_conf();\n");
        self.launcher.mark(self.servers[self.primary].postgres.psql("standby", &sql)).complete().await?;
        self.until_standby("sync_state = 'sync'").await
    }

    /// Waits until the primary says this of its standby. Each look is a session of its own: one that is in the middle of a
    /// statement does not learn of new settings.
    async fn until_standby(&self, condition: &str) -> Result<()> {
        let sql = format!("select exists (select from pg_stat_replication where {condition});\n");
        let look = self.launcher.mark(self.servers[self.primary].postgres.psql("standby", &sql));
        let started = Instant::now();
        while look.read().await?.trim() != "t" {
            ensure!(started.elapsed() < STARTUP_TIMEOUT, "the standby does not follow the primary: not {condition}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// What others need to know of the servers.
    pub(crate) fn describe(&self, env: &mut StackEnv) {
        let [owner, service] = [true, false].map(|is_owner| {
            let url = |number: usize| self.servers.get(number).map(|server| server.postgres.url_of(is_owner));
            (url(self.primary), self.standby().and_then(url))
        });
        env.primary_database_url = owner.0.unwrap_or_default();
        env.standby_database_url = owner.1.unwrap_or_default();
        env.service_standby_database_url = service.1.unwrap_or_default();
        env.postgres_pid = self.pid(self.primary);
        env.standby_pid = self.standby().and_then(|standby| self.pid(standby));
    }

    /// For the role that owns everything: whichever server is the primary.
    pub(crate) fn url(&self) -> String {
        self.url_for(NAME, |postgres| &postgres.password)
    }

    /// The same for [`SERVICE_ROLE`].
    pub(crate) fn service_url(&self) -> String {
        self.url_for(SERVICE_ROLE, |postgres| &postgres.service_password)
    }

    fn url_for(&self, role: &str, password: impl Fn(&Postgres) -> &str) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.postgres.port)).collect();
        let password = self.servers.first().map(|server| password(&server.postgres)).unwrap_or_default();
        let attributes = if self.is_pair() { "?target_session_attrs=read-write" } else { "" };
        format!("postgres://{role}:{password}@{}/{NAME}{attributes}", hosts.join(","))
    }

    /// The primary first: it waits until the standby has received everything.
    pub(crate) async fn stop(&mut self) {
        for number in [Some(self.primary), self.standby()].into_iter().flatten() {
            if let Some(supervisor) = self.servers[number].supervisor.take() {
                let signal = supervisor.stop_signal();
                supervisor.stop(signal, STOP_TIMEOUT).await;
            }
        }
    }

    /// The processes that still run.
    pub(crate) fn take_supervisors(&mut self) -> impl Iterator<Item = Supervisor> {
        self.servers.iter_mut().filter_map(|server| server.supervisor.take())
    }
}
