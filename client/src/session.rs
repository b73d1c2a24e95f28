//! The runtime and the connections of one command.

use crate::failure::Failure;
use jsi_client::{Admin, Agent, Error};
use nix::unistd::geteuid;
use std::future::Future;

/// Runs a future to its end. One thread, no timers: nothing is started that a
/// command of two milliseconds does not need.
pub(crate) fn block_on<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    Ok(runtime().map_err(cannot_start)?.block_on(future)?)
}

/// The same, for who looks at the client's error itself.
pub(crate) fn block_on_client<T>(
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    runtime().map_err(|error| Error::Broken(format!("cannot start: {error}")))?.block_on(future)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_io().build()
}

fn cannot_start(error: std::io::Error) -> Failure {
    Failure::new(format!("cannot start: {error}"))
}

/// The same for what needs timers.
pub(crate) fn block_with_timers<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(future))
}

/// The same for what may not wait for ever; `None`: it did not end within that
/// time.
pub(crate) fn block_within<T>(
    patience: std::time::Duration,
    future: impl Future<Output = T>,
) -> Result<Option<T>, Failure> {
    block_with_timers(async { tokio::time::timeout(patience, future).await.ok() })
}

/// The same, with the client's own error: for whoever looks at its kind.
pub(crate) fn block_on_plainly<T>(
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| Error::Broken(error.to_string()));
    runtime?.block_on(future)
}

/// A connection to the agent.
pub(crate) async fn agent() -> Result<Agent, Error> {
    let agent = Agent::connect().await?;
    connected(agent.server_uid());
    Ok(agent)
}

/// A connection to the admin socket.
pub(crate) async fn admin() -> Result<Admin, Error> {
    let admin = Admin::connect().await?;
    connected(admin.server_uid());
    Ok(admin)
}

/// The agent service on the admin socket, where everybody's leases are seen.
pub(crate) async fn agent_of_operators() -> Result<Agent, Error> {
    let agent = Agent::connect_to(jsi_client::admin_socket(), jsi_client::Trust::host()).await?;
    connected(agent.server_uid());
    Ok(agent)
}

/// Keeps others of the same uid out of this process, where the agent can still
/// look in: a user agent reads /proc with this uid and no more, so a process
/// that hides itself would be refused.
fn connected(server_uid: u32) {
    if server_uid != geteuid().as_raw() {
        hide();
    }
}

/// Gives up for good the group of a setgid `jsi`, before another program is
/// executed without a connection having been made.
pub(crate) fn drop_group() {
    jsi_client::group::give_up();
}

/// No dumps of this process from here on, and no reading of it by the same uid.
pub(crate) fn hide() {
    let _ = nix::sys::prctl::set_dumpable(false); // refused nowhere
}
