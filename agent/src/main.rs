//! The `jsi-agent` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: jsi_agent::memory::WipingAllocator = jsi_agent::memory::WipingAllocator;

fn main() -> ExitCode {
    jsi_agent::cli::main()
}
