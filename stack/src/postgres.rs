//! A private PostgreSQL server: its binaries, account, data folder, and how it is started.
//! Durability is the default one (`fsync` on): 201 means "on disk" here as in production.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::data_dir::{DataDir, remove_file};
use crate::program::{self, Program, SECRET_VARIABLES};
use crate::secret::{load_or_create, write_private};
use crate::template::Template;
use crate::{orphans, probe::Probe};

/// Oldest server that the migrations and queries are written for.
const MIN_MAJOR_VERSION: u32 = 14;
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
}

impl Postgres {
    /// Finds the binaries and the data folder, ends a server that still runs on it, and makes the
    /// database when there is none.
    pub(crate) async fn prepare(data: &DataDir, port: u16, temporary: bool) -> Result<Self> {
        let account = account()?;
        let folder = data.postgres(account.as_ref())?;
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
            log: data.log("postgres"),
            port,
            folder,
        };
        server.end_leftovers().await?;
        if existing.is_none() {
            server.create(template).await?;
        }
        Ok(server)
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
        let mut program = self.program("postgres", "postgres").args(["-D"]).args([&self.folder]);
        program = program.args(settings.iter().flat_map(|setting| ["-c", setting]));
        program.stop = Signal::SIGINT; // Its "fast" shutdown; SIGTERM would wait for every client.
        program.data_folder = Some(self.folder.clone());
        program
    }

    pub(crate) fn probe(&self) -> Probe {
        Probe::Postgres { port: self.port }
    }

    /// For the role that owns everything.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{NAME}", self.password, self.port)
    }

    /// For [`SERVICE_ROLE`].
    pub(crate) fn service_url(&self) -> String {
        format!("postgres://{SERVICE_ROLE}:{}@127.0.0.1:{}/{NAME}", self.service_password, self.port)
    }

    /// Makes [`SERVICE_ROLE`], in a running server; one that is there gets the password that it has. What it may do is the
    /// migration's business.
    pub(crate) fn roles(&self) -> Program {
        let mut psql = self.program("roles", "psql").env("PGPASSWORD", &self.password);
        psql = psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", NAME, "-d", NAME]);
        psql = psql.args(["-p"]).args([self.port.to_string()]);
        // The password is of hexadecimal digits. Passwords that the log would show are not: errors are terse, statements
        // are not logged.
        let password = &self.service_password;
        psql.input = format!(
            "do $$ begin
                 if not exists (select from pg_roles where rolname = '{SERVICE_ROLE}') then
                     create role {SERVICE_ROLE} login;
                 end if;
             end $$;
             alter role {SERVICE_ROLE} login nosuperuser nocreatedb nocreaterole password '{password}';\n"
        );
        psql
    }
}

/// PostgreSQL refuses to run as root: an unprivileged account then, else none (the caller's own).
fn account() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as")
}

/// Version of the server that made the data folder; none when there is no database in it yet.
fn existing_major(folder: &Path) -> Result<Option<u32>> {
    match fs::read_to_string(folder.join("PG_VERSION")) {
        Ok(text) => Ok(Some(text.trim().parse().context("PG_VERSION of the data folder is no number")?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// The folder of `postgres` and `initdb`: of exactly this version when there is a database already,
/// else the one in `PATH`, else the newest of Debian's.
fn binaries(wanted: Option<u32>) -> Result<PathBuf> {
    let in_path = program::find("postgres").and_then(|file| file.canonicalize().ok()?.parent().map(Path::to_path_buf));
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    debian.sort_unstable();
    let folders = in_path.into_iter().chain(debian.into_iter().rev().map(|(_, folder)| folder));
    let complete = folders
        .filter(|folder| ["postgres", "initdb", "psql"].iter().all(|name| program::is_executable(&folder.join(name))));
    let found: Vec<(u32, PathBuf)> = complete.filter_map(|folder| Some((major(&folder)?, folder))).collect();
    match wanted {
        Some(wanted) => found.into_iter().find(|(major, _)| *major == wanted).map(|(_, folder)| folder).with_context(|| {
            format!("the database in the data folder was made by PostgreSQL {wanted}, which is not here any more; `make reset` drops it")
        }),
        None => found
            .into_iter()
            .find(|(major, _)| *major >= MIN_MAJOR_VERSION)
            .map(|(_, folder)| folder)
            .with_context(|| format!("PostgreSQL {MIN_MAJOR_VERSION} or newer is not installed; scripts/install does it")),
    }
}

fn major(folder: &Path) -> Option<u32> {
    let output = std::process::Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Lets PostgreSQL's account pass through a folder that this process made for it.
pub(crate) fn let_pass(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).context("cannot open the folder to PostgreSQL's account")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_parsed_from_binary_output() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("something else"), None);
    }
}
