//! A private Redis server. Keeps nothing on disk: PostgreSQL is the truth, and a Redis that comes
//! back empty is a case the services must handle every day.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::data_dir::DataDir;
use crate::probe::Probe;
use crate::program::{self, Program};
use crate::secret::load_or_create;

/// A server that is ready to be started.
#[derive(Debug)]
pub(crate) struct Redis {
    binary: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    password: String,
    port: u16,
}

impl Redis {
    pub(crate) fn prepare(data: &DataDir, port: u16) -> Result<Self> {
        Ok(Self {
            binary: program::find("redis-server").context("redis-server is not installed; scripts/install does it")?,
            folder: data.path().to_path_buf(),
            log: data.log("redis"),
            password: load_or_create(&data.join("redis_password"))?,
            port,
        })
    }

    /// The server; its settings go through standard input, where no process list shows the password.
    pub(crate) fn server(&self) -> Program {
        let mut program = Program::new("redis", self.binary.clone(), self.log.clone()).args(["-"]);
        program.input = self.settings();
        program.folder = Some(self.folder.clone());
        program.hidden = vec!["JWT_SECRET", "DATABASE_URL"];
        program
    }

    fn settings(&self) -> String {
        let Self { port, password, .. } = self;
        // `set-proc-title no`: the title would overwrite the environment that marks our processes.
        format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\n\
             daemonize no\nsupervised no\nset-proc-title no\nlogfile \"\"\n"
        )
    }

    pub(crate) fn probe(&self) -> Probe {
        Probe::Redis { port: self.port, password: self.password.clone() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://default:{}@127.0.0.1:{}", self.password, self.port)
    }
}
