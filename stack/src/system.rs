//! The system as a whole: the order of start and end, and the settings of each part.
//! It never leaves a process behind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::banner::banner;
use crate::control::{Control, Request};
use crate::data_dir::{DataDir, ENV_FILE, remove_file};
use crate::haproxy::{HaProxy, SOFT_STOP};
use crate::launcher::Launcher;
use crate::ports::{self, Ports};
use crate::postgres::{SERVICE_ROLE, Servers};
use crate::probe::Probe;
use crate::redis::{Layout, Redis};
use crate::redis_sentinel::Sentinel;
use crate::run_options::RunOptions;
use crate::services::ServiceEnv;
use crate::stack_env::StackEnv;
use crate::stop_signal::StopSignal;
use crate::supervisor::Supervisor;
use crate::{orphans, secret, terminal};

/// For a part to become ready; generous, because a laptop may be compiling at the same time.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// For services to drain their sockets and requests; longer than their own deadline (30 s).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(35);
/// For a server that has nothing to drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the system, keeps it running until a stop signal, and stops it.
pub(crate) async fn run(options: RunOptions) -> Result<ExitCode> {
    let mut stop_signal = StopSignal::listen(options.until_stdin_closes)?;
    let data = DataDir::open(&options.data_dir)?;
    let temporary = options.temporary;
    let mut system = System::new(options, data);
    let outcome = tokio::select! {
        outcome = system.run() => outcome,
        () = stop_signal.first() => Ok(()),
    };
    if let Err(error) = &outcome {
        terminal::print_error(format!("{error:#}")); // Now, while the logs that it names are there.
    }
    tokio::select! {
        () = system.stop() => {}
        () = stop_signal.second() => {}
    }
    system.kill().await;
    remove_file(&system.env_file())?;
    if temporary {
        system.data.remove()?;
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct System {
    options: RunOptions,
    data: DataDir,
    ports: Ports,
    launcher: Launcher,
    control: Option<Control>,
    env: StackEnv,
    postgres: Option<Servers>,
    redis: Vec<Supervisor>,
    sentinels: Vec<Supervisor>,
    apis: Vec<Supervisor>,
    gateways: Vec<Supervisor>,
    proxy: Option<Supervisor>,
}

impl System {
    fn new(options: RunOptions, data: DataDir) -> Self {
        Self {
            options,
            launcher: Launcher::new(data.path().to_path_buf()),
            control: None,
            data,
            ports: Ports::default(),
            env: StackEnv::default(),
            postgres: None,
            redis: Vec::new(),
            sentinels: Vec::new(),
            apis: Vec::new(),
            gateways: Vec::new(),
            proxy: None,
        }
    }

    fn env_file(&self) -> PathBuf {
        self.data.join(ENV_FILE)
    }

    /// Starts everything, then notes every restart. Returns only when it fails.
    async fn run(&mut self) -> Result<()> {
        let started = Instant::now();
        orphans::end(Signal::SIGTERM, STOP_TIMEOUT, || orphans::marked(self.data.path())).await;
        self.env.jwt_secret = secret::jwt_secret(self.options.jwt_secret.as_deref(), &self.data.join("jwt_secret"))?;
        self.env.mode = std::env::var("MODE").unwrap_or_else(|_| "development".to_owned());
        self.env.audit_key = secret::audit_key(self.options.audit_key.as_deref(), &self.data.join("audit_key"))?;
        let service_env = if self.options.only_backends {
            self.start_backends().await?;
            None
        } else {
            let public = self.public_addresses()?;
            let mut service_env = self.service_env()?;
            self.start_backends().await?;
            service_env.database_url.clone_from(&self.env.database_url);
            service_env.service_database_url.clone_from(&self.env.service_database_url);
            service_env.service_role = self.postgres.is_some().then_some(SERVICE_ROLE);
            service_env.redis_url.clone_from(&self.env.redis_url);
            service_env.has_own_backends = self.postgres.is_some() && !self.redis.is_empty();
            self.start_services(&service_env, &public).await?;
            Some(service_env)
        };
        self.write_env()?;
        terminal::print(format!(
            "  ready in {:.1} s; logs are in {}",
            started.elapsed().as_secs_f32(),
            self.data.logs().display()
        ));
        if let Some(service_env) = &service_env {
            terminal::print(banner(&self.env, service_env));
        }
        loop {
            let request = tokio::select! {
                () = self.launcher.changed() => None,
                request = next_request(self.control.as_ref()) => Some(request),
            };
            let outcome = match (&request, &mut self.postgres) {
                (Some(request), Some(servers)) => servers.run(request.command).await,
                _ => Ok(()),
            };
            self.write_env()?;
            if let Some(request) = request {
                request.answer(&outcome).await;
            }
        }
    }

    /// Checked before anything is started: a port in use is the most likely thing to go wrong.
    fn public_addresses(&mut self) -> Result<Vec<SocketAddr>> {
        if self.options.no_proxy {
            return Ok(Vec::new());
        }
        if self.options.port == 0 {
            self.options.port = self.ports.free()?;
        }
        let addresses = ports::public_addresses(self.options.bind.as_deref(), self.options.port)?;
        ports::ensure_free(&addresses)?;
        Ok(addresses)
    }

    fn service_env(&self) -> Result<ServiceEnv> {
        let found =
            |folder: &PathBuf| folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()));
        let binaries = match &self.options.profile_dir {
            Some(folder) => found(folder)?,
            None => std::env::current_exe()?.parent().context("this binary has no folder")?.to_path_buf(),
        };
        let service_env = ServiceEnv {
            migrate_binaries: self.options.migrate_dir.as_ref().map_or_else(|| Ok(binaries.clone()), found)?,
            binaries,
            database_url: String::new(),
            service_database_url: String::new(),
            service_role: None,
            redis_url: String::new(),
            gateway_redis_url: self.options.gateway_redis_url.clone().filter(|url| !url.is_empty()),
            jwt_secret: self.env.jwt_secret.clone(),
            mode: self.env.mode.clone(),
            has_own_backends: false,
            audit_key: self.env.audit_key.clone(),
        };
        service_env.ensure_built()?;
        Ok(service_env)
    }

    async fn start_backends(&mut self) -> Result<()> {
        match self.options.redis_url.clone().filter(|url| !url.is_empty()) {
            Some(url) => self.env.redis_url = url,
            None if self.options.redis_cluster => self.start_redis_cluster().await?,
            None if self.options.redis_sentinel => self.start_redis_sentinel().await?,
            None => {
                let redis = Redis::prepare(&self.data, self.ports.free()?)?;
                let supervisor = self.launcher.supervise(redis.server())?;
                self.redis.push(supervisor);
                for supervisor in &self.redis {
                    supervisor.ready(&redis.probe(), STARTUP_TIMEOUT).await?;
                }
                self.env.redis_url = redis.url();
                terminal::print("  redis       ready");
            }
        }
        match self.options.database_url.clone().filter(|url| !url.is_empty()) {
            // Whose roles are not ours to make.
            Some(url) => {
                self.env.service_database_url.clone_from(&url);
                self.env.database_url = url;
            }
            None => {
                let has_standby = self.options.postgres_standby;
                let temporary = self.options.temporary;
                let servers =
                    Servers::prepare(&self.data, &mut self.ports, &self.launcher, temporary, has_standby).await?;
                let servers = self.postgres.insert(servers);
                servers.start().await?;
                self.env.database_url = servers.url();
                self.env.service_database_url = servers.service_url();
                if servers.is_pair() {
                    self.control = Some(Control::listen(&self.data)?);
                }
            }
        }
        Ok(())
    }

    async fn start_redis_cluster(&mut self) -> Result<()> {
        let layout =
            Layout { by_port: self.options.redis_nodes_by_port, has_replicas: !self.options.redis_without_replicas };
        let nodes = Redis::prepare_cluster(&self.data, &mut self.ports, layout)?;
        for node in &nodes {
            let supervisor = self.launcher.supervise(node.server())?;
            self.redis.push(supervisor);
        }
        for (supervisor, node) in self.redis.iter().zip(&nodes) {
            supervisor.ready(&node.probe(), STARTUP_TIMEOUT).await?;
        }
        self.launcher.mark(Redis::creation(&self.data, &nodes)?).complete().await?;
        for (supervisor, node) in self.redis.iter().zip(&nodes) {
            supervisor.ready(&node.cluster_probe(), STARTUP_TIMEOUT).await?;
        }
        self.env.redis_url = Redis::cluster_url(&nodes);
        terminal::print(format!("  redis       ready ({} nodes)", nodes.len()));
        Ok(())
    }

    async fn start_redis_sentinel(&mut self) -> Result<()> {
        let servers = Redis::prepare_replicated(&self.data, &mut self.ports)?;
        for server in &servers {
            let supervisor = self.launcher.supervise(server.server())?;
            self.redis.push(supervisor);
        }
        for (supervisor, server) in self.redis.iter().zip(&servers) {
            supervisor.ready(&server.replication_probe(), STARTUP_TIMEOUT).await?;
        }
        // They learn of replicas at once only from a master that has them already.
        let sentinels = Sentinel::prepare(&self.data, &mut self.ports, &servers)?;
        for sentinel in &sentinels {
            let supervisor = self.launcher.supervise(sentinel.server())?;
            self.sentinels.push(supervisor);
        }
        for (supervisor, sentinel) in self.sentinels.iter().zip(&sentinels) {
            supervisor.ready(&sentinel.probe(), STARTUP_TIMEOUT).await?;
        }
        self.env.redis_url = Sentinel::url(&sentinels, &servers);
        self.env.redis_node_ports = servers.iter().map(Redis::port).collect();
        terminal::print(format!("  redis       ready ({} servers, {} Sentinels)", servers.len(), sentinels.len()));
        Ok(())
    }

    async fn start_services(&mut self, service_env: &ServiceEnv, public: &[SocketAddr]) -> Result<()> {
        let migration = self.launcher.mark(service_env.migration(&self.data));
        migration.complete().await?;
        terminal::print("  migrations  done");

        let (mut api_ports, mut gateway_ports, mut admin_ports) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=self.options.api {
            let service = service_env.api(number, &self.data, &mut self.ports)?;
            let supervisor = self.launcher.supervise(service.program)?;
            self.apis.push(supervisor);
            api_ports.push(service.port);
            admin_ports.push(service.admin_port);
        }
        for number in 1..=self.options.gateways {
            let service = service_env.gateway(number, &self.data, &mut self.ports)?;
            let supervisor = self.launcher.supervise(service.program)?;
            self.gateways.push(supervisor);
            gateway_ports.push(service.port);
            admin_ports.push(service.admin_port);
        }
        let supervisors = self.apis.iter().chain(&self.gateways);
        for (supervisor, port) in supervisors.zip(api_ports.iter().chain(&gateway_ports)) {
            supervisor.ready(&Probe::http(*port), STARTUP_TIMEOUT).await?;
        }
        terminal::print(format!("  services    ready ({} API, {} gateways)", self.options.api, self.options.gateways));

        let urls = |scheme: &str, ports: &[u16], path: &str| -> Vec<String> {
            ports.iter().map(|port| format!("{scheme}://127.0.0.1:{port}{path}")).collect()
        };
        self.env.api_urls = urls("http", &api_ports, "");
        self.env.gateway_ws_urls = urls("ws", &gateway_ports, "/ws");
        self.env.admin_urls = urls("http", &admin_ports, "");
        self.start_proxy(public, &api_ports, &gateway_ports).await
    }

    async fn start_proxy(&mut self, public: &[SocketAddr], apis: &[u16], gateways: &[u16]) -> Result<()> {
        let Some(first) = public.first() else {
            self.env.base_url = self.env.api_urls.first().cloned().unwrap_or_default();
            self.env.ws_url = self.env.gateway_ws_urls.first().cloned().unwrap_or_default();
            return Ok(());
        };
        let proxy = HaProxy::prepare(&self.data, public, apis, gateways).await?;
        let supervisor = self.launcher.supervise(proxy.server())?;
        let supervisor = self.proxy.insert(supervisor);
        supervisor.ready(&Probe::Http(reachable(*first)), STARTUP_TIMEOUT).await?;
        terminal::print("  haproxy     ready");
        let host = if first.ip().is_loopback() || first.ip().is_unspecified() {
            format!("localhost:{}", first.port())
        } else {
            first.to_string()
        };
        self.env.base_url = format!("http://{host}");
        self.env.ws_url = format!("ws://{host}/ws");
        Ok(())
    }

    fn write_env(&mut self) -> Result<()> {
        let pid = |supervisor: &Option<Supervisor>| supervisor.as_ref().map(Supervisor::pid);
        match &self.postgres {
            Some(servers) => servers.describe(&mut self.env),
            None => self.env.primary_database_url.clone_from(&self.env.database_url),
        }
        self.env.redis_node_pids = self.redis.iter().map(Supervisor::pid).collect();
        self.env.sentinel_pids = self.sentinels.iter().map(Supervisor::pid).collect();
        self.env.redis_pid = self.env.redis_node_pids.first().copied();
        self.env.haproxy_pid = pid(&self.proxy);
        self.env.api_pids = self.apis.iter().map(Supervisor::pid).collect();
        self.env.gateway_pids = self.gateways.iter().map(Supervisor::pid).collect();
        self.env.write(&self.env_file())
    }

    /// From the outside in: no new work, then no sockets, then no writers, then what they wrote to.
    async fn stop(&mut self) {
        if !self.redis.is_empty() || self.postgres.is_some() || !self.apis.is_empty() {
            terminal::print("\n  stopping…");
        }
        if let Some(proxy) = &self.proxy {
            proxy.request_stop(SOFT_STOP);
        }
        stop_all(&mut self.gateways, DRAIN_TIMEOUT).await;
        stop_all(&mut self.apis, DRAIN_TIMEOUT).await;
        if let Some(proxy) = self.proxy.take() {
            proxy.stop(HaProxy::HARD_STOP, STOP_TIMEOUT).await;
        }
        stop_all(&mut self.sentinels, STOP_TIMEOUT).await;
        stop_all(&mut self.redis, STOP_TIMEOUT).await;
        if let Some(servers) = &mut self.postgres {
            servers.stop().await;
        }
    }

    /// Kills all processes that still run.
    async fn kill(&mut self) {
        let single = self.proxy.take().into_iter().chain(self.postgres.iter_mut().flat_map(Servers::take_supervisors));
        let services = self.gateways.drain(..).chain(self.apis.drain(..));
        let several = services.chain(self.sentinels.drain(..)).chain(self.redis.drain(..));
        for supervisor in single.chain(several) {
            supervisor.stop(Signal::SIGKILL, STOP_TIMEOUT).await;
        }
    }
}

/// The next command to the system; none ever comes without a control socket.
async fn next_request(control: Option<&Control>) -> Request {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// Asks all of them at the same time.
async fn stop_all(supervisors: &mut Vec<Supervisor>, timeout: Duration) {
    for supervisor in supervisors.iter() {
        supervisor.request_stop(supervisor.stop_signal());
    }
    let deadline = Instant::now() + timeout;
    while let Some(supervisor) = supervisors.pop() {
        let signal = supervisor.stop_signal();
        supervisor.stop(signal, deadline.saturating_duration_since(Instant::now())).await;
    }
}

/// Where a client on this machine finds a server that is bound there.
fn reachable(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { (IpAddr::from(Ipv4Addr::LOCALHOST), bound.port()).into() } else { bound }
}
