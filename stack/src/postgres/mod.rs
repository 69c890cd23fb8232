//! A private PostgreSQL server: its data folder, and how it is started. `installation` finds its binaries and account, `servers`
//! runs one server or a primary with a standby, and `command` says what such a pair can be asked to do.
//!
//! Durability is the default one (`fsync` on): 201 means "on disk" here as in production.

mod command;
mod installation;
mod servers;

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
pub use command::PostgresCommand;
use installation::{account, binaries, existing_major, major};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
pub(crate) use servers::Servers;

use crate::data_dir::{DataDir, POSTGRES_FOLDERS, remove_file, remove_tree};
use crate::program::{Program, SECRET_VARIABLES};
use crate::secret::{load_or_create, write_private};
use crate::template::Template;
use crate::{orphans, probe::Probe};

/// For a server left by a killed stack; the kernel has asked it to stop already.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Name of both the database and the role that owns it.
const NAME: &str = "chat";
/// The role that the services use, which owns nothing.
pub(crate) const SERVICE_ROLE: &str = "chat_service";

/// A server that is ready to be started.
#[derive(Debug)]
pub(crate) struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
    account: Option<User>,
    password: String,
    service_password: String,
    log: PathBuf,
    port: u16,
    /// Where the other server of a pair listens.
    peer_port: Option<u16>,
}

/// The file whose presence makes a server a standby.
const STANDBY_FILE: &str = "standby.signal";

impl Postgres {
    /// Finds the binaries and the data folder, ends a server that still runs on it, and makes the
    /// database when there is none.
    pub(crate) async fn prepare(data: &DataDir, port: u16, temporary: bool) -> Result<Self> {
        let account = account()?;
        let folder = data.postgres(POSTGRES_FOLDERS[0], account.as_ref())?;
        let existing = existing_major(&folder)?;
        let binaries = binaries(existing)?;
        let template = match temporary {
            true => Some(Template::lock(major(&binaries).context("PostgreSQL does not say its version")?).await?),
            false => None,
        };
        let password = match &template {
            Some(template) => template.password.clone(),
            None => load_or_create(&data.join("postgres_password"))?,
        };
        let server = Self {
            binaries,
            account,
            password,
            service_password: load_or_create(&data.join("postgres_service_password"))?,
            log: data.log(POSTGRES_FOLDERS[0]),
            port,
            peer_port: None,
            folder,
        };
        server.end_leftovers().await?;
        if existing.is_none() {
            server.create(template).await?;
        }
        Ok(server)
    }

    /// The other server of a pair. Its data folder may be empty yet.
    async fn prepare_second(&self, data: &DataDir, port: u16) -> Result<Self> {
        let second = Self {
            binaries: self.binaries.clone(),
            account: self.account.clone(),
            password: self.password.clone(),
            service_password: self.service_password.clone(),
            log: data.log(POSTGRES_FOLDERS[1]),
            folder: data.postgres(POSTGRES_FOLDERS[1], self.account.as_ref())?,
            port,
            peer_port: None,
        };
        second.end_leftovers().await?;
        Ok(second)
    }

    /// Whether it starts as a standby.
    fn is_standby(&self) -> bool {
        self.folder.join(STANDBY_FILE).exists()
    }

    /// Empties the data folder, for a copy of the primary.
    fn empty_folder(&self) -> Result<PathBuf> {
        remove_tree(&self.folder)?;
        DirBuilder::new().mode(0o700).create(&self.folder)?;
        self.give(&self.folder)?;
        Ok(self.folder.clone())
    }

    /// Copies this server, while it runs, into a folder of a standby.
    fn base_backup(&self, folder: &Path) -> Program {
        let program = self.program("pg_basebackup", "pg_basebackup").env("PGPASSWORD", &self.password);
        let program =
            program.args(["--no-password", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]);
        let program = program.args(["--host=127.0.0.1", "--username", NAME, "--port"]).args([self.port.to_string()]);
        program.args(["--pgdata"]).args([folder])
    }

    /// Stops a server of an earlier stack that was killed, and clears what it left.
    async fn end_leftovers(&self) -> Result<()> {
        let pid_file = self.folder.join("postmaster.pid");
        let postmaster = fs::read_to_string(&pid_file).ok().and_then(|text| text.lines().next()?.parse().ok());
        if let Some(pid) = postmaster.filter(|pid| orphans::postgres_in(&self.folder).contains(pid)) {
            kill(Pid::from_raw(pid), Signal::SIGINT).context("cannot stop the PostgreSQL that still runs")?;
        }
        // The children follow their postmaster; those that are left at the end are killed.
        orphans::end(Signal::SIGCONT, LEFTOVER_TIMEOUT, || orphans::postgres_in(&self.folder)).await;
        // Its process id may belong to another process by now, which PostgreSQL would take for itself.
        remove_file(&pid_file)
    }

