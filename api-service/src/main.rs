//! The binary of the API service.

use std::process::ExitCode;

/// A send makes and drops some hundred small values; the system's allocator takes a fifth of its time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    api_service::cli::run()
}
