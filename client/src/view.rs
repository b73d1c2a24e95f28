//! Messages of the protocol as JSON and as words.

use jsi_client::show_duration;
use jsi_client::v1::{
    Attestation, CredentialClass, Delivery, EndReason, Lease, LeaseState, Process, Revocation,
    SecretInfo, lease_event,
};
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A protocol enum's value as a word: `LEASE_STATE_ACTIVE` is `active`.
macro_rules! word {
    ($kind:ty, $prefix:literal, $value:expr) => {
        <$kind>::try_from($value)
            .map(|value| value.as_str_name())
            .unwrap_or("UNKNOWN")
            .trim_start_matches($prefix)
            .to_lowercase()
    };
}

/// `active`, `ending`, …
pub(crate) fn state(lease: &Lease) -> String {
    word!(LeaseState, "LEASE_STATE_", lease.state)
}

/// `process_exited`, …; empty: not ended.
pub(crate) fn end_reason(lease: &Lease) -> String {
    match EndReason::try_from(lease.end_reason) {
        Ok(EndReason::Unspecified) => String::new(),
        _ => word!(EndReason, "END_REASON_", lease.end_reason),
    }
}

/// `static` or `dynamic`.
pub(crate) fn class(lease: &Lease) -> String {
    word!(CredentialClass, "CREDENTIAL_CLASS_", lease.credential_class)
}

/// The class, and beside it that a minted credential outlives its lease.
fn honest_class(lease: &Lease) -> String {
    let final_until_expiry = Revocation::try_from(lease.revocation) == Ok(Revocation::None)
        && CredentialClass::try_from(lease.credential_class) == Ok(CredentialClass::Dynamic);
    let class = class(lease);
    if final_until_expiry { format!("{class}, not revocable") } else { class }
}

/// `environment` is labelled exposed: every process of the uid can read it.
pub(crate) fn delivery(lease: &Lease) -> String {
    match Delivery::try_from(lease.delivery) {
        Ok(Delivery::Environment) => "environment (exposed)".to_owned(),
        _ => word!(Delivery, "DELIVERY_", lease.delivery),
    }
}

/// `environment`, `descriptor`, …
pub(crate) fn delivery_word(delivery: i32) -> String {
    match Delivery::try_from(delivery) {
        Ok(Delivery::Unspecified) => String::new(),
        _ => word!(Delivery, "DELIVERY_", delivery),
    }
}

/// What is left, in words; empty where nothing is.
pub(crate) fn remaining(lease: &Lease) -> String {
    match (&lease.remaining, LeaseState::try_from(lease.state)) {
        (Some(left), Ok(LeaseState::Active)) => show_duration(to_std(left)),
        _ => String::new(),
    }
}

/// Who holds it: program, pid and uid.
pub(crate) fn holder(lease: &Lease) -> String {
    let exe = if lease.holder_exe.is_empty() { "?" } else { &lease.holder_exe };
    format!("{exe} (pid {}, uid {})", lease.holder_pid, lease.holder_uid)
}

/// What happened to a lease: `granted`, `ended`, …
pub(crate) fn event_kind(kind: i32) -> String {
    word!(lease_event::Kind, "KIND_", kind)
}

