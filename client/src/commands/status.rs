//! `jsi status`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::{LockStatus, StatusResponse};
use serde_json::json;

#[derive(clap::Args)]
#[command(after_help = "\
Advisory, and why; what is in force; what is locked; use of each limit.
  jsi status -o json | jq .log_head")]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let status = session::block_on(async { session::admin().await?.status().await })?;
    output::print(arguments.output, || as_json(&status), || as_text(&status))
}

fn as_json(status: &StatusResponse) -> serde_json::Value {
    json!({
        "version": status.version,
        "pid": status.pid,
        "attestor_pid": status.attestor_pid,
        "launcher_pid": status.launcher_pid,
        "started_at": view::at(status.started_at.as_ref()),
        "mode": status.mode,
        "socket": status.socket,
        "locked": status.locked,
        "locked_reason": status.locked_reason,
        "lock": status.lock.as_ref().map(|lock| json!({
            "since": lock.since.as_ref().map(|at| view::at(Some(at))),
            "identity": lock.identity,
            "unlock_with": lock.unlock_with,
            "auto_lock_at": lock.auto_lock_at.as_ref().map(|at| view::at(Some(at))),
            "stopped": lock.stopped,
            "working": lock.working,
        })),
        "advisory": status.advisory,
        "advisory_reasons": status.advisory_reasons,
        "leases_active": status.leases_active,
        "leases_stuck": status.leases_stuck,
        "policies": status.policies,
        "policy_dir": status.policy_dir,
        "credentials": status.credentials,
        "log_dir": status.log_dir,
        "log_records": status.log_records,
        "log_head": status.log_head,
        "log_fault": status.log_fault,
        "guarded_memory": status.guarded_memory,
        "limits": status.limits.iter()
            .map(|l| json!({ "name": l.name, "used": l.used, "limit": l.limit }))
            .collect::<Vec<_>>(),
        "notices": status.notices,
    })
}

/// What the lock means, spelled out while it holds.
fn lock_lines(lock: &LockStatus) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if lock.since.is_some() {
        lines.push(("  since", view::at(lock.since.as_ref())));
        let opens = match lock.unlock_with.as_str() {
            "passphrase" => "jsi unlock, which asks for the passphrase",
            "plugin" => "jsi unlock, which has the identity's plugin ask for its PIN or touch",
            "systemd" => "jsi unlock, where systemd-creds may decrypt the identity",
            _ => "jsi unlock",
        };
        lines.push(("  opens by", opens.to_owned()));
        lines.extend(lock.stopped.iter().map(|what| ("  stopped", what.clone())));
        lines.extend(lock.working.iter().map(|what| ("  working", what.clone())));
    }
    if lock.auto_lock_at.is_some() {
        let at = view::at(lock.auto_lock_at.as_ref());
        lines.push(("  locks itself", format!("{at}, if nothing is used until then")));
    }
    lines.push(("identity", lock.identity.clone()));
    lines
}

fn as_text(status: &StatusResponse) -> String {
    let locked = match (status.locked, status.locked_reason.as_str()) {
        (false, _) => "no".to_owned(),
        (true, "") => "yes".to_owned(),
        (true, why) => format!("yes: {why}"),
    };
    let log = if status.log_fault.is_empty() {
        format!("{} records in {}", status.log_records, status.log_dir)
    } else {
        format!("cannot be written, nothing is issued: {}", status.log_fault)
    };
    let mut pairs = vec![
        ("agent", format!("{} ({} agent)", status.version, status.mode)),
        (
            "pids",
            format!(
                "broker {}, attestor {}, launcher {}",
                status.pid, status.attestor_pid, status.launcher_pid
            ),
        ),
        ("since", view::at(status.started_at.as_ref())),
        ("socket", status.socket.clone()),
        ("locked", locked),
    ];
    if let Some(lock) = &status.lock {
        pairs.extend(lock_lines(lock));
    }
    pairs.extend([
        ("leases", format!("{} active, {} stuck", status.leases_active, status.leases_stuck)),
        ("policies", format!("{} in {}", status.policies, status.policy_dir)),
        ("credentials", status.credentials.to_string()),
        ("log", log),
        ("log head", status.log_head.clone()),
        ("memory", status.guarded_memory.clone()),
    ]);
    if status.advisory {
        pairs.push(("advisory", "yes; assurance is at most 1".to_owned()));
        pairs.extend(status.advisory_reasons.iter().map(|why| ("  because", why.clone())));
    }
    pairs.extend(status.notices.iter().map(|notice| ("notice", notice.clone())));
    let mut text = output::pairs(&pairs);
    if !status.limits.is_empty() {
        let rows: Vec<_> = status
            .limits
            .iter()
            .map(|l| vec![l.name.clone(), l.used.to_string(), l.limit.to_string()])
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["LIMIT", "USED", "AT MOST"], &rows));
    }
    text
}
