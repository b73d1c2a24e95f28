//! Plain types become messages.

use crate::attestation::{Attestation, Fact, Namespaces, ProcessFacts, Via};
use crate::clock::WallTime;
use crate::delivery::{CredentialInfo, LockReport, StatusReport};
use crate::issuer::{Class, EarlyRevocation, KeySet, PublishedKey};
use crate::lease::LeaseView;
use crate::log::{EndReason, LeaseState};
use crate::policy::Delivery;
use crate::store::{FieldInfo, StoredInfo};
use jsi_proto::v1;
use std::time::Duration;

pub(super) fn timestamp(at: WallTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.0 % 1000 * 1_000_000).unwrap_or(0),
    }
}

pub(super) fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn key_set(set: KeySet) -> v1::JwtIssuer {
    let key = |key: PublishedKey| v1::JwtKey {
        kid: key.kid,
        algorithm: key.algorithm,
        state: key.state.to_owned(),
        created_at: Some(timestamp(key.created)),
        signs_from: key.signs_from.map(timestamp),
        signs_until: key.signs_until.map(timestamp),
        published_until: key.published_until.map(timestamp),
    };
    v1::JwtIssuer {
        name: set.name.to_string(),
        iss: set.iss,
        jwks: set.jwks,
        discovery: set.discovery,
        keys: set.keys.into_iter().map(key).collect(),
    }
}

fn class(class: Class) -> i32 {
    match class {
        Class::Static => v1::CredentialClass::Static.into(),
        Class::Dynamic => v1::CredentialClass::Dynamic.into(),
    }
}

fn revocation(revocation: EarlyRevocation) -> i32 {
    match revocation {
        EarlyRevocation::Exact => v1::Revocation::Exact.into(),
        EarlyRevocation::Coarse => v1::Revocation::Coarse.into(),
        EarlyRevocation::None => v1::Revocation::None.into(),
    }
}

fn state(state: LeaseState) -> i32 {
    match state {
        LeaseState::Pending => v1::LeaseState::Pending.into(),
        LeaseState::Active => v1::LeaseState::Active.into(),
        LeaseState::Ending => v1::LeaseState::Ending.into(),
        LeaseState::Ended => v1::LeaseState::Ended.into(),
        LeaseState::Failed => v1::LeaseState::Failed.into(),
        LeaseState::Stuck => v1::LeaseState::Stuck.into(),
    }
}

fn end_reason(reason: Option<EndReason>) -> i32 {
    let Some(reason) = reason else { return v1::EndReason::Unspecified.into() };
    match reason {
        EndReason::Released => v1::EndReason::Released,
        EndReason::Expired => v1::EndReason::Expired,
        EndReason::ProcessExited => v1::EndReason::ProcessExited,
        EndReason::ConnectionClosed => v1::EndReason::ConnectionClosed,
        EndReason::Revoked => v1::EndReason::Revoked,
        EndReason::AgentStopping => v1::EndReason::AgentStopping,
        EndReason::UsesSpent => v1::EndReason::UsesSpent,
        EndReason::HealthLost => v1::EndReason::HealthLost,
        EndReason::ApprovalWithdrawn => v1::EndReason::ApprovalWithdrawn,
        EndReason::Rebooted => v1::EndReason::Rebooted,
    }
    .into()
}

pub(super) fn delivery(delivery: Delivery) -> i32 {
    match delivery {
        Delivery::Caller => v1::Delivery::Caller,
        Delivery::Environment => v1::Delivery::Environment,
        Delivery::Descriptor => v1::Delivery::Descriptor,
        Delivery::File => v1::Delivery::File,
    }
    .into()
}

pub(super) fn lease(view: &LeaseView) -> v1::Lease {
    v1::Lease {
        id: view.id.to_string(),
        credential: view.credential.to_string(),
        scope: view.scope.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        state: state(view.state),
        issued_at: Some(timestamp(view.issued_wall)),
        expires_at: Some(timestamp(view.expires_wall)),
        remaining: Some(duration(view.remaining)),
        renewable_for: Some(duration(view.renewable_for)),
        credential_class: class(view.class),
        revocation: revocation(view.revocation),
        binding: view.binding_text(),
        uses_left: view.uses_left,
        holder_pid: view.holder.pid,
        holder_uid: view.holder.uid,
        holder_exe: view.holder.exe.clone().unwrap_or_default(),
        end_reason: end_reason(view.end_reason),
        delivery: delivery(view.delivery),
        assurance: u32::from(view.holder.assurance),
        warnings: view.warnings.clone(),
        reused: false,
        outdated: view.outdated,
    }
}

pub(super) fn credential(info: CredentialInfo) -> v1::Credential {
    v1::Credential {
        name: info.name.to_string(),
        owner: info.owner,
        purpose: info.purpose,
        issuer: info.issuer,
        credential_class: class(info.class),
        revocation: revocation(info.revocation),
        max_ttl: Some(duration(info.max_ttl)),
        default_ttl: Some(duration(info.default_ttl)),
        scope_keys: info.scope_keys,
    }
}

pub(super) fn stored(info: StoredInfo) -> v1::SecretInfo {
    v1::SecretInfo {
        name: info.name.to_string(),
        owner: info.owner,
        purpose: info.purpose,
        stored_at: Some(timestamp(info.stored_at)),
        fields: names(info.fields),
        version: info.version,
    }
}

/// The default field first.
fn names(mut fields: Vec<FieldInfo>) -> Vec<String> {
    fields.sort_by_key(|field| !field.default);
    fields.into_iter().map(|field| field.name).collect()
}

