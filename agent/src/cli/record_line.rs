//! One record as one line for people: time, kind, who, what.

use crate::log::{BindingRecord, EndReason, Event, HolderRecord, KeyChange, Record};

/// The line, without line feed and without control characters.
pub(super) fn line(record: &Record) -> String {
    let (kind, who, what) = parts(&record.event);
    let who = if who.is_empty() { "-".to_owned() } else { who };
    let text = format!("{:<24}  {kind:<14}  {who:<28}  {what}", record.at);
    // What a process calls itself must not reach a terminal as a command.
    text.trim_end().chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}

/// What terminals obey, or what shows text in another order than it has.
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn parts(event: &Event) -> (&'static str, String, String) {
    let nobody = String::new;
    match event {
        Event::Started { version, pid, mode, advisory, .. } => {
            let advisory = if advisory.is_empty() {
                String::new()
            } else {
                format!(", advisory: {}", advisory.join("; "))
            };
            ("started", nobody(), format!("{mode} agent {version}, pid {pid}{advisory}"))
        }
        Event::Recovered { moved_to, bytes } => {
            ("recovered", nobody(), format!("{bytes} bytes cut short, moved to {moved_to}"))
        }
        Event::Intent { lease } => ("intent", holder(&lease.holder), lease.id.to_string()),
        Event::Granted { lease } => {
            let seconds = lease.ttl_ms / 1000;
            let bound = match &lease.binding {
                BindingRecord::Process { pid, .. } => format!("bound to pid {pid}"),
                BindingRecord::Connection => "bound to the connection".to_owned(),
                BindingRecord::None => "not bound".to_owned(),
            };
            let what = format!(
                "{} for {seconds} s, {bound}, by {}, request {}",
                lease.id, lease.delivery, lease.request
            );
            ("granted", holder(&lease.holder), what)
        }
        Event::Failed { lease, error } => ("failed", nobody(), format!("{lease}: {error}")),
        Event::Delivered { request, lease, delivery, uses_left } => {
            let left = uses_left.map(|left| format!(", {left} uses left")).unwrap_or_default();
            ("delivered", nobody(), format!("{lease} by {delivery}{left}, request {request}"))
        }
        Event::Renewed { lease, expires_at, .. } => {
            ("renewed", nobody(), format!("{lease} until {expires_at}"))
        }
        Event::Ending { lease, reason: why } => {
            ("ending", nobody(), format!("{lease}: {}", reason(*why)))
        }
        Event::Ended { lease, reason: why, outcome } => {
            ("ended", nobody(), format!("{lease}: {} ({outcome})", reason(*why)))
        }
        Event::Stuck { lease, reason: why, error } => {
            ("stuck", nobody(), format!("{lease}: {}; revocation refused: {error}", reason(*why)))
        }
        Event::Denied { request, action, credential, code, reason, who, .. } => (
            "denied",
            who.as_ref().map(holder).unwrap_or_default(),
            format!("{action} {credential}: {code}: {reason}, request {request}"),
        ),
        Event::Refused { pid, uid, reason } => {
            ("refused", format!("uid {uid} pid {pid}"), reason.clone())
        }
        Event::Suppressed { uid, count } => (
            "suppressed",
            uid.map_or_else(|| "several uids".to_owned(), |uid| format!("uid {uid}")),
            format!("{count} denials and refusals were left out"),
        ),
        Event::SecretPut { name, owner, replaced, by } => {
            let replaced = if *replaced { "replaced, " } else { "" };
            ("secret-put", holder(by), format!("{name} ({replaced}owner {owner})"))
        }
        Event::SecretRotated { name, fields, version, leases_told, leases_ended, by } => (
            "secret-rotated",
            holder(by),
            format!(
                "{name} ({}), version {version}; leases told: {leases_told}, ended: {leases_ended}",
                fields.join(", ")
            ),
        ),
        Event::SecretRemoved { name, by } => ("secret-removed", holder(by), name.clone()),
        Event::SigningKey { issuer, kid, algorithm, change, signs_from, by } => {
            let change = match change {
                KeyChange::Made => "made",
                KeyChange::Scheduled => "scheduled",
                KeyChange::Expired => "expired",
                KeyChange::Withdrawn => "withdrawn",
            };
            let from = signs_from.as_ref().map(|at| format!(", signs from {at}"));
            let what = format!("{issuer}: {algorithm} {kid} {change}{}", from.unwrap_or_default());
            ("signing-key", by.as_ref().map(holder).unwrap_or_default(), what)
        }
        Event::Admin { act, detail, by } => {
            let by = by.as_ref().map_or_else(|| "signal".to_owned(), holder);
            ("admin", by, format!("{act} {detail}"))
        }
        Event::Snapshot { leases, .. } => {
            ("snapshot", nobody(), format!("{} leases live", leases.len()))
        }
        Event::Stopped { why } => ("stopped", nobody(), why.clone()),
    }
}

fn holder(holder: &HolderRecord) -> String {
    let exe = holder.exe.as_deref().unwrap_or("?");
    let name = exe.rsplit('/').next().unwrap_or(exe);
    format!("uid {} {name}[{}] level {}", holder.uid, holder.pid, holder.assurance)
}

fn reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Released => "released",
        EndReason::Expired => "expired",
        EndReason::ProcessExited => "process exited",
        EndReason::ConnectionClosed => "connection closed",
        EndReason::Revoked => "revoked",
        EndReason::AgentStopping => "agent stopping",
        EndReason::UsesSpent => "uses spent",
        EndReason::HealthLost => "health lost",
        EndReason::ApprovalWithdrawn => "approval withdrawn",
        EndReason::Rebooted => "rebooted",
    }
}
