//! A stand-in for the loader, until the real one is there.

use super::{Config, Lifetimes, Limits, Mode, RunAs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Reads `[agent]` mode, user, socket, admin_socket, log_dir and store_dir; nothing else.
///
/// # Errors
/// When the file cannot be read.
pub fn load(path: Option<&Path>, mode: Option<Mode>) -> Result<Config, ConfigError> {
    let wrong = |e: &dyn std::fmt::Display| ConfigError(e.to_string());
    let text = path.map(std::fs::read_to_string).transpose().map_err(|e| wrong(&e))?;
    let table: toml::Table = text.unwrap_or_default().parse().map_err(|e| wrong(&e))?;
    let agent = table.get("agent").and_then(|t| t.as_table()).cloned().unwrap_or_default();
    let string = |key: &str| agent.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let mode = match (string("mode").as_deref(), mode) {
        (Some("host"), _) | (None, Some(Mode::Host)) => Mode::Host,
        _ => Mode::User,
    };
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
    let run = std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| home.join(".local/state/jsi/run"), |dir| PathBuf::from(dir).join("jsi"));
    let dir = |key: &str, or: PathBuf| string(key).map_or(or, PathBuf::from);
    let run_as = (mode == Mode::Host && nix::unistd::geteuid().is_root())
        .then(|| string("user"))
        .flatten()
        .and_then(|name| nix::unistd::User::from_name(&name).ok().flatten())
        .map(|user| RunAs { user: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() });
    Ok(Config {
        source: path.map(Path::to_owned),
        mode,
        run_as,
        socket: dir("socket", run.join("agent.sock")),
        admin_socket: dir("admin_socket", run.join("admin.sock")),
        admin_gid: None,
        policy_dir: home.join(".config/jsi/policy.d"),
        store_dir: dir("store_dir", home.join(".local/share/jsi/store")),
        log_dir: dir("log_dir", home.join(".local/state/jsi/log")),
        identity: home.join(".config/jsi/identity"),
        genuine_clients: Vec::new(),
        enrolled_clients: Vec::new(),
        isolated_uids: std::collections::BTreeSet::new(),
        reflection: false,
        stop_timeout: Duration::from_secs(5),
        lifetimes: Lifetimes { default_ttl: Duration::from_secs(900), max_ttl: Duration::from_secs(3600) },
        credentials: std::collections::BTreeMap::new(),
        limits: Limits::default(),
    })
}