pub(super) fn attestation(given: &Attestation) -> v1::Attestation {
    v1::Attestation {
        caller: Some(process(&given.caller)),
        requester: Some(process(&given.requester)),
        ancestry: given.ancestry.iter().map(process).collect(),
        assurance: u32::from(given.assurance.level()),
        assurance_with_jit: u32::from(given.assurance_with_jit.level()),
        advisory: !given.advisory.is_empty(),
        advisory_reasons: given.advisory.clone(),
        via: match given.via {
            Via::Direct => "direct",
            Via::GenuineClient => "genuine client",
            Via::EnrolledClient => "enrolled client",
        }
        .to_owned(),
    }
}

fn process(facts: &ProcessFacts) -> v1::Process {
    let mut unreadable = Vec::new();
    let exe = take(&facts.exe, "exe", &mut unreadable).map(|exe| v1::Executable {
        path: exe.path.clone().unwrap_or_default(),
        digest: exe.digest.hex(),
        owner_uid: exe.owner_uid,
        mode: exe.mode,
        links: exe.links,
        device: exe.device,
        inode: exe.inode,
        verity: exe.verity.clone().unwrap_or_default(),
        ima: exe.ima.clone().unwrap_or_default(),
    });
    let around = &facts.around;
    let seccomp = take(&around.seccomp, "seccomp", &mut unreadable).map(|mode| mode.name());
    let no_new_privs = take(&around.no_new_privs, "no_new_privs", &mut unreadable).copied();
    let namespaces = take(&around.namespaces, "namespaces", &mut unreadable).map(namespaces);
    let mut text =
        |fact: &Fact<String>, name| take(fact, name, &mut unreadable).cloned().unwrap_or_default();
    v1::Process {
        pid: facts.pid,
        uid: facts.uid,
        gid: facts.gid,
        exe,
        tty: text(&facts.tty, "tty"),
        session: facts.session,
        assurance: u32::from(facts.assurance.level()),
        assurance_with_jit: Some(u32::from(facts.assurance_with_jit.level())),
        shortfalls: facts
            .shortfalls
            .iter()
            .map(|missed| v1::Shortfall {
                level: u32::from(missed.level.level()),
                reason: missed.reason.clone(),
            })
            .collect(),
        unit: text(&facts.unit, "unit"),
        container: text(&facts.container, "container"),
        cgroup: text(&facts.cgroup, "cgroup"),
        invocation: text(&around.invocation, "invocation"),
        container_runtime: text(&around.container_runtime, "container_runtime"),
        pod: text(&around.pod, "pod"),
        lsm: text(&around.lsm, "lsm"),
        seccomp: seccomp.unwrap_or_default().to_owned(),
        no_new_privs,
        namespaces,
        unreadable,
        user: user_name(facts.uid),
    }
}

fn namespaces(all: &Namespaces) -> v1::Namespaces {
    let Namespaces { mnt, pid, user, net, host_mnt, host_pid, host_user, host_net } = *all;
    v1::Namespaces { mnt, pid, user, net, host_mnt, host_pid, host_user, host_net }
}

/// By hand: NSS may ask the network, and this thread serves everybody.
fn user_name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = text.lines().find_map(|line| {
        let mut columns = line.split(':');
        let name = columns.next()?;
        (columns.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_default()
}

fn take<'a, T>(fact: &'a Fact<T>, name: &str, unreadable: &mut Vec<String>) -> Option<&'a T> {
    if let Fact::Unreadable(why) = fact {
        unreadable.push(format!("{name}: {why}"));
    }
    fact.known()
}

pub(super) fn report(given: StatusReport) -> v1::StatusResponse {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::StatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: given.pid,
        started_at: Some(timestamp(given.started)),
        locked: given.locked.is_some(),
        locked_reason: given.locked.unwrap_or_default(),
        advisory: !given.advisory.is_empty(),
        advisory_reasons: given.advisory,
        mode: given.mode.to_owned(),
        leases_active: count(given.leases_active),
        leases_stuck: count(given.leases_stuck),
        policies: count(given.policies),
        credentials: count(given.credentials),
        log_records: given.log_records,
        log_head: given.log_head,
        log_fault: given.log_fault.unwrap_or_default(),
        limits: given
            .limits
            .into_iter()
            .map(|(name, used, limit)| v1::LimitUse { name: name.to_owned(), used, limit })
            .collect(),
        socket: given.socket,
        guarded_memory: given.guarded_memory.to_owned(),
        attestor_pid: given.attestor_pid,
        launcher_pid: given.launcher_pid,
        notices: given.notices,
        policy_dir: given.policy_dir,
        log_dir: given.log_dir,
        places: given
            .places
            .into_iter()
            .map(|(what, path)| v1::Place { what: what.to_owned(), path })
            .collect(),
        resources: Some(v1::Resources {
            memlock: given.resources.memlock,
            descriptors: given.resources.descriptors,
            guarded_mapped: given.resources.guarded_mapped,
            guarded_used: given.resources.guarded_used,
            descriptors_kept: given.resources.descriptors_kept,
        }),
        identity_kind: given.identity_kind.to_owned(),
        lock: Some(lock(given.lock)),
    }
}

fn lock(given: LockReport) -> v1::LockStatus {
    let words = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
    v1::LockStatus {
        since: given.since.map(timestamp),
        identity: given.identity,
        unlock_with: given.unlock_with.to_owned(),
        auto_lock_at: given.auto_lock_at.map(timestamp),
        stopped: words(given.stopped),
        working: words(given.working),
    }
}
