//! The whole system on one machine: private PostgreSQL and Redis, the services, HAProxy in front.
//!
//! `make run` is this crate's binary; tests and benches hold a [`Stack`], which runs the same binary.
//!
//! | module | owns |
//! | --- | --- |
//! | `cli`, `run_options` | flags, environment, exit codes |
//! | `system` | the order in which parts start and stop, and `stack.env` |
//! | `launcher`, `supervisor`, `program`, `probe`, `orphans` | one process: started, watched, restarted, ended |
//! | `control` | commands to a stack that runs |
//! | `postgres`, `template`, `redis`, `redis_sentinel`, `services`, `haproxy` | what each part is started with |
//! | `data_dir`, `ports`, `secret`, `stack_env` | what they share |
//! | `stop_signal`, `banner`, `terminal` | the terminal: when to stop, what to print, who never waits for it |
//! | `handle`, `options` | [`Stack`], for tests |

mod banner;
pub mod cli;
mod control;
mod data_dir;
mod handle;
mod haproxy;
mod launcher;
mod options;
mod orphans;
mod ports;
mod postgres;
mod probe;
mod program;
mod redis;
mod redis_sentinel;
mod run_options;
mod secret;
mod services;
mod stack_env;
mod stop_signal;
mod supervisor;
mod system;
mod template;
mod terminal;

pub use handle::Stack;
pub use nix::sys::signal::Signal;
pub use options::StackOptions;
pub use postgres::PostgresCommand;
pub use stack_env::StackEnv;
