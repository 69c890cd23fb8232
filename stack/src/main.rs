//! `stack`: starts, watches and stops the whole system on one machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    stack::cli::main()
}