/// A point in time, RFC 3339 in UTC; empty: none.
pub(crate) fn at(timestamp: Option<&prost_types::Timestamp>) -> String {
    timestamp
        .and_then(|t| OffsetDateTime::from_unix_timestamp(t.seconds).ok())
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// A duration; negative ones are nothing.
pub(crate) fn to_std(duration: &prost_types::Duration) -> Duration {
    Duration::from_secs(u64::try_from(duration.seconds).unwrap_or_default())
}

/// A lease as JSON.
pub(crate) fn lease(lease: &Lease) -> Value {
    let seconds = |d: &Option<prost_types::Duration>| d.as_ref().map(|d| d.seconds);
    json!({
        "id": lease.id,
        "credential": lease.credential,
        "scope": lease.scope,
        "state": state(lease),
        "issued_at": at(lease.issued_at.as_ref()),
        "expires_at": at(lease.expires_at.as_ref()),
        "remaining_s": seconds(&lease.remaining),
        "renewable_for_s": seconds(&lease.renewable_for),
        "class": class(lease),
        "revocation": word!(Revocation, "REVOCATION_", lease.revocation),
        "binding": lease.binding,
        "uses_left": lease.uses_left,
        "holder_pid": lease.holder_pid,
        "holder_uid": lease.holder_uid,
        "holder_exe": lease.holder_exe,
        "end_reason": end_reason(lease),
        "delivery": word!(Delivery, "DELIVERY_", lease.delivery),
        "assurance": lease.assurance,
        "warnings": lease.warnings,
        "reused": lease.reused,
        "outdated": lease.outdated,
    })
}

/// Several leases as JSON.
pub(crate) fn leases(leases: &[Lease]) -> Value {
    Value::Array(leases.iter().map(lease).collect())
}

/// Several leases as a table.
pub(crate) fn lease_table(leases: &[Lease]) -> String {
    let rows: Vec<Vec<String>> = leases
        .iter()
        .map(|lease| {
            let ended = end_reason(lease);
            vec![
                lease.id.clone(),
                if ended.is_empty() { state(lease) } else { format!("{} ({ended})", state(lease)) },
                remaining(lease),
                honest_class(lease),
                lease.binding.clone(),
                holder(lease),
                delivery(lease),
            ]
        })
        .collect();
    crate::output::table(
        &["LEASE", "STATE", "LEFT", "CLASS", "BOUND TO", "HOLDER", "DELIVERY"],
        &rows,
    )
}

/// A stored secret as JSON.
pub(crate) fn secret(secret: &SecretInfo) -> Value {
    json!({
        "name": secret.name,
        "owner": secret.owner,
        "purpose": secret.purpose,
        "stored_at": at(secret.stored_at.as_ref()),
        "fields": secret.fields,
        "version": secret.version,
    })
}

/// An assurance level with its name.
pub(crate) fn level(level: u32) -> String {
    let name = match level {
        0 => "uid",
        1 => "executable",
        2 => "image",
        3 => "isolated",
        4 => "enforced",
        _ => "unknown",
    };
    format!("{level} ({name})")
}

/// A process as JSON.
pub(crate) fn process(process: &Process) -> Value {
    json!({
        "pid": process.pid,
        "uid": process.uid,
        "gid": process.gid,
        "user": process.user,
        "exe": process.exe.as_ref().map(|exe| json!({
            "path": exe.path,
            "digest": exe.digest,
            "owner_uid": exe.owner_uid,
            "mode": format!("{:04o}", exe.mode),
            "links": exe.links,
            "device": exe.device,
            "inode": exe.inode,
            "verity": exe.verity,
            "ima": exe.ima,
        })),
        "tty": process.tty,
        "session": process.session,
        "assurance": process.assurance,
        "assurance_with_jit": process.assurance_with_jit,
        "shortfalls": process.shortfalls.iter()
            .map(|s| json!({ "level": s.level, "reason": s.reason }))
            .collect::<Vec<_>>(),
        "unit": process.unit,
        "container": process.container,
        "cgroup": process.cgroup,
        "invocation": process.invocation,
        "container_runtime": process.container_runtime,
        "pod": process.pod,
        "lsm": process.lsm,
        "seccomp": process.seccomp,
        "no_new_privs": process.no_new_privs,
        "namespaces": process.namespaces.as_ref().map(|all| json!({
            "mnt": all.mnt,
            "pid": all.pid,
            "user": all.user,
            "net": all.net,
            "host_mnt": all.host_mnt,
            "host_pid": all.host_pid,
            "host_user": all.host_user,
            "host_net": all.host_net,
        })),
        "unreadable": process.unreadable,
    })
}

/// An attestation as JSON.
pub(crate) fn attestation(found: &Attestation) -> Value {
    json!({
        "caller": found.caller.as_ref().map(process),
        "requester": found.requester.as_ref().map(process),
        "ancestry": found.ancestry.iter().map(process).collect::<Vec<_>>(),
        "assurance": found.assurance,
        "assurance_with_jit": found.assurance_with_jit,
        "advisory": found.advisory,
        "advisory_reasons": found.advisory_reasons,
        "via": found.via,
    })
}

/// An attestation in words.
pub(crate) fn attestation_text(found: &Attestation) -> String {
    let mut text = String::new();
    for (title, process) in [("requester", &found.requester), ("caller", &found.caller)] {
        let Some(process) = process else { continue };
        text.push_str(&crate::output::paint(&std::io::stdout(), "1", title));
        text.push('\n');
        text.push_str(&crate::output::indented_pairs(2, &process_pairs(process)));
    }
    let ancestry: Vec<_> = found.ancestry.iter().map(short).collect();
    let mut rest = vec![
        ("via", found.via.clone()),
        ("ancestry", ancestry.join(" < ")),
        ("assurance", level(found.assurance)),
    ];
    if found.assurance_with_jit > found.assurance {
        rest.push(("  with JIT", level(found.assurance_with_jit)));
    }
    if found.advisory {
        rest.push(("advisory", "yes; assurance is at most 1".to_owned()));
    }
    rest.extend(found.advisory_reasons.iter().map(|reason| ("  because", reason.clone())));
    text + &crate::output::pairs(&rest)
}

fn process_pairs(process: &Process) -> Vec<(&'static str, String)> {
    let user = match process.user.as_str() {
        "" => process.uid.to_string(),
        name => format!("{} ({name})", process.uid),
    };
    let mut pairs = vec![("pid", process.pid.to_string()), ("uid", user)];
    if let Some(exe) = &process.exe {
        let deleted = if exe.links == 0 { " (deleted)" } else { "" };
        pairs.push(("exe", format!("{}{deleted}", exe.path)));
        pairs.push(("digest", exe.digest.clone()));
        pairs.push(("verity", exe.verity.clone()));
        pairs.push(("ima", exe.ima.clone()));
        pairs.push(("file", format!("mode {:04o}, owner uid {}", exe.mode, exe.owner_uid)));
    }
    pairs.extend([
        ("tty", process.tty.clone()),
        ("unit", process.unit.clone()),
        ("invocation", process.invocation.clone()),
        ("container", runtime(process)),
        ("pod", process.pod.clone()),
        ("cgroup", process.cgroup.clone()),
        ("lsm", process.lsm.clone()),
        ("fenced in", fences(process)),
        ("assurance", level(process.assurance)),
    ]);
    if let Some(more) = process.assurance_with_jit.filter(|&more| more > process.assurance) {
        pairs.push(("  with JIT", level(more)));
    }
    for shortfall in &process.shortfalls {
        pairs.push(("  not", format!("{}: {}", level(shortfall.level), shortfall.reason)));
    }
    pairs.extend(process.unreadable.iter().map(|fact| ("unreadable", fact.clone())));
    pairs
}

/// The container, and whose it is.
fn runtime(process: &Process) -> String {
    match process.container_runtime.as_str() {
        "" => process.container.clone(),
        runtime => format!("{} ({runtime})", process.container),
    }
}

/// What keeps it from the rest of the host; nothing is said of what does not.
fn fences(process: &Process) -> String {
    let mut all = Vec::new();
    match process.seccomp.as_str() {
        "" | "disabled" => {}
        mode => all.push(format!("seccomp {mode}")),
    }
    if process.no_new_privs == Some(true) {
        all.push("no new privileges".to_owned());
    }
    if let Some(namespaces) = &process.namespaces {
        let own = [
            ("mnt", namespaces.host_mnt),
            ("pid", namespaces.host_pid),
            ("user", namespaces.host_user),
            ("net", namespaces.host_net),
        ];
        let own: Vec<&str> =
            own.into_iter().filter(|(_, host)| !host).map(|(name, _)| name).collect();
        if !own.is_empty() {
            all.push(format!("own namespaces: {}", own.join(", ")));
        }
    }
    all.join("; ")
}

fn short(process: &Process) -> String {
    match &process.exe {
        Some(exe) => format!("{} {}", process.pid, exe.path),
        None => format!("{} ?", process.pid),
    }
}
