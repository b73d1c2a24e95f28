//! A request that nobody makes becomes a well-formed question.

use super::parse;
use crate::attestation::{Assurance, Digest, Namespaces, Seccomp, Via};
use crate::clock::WallTime;
use crate::delivery::Failure;
use crate::names::CredentialName;
use crate::policy::{Action, BindingKind, Supposed, SupposedProcess};
use jsi_proto::v1;
use std::time::Duration;

/// Groups of one process: what Linux itself allows (NGROUPS_MAX, getgroups(2)).
const MAX_GROUPS: usize = 65_536;
/// Bytes of a path, a unit, a cgroup.
const MAX_FACT: usize = 4_096;

/// What is asked for, and what is supposed.
///
/// # Errors
/// Names the field that is malformed.
pub fn hypothesis(message: v1::Hypothesis) -> Result<(CredentialName, Supposed), Failure> {
    let name = parse::credential(&message.credential)?;
    let mut requester = process("requester", message.requester.unwrap_or_default())?;
    if message.groups.len() > MAX_GROUPS {
        return Err(Failure::field("hypothesis.groups", "a process is in fewer groups"));
    }
    requester.groups = message.groups;
    let supposed = Supposed {
        caller: message.caller.map(|caller| process("caller", caller)).transpose()?,
        via: via(&message.via)?,
        action: match message.action.as_str() {
            "" => Action::Request,
            name => Action::of_name(name)
                .filter(|action| *action != Action::Administer)
                .ok_or_else(|| Failure::field("hypothesis.action", "there is no such action"))?,
        },
        scope: parse::scope(message.scope)?,
        delivery: parse::delivery(message.delivery)?,
        binding: match message.binding.as_str() {
            "" => None,
            name => Some(BindingKind::of_name(name).ok_or_else(|| {
                Failure::field("hypothesis.binding", "is none of process, connection, none")
            })?),
        },
        target: message.target.map(parse::supposed_target).transpose()?,
        ttl: parse::ttl("hypothesis.ttl", message.ttl, Duration::MAX)?,
        at: message.at.map(moment).transpose()?,
        ..Supposed::new(requester)
    };
    Ok((name, supposed))
}

fn via(name: &str) -> Result<Option<Via>, Failure> {
    let all = [Via::Direct, Via::GenuineClient, Via::EnrolledClient];
    match name {
        "" => Ok(None),
        name => match all.into_iter().find(|via| via.name() == name) {
            Some(via) => Ok(Some(via)),
            None => Err(Failure::field("hypothesis.via", "there is no such way")),
        },
    }
}

fn process(whose: &str, given: v1::Process) -> Result<SupposedProcess, Failure> {
    let field = |name: &str| format!("hypothesis.{whose}.{name}");
    let fact = |name: &str, value: String| {
        if value.len() > MAX_FACT {
            return Err(Failure::field(&field(name), "is longer than 4096 bytes"));
        }
        Ok((!value.is_empty()).then_some(value))
    };
    let exe = given.exe.unwrap_or_default();
    let digest = match exe.digest.as_str() {
        "" => None,
        hex => Some(Digest::from_hex(hex).ok_or_else(|| {
            Failure::field(&field("exe.digest"), "is not a SHA-256 in lower-case hex")
        })?),
    };
    let level = u8::try_from(given.assurance).ok().and_then(Assurance::of_level);
    let level = level.ok_or_else(|| Failure::field(&field("assurance"), "is not 0 to 4"))?;
    let seccomp = match given.seccomp.as_str() {
        "" => None,
        name => Some(Seccomp::of_name(name).ok_or_else(|| {
            Failure::field(&field("seccomp"), "is none of disabled, strict, filter")
        })?),
    };
    let with_jit = given
        .assurance_with_jit
        .map(|level| {
            u8::try_from(level)
                .ok()
                .and_then(Assurance::of_level)
                .ok_or_else(|| Failure::field(&field("assurance_with_jit"), "is not 0 to 4"))
        })
        .transpose()?;
    // `name: why`, as `whoami` says it.
    let named = |text: &String| text.split(':').next().unwrap_or_default().trim().to_owned();
    Ok(SupposedProcess {
        uid: given.uid,
        gid: given.gid,
        groups: Vec::new(),
        exe: fact("exe.path", exe.path)?,
        digest,
        verity: fact("exe.verity", exe.verity)?,
        ima: fact("exe.ima", exe.ima)?,
        exe_owner: exe.owner_uid,
        tty: fact("tty", given.tty)?,
        session: given.session,
        unit: fact("unit", given.unit)?,
        container: fact("container", given.container)?,
        cgroup: fact("cgroup", given.cgroup)?,
        invocation: fact("invocation", given.invocation)?,
        container_runtime: fact("container_runtime", given.container_runtime)?,
        pod: fact("pod", given.pod)?,
        lsm: fact("lsm", given.lsm)?,
        seccomp,
        no_new_privs: given.no_new_privs,
        namespaces: given.namespaces.map(namespaces),
        assurance: Some(level),
        assurance_with_jit: with_jit,
        unreadable: given.unreadable.iter().map(named).collect(),
    })
}

fn namespaces(all: v1::Namespaces) -> Namespaces {
    let v1::Namespaces { mnt, pid, user, net, host_mnt, host_pid, host_user, host_net } = all;
    Namespaces { mnt, pid, user, net, host_mnt, host_pid, host_user, host_net }
}

fn moment(at: prost_types::Timestamp) -> Result<WallTime, Failure> {
    let wrong = || Failure::field("hypothesis.at", "is not a time since 1970");
    let seconds = u64::try_from(at.seconds).map_err(|_| wrong())?;
    let millis = u64::try_from(at.nanos).map_err(|_| wrong())? / 1_000_000;
    let seconds = seconds.checked_mul(1_000).ok_or_else(wrong)?;
    seconds.checked_add(millis).map(WallTime).ok_or_else(wrong)
}