    /// Makes the cluster beside its place and moves it there complete, so that an interrupted
    /// attempt is never taken for a database.
    async fn create(&self, template: Option<Template>) -> Result<()> {
        let next = self.folder.with_extension("new");
        let _ = fs::remove_dir_all(&next);
        match template {
            Some(template) if template.exists() => template.copy_to(&next, &self.log).await?,
            Some(template) => {
                self.init(&next).await?;
                template.save(&next, &self.log).await?;
            }
            None => self.init(&next).await?,
        }
        fs::rename(&next, &self.folder).context("cannot move the new database to its place")
    }

    async fn init(&self, folder: &Path) -> Result<()> {
        let password_file = self.folder.with_extension("pw");
        DirBuilder::new().mode(0o700).create(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write_private(&password_file, &self.password)?;
        self.give(folder)?;
        self.give(&password_file)?;

        let initdb = self
            .program("initdb", "initdb")
            .args(["--username", NAME, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--pwfile"])
            .args([&password_file])
            .args(["--pgdata"])
            .args([folder]);
        let made = initdb.complete().await;
        fs::remove_file(&password_file)?;
        made?;

        let mut single =
            self.program("createdb", "postgres").args(["--single", "-D"]).args([folder]).args(["postgres"]);
        single.input = format!("CREATE DATABASE {NAME}\n");
        single.complete().await
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Some(account) = &self.account else { return Ok(()) };
        chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {}", path.display(), account.name))
    }

    fn program(&self, name: &str, binary: &str) -> Program {
        let mut program = Program::new(name, self.binaries.join(binary), self.log.clone());
        program.account = self.account.clone();
        program.folder = self.folder.parent().map(Path::to_path_buf);
        program.removed_env = [&["PGDATA", "PGPORT", "PGOPTIONS"], &SECRET_VARIABLES[..]].concat();
        program
    }

    /// The server.
    pub(crate) fn server(&self) -> Program {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            // DETAIL and STATEMENT lines can hold what people wrote to each other.
            "log_error_verbosity=terse".to_owned(),
            "log_min_error_statement=panic".to_owned(),
            "log_parameter_max_length=0".to_owned(),
            "log_parameter_max_length_on_error=0".to_owned(),
        ];
        let name = self.log.file_stem().unwrap_or_default().to_string_lossy();
        let mut program = self.program(&name, "postgres").args(["-D"]).args([&self.folder]);
        program = program.args(settings.iter().flat_map(|setting| ["-c", setting]));
        program = match self.peer_port {
            // The password of the link to the primary comes from the environment.
            Some(peer) => {
                let primary = format!("primary_conninfo=host=127.0.0.1 port={peer} user={NAME} sslmode=disable");
                program.args(["-c", "wal_keep_size=1GB", "-c", &primary]).env("PGPASSWORD", &self.password)
            }
            // A former primary of a pair may still name a standby in its data folder.
            None => program.args(["-c", "synchronous_standby_names="]),
        };
        program.restarts = self.peer_port.is_none();
        program.stop = Signal::SIGINT; // Its "fast" shutdown; SIGTERM would wait for every client.
        program.data_folder = Some(self.folder.clone());
        program
    }

    pub(crate) fn probe(&self) -> Probe {
        Probe::Postgres { port: self.port }
    }

    /// This server alone, for the role that owns everything or for [`SERVICE_ROLE`].
    fn url_of(&self, is_owner: bool) -> String {
        let (role, password) = if is_owner { (NAME, &self.password) } else { (SERVICE_ROLE, &self.service_password) };
        format!("postgres://{role}:{password}@127.0.0.1:{}/{NAME}", self.port)
    }

    /// Runs statements as the owner, in a running server; the first error ends them.
    fn psql(&self, name: &str, sql: &str) -> Program {
        let mut psql = self.program(name, "psql").env("PGPASSWORD", &self.password);
        psql = psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", NAME, "-d", NAME]);
        psql = psql.args(["-p"]).args([self.port.to_string()]);
        sql.clone_into(&mut psql.input);
        psql
    }

    /// Makes [`SERVICE_ROLE`], in a running server; one that is there gets the password that it has. What it may do is the
    /// migration's business.
    pub(crate) fn roles(&self) -> Program {
        // The password is of hexadecimal digits. Passwords that the log would show are not: errors are terse, statements
        // are not logged.
        let password = &self.service_password;
        let sql = format!(
            "do $$ begin
                 if not exists (select from pg_roles where rolname = '{SERVICE_ROLE}') then
                     create role {SERVICE_ROLE} login;
                 end if;
             end $$;
             alter role {SERVICE_ROLE} login nosuperuser nocreatedb nocreaterole password '{password}';\n"
        );
        self.psql("roles", &sql)
    }
}

/// Lets PostgreSQL's account pass through a folder that this process made for it.
pub(crate) fn let_pass(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).context("cannot open the folder to PostgreSQL's account")
}
