//! What `jsi explain CREDENTIAL` supposes.

use crate::commands::allow::real_path;
use crate::commands::exec::measure;
use crate::commands::renew::ttl;
use crate::commands::revoke::digest;
use crate::failure::Failure;
use crate::plan::scope;
use crate::session;
use jsi_client::v1::{Delivery, Executable, Hypothesis, Namespaces, Process, TargetClaim};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Facts that an agent may be unable to read, by their names in policy.
const UNREADABLE: [&str; 12] = [
    "exe",
    "tty",
    "unit",
    "container",
    "cgroup",
    "invocation",
    "container_runtime",
    "pod",
    "lsm",
    "seccomp",
    "no_new_privs",
    "namespaces",
];

/// Facts of the request and of who would make it.
#[derive(clap::Args, Default)]
#[command(next_help_heading = "Supposing")]
pub(super) struct Facts {
    /// The requester's program
    #[arg(long, value_name = "PATH")]
    exe: Option<PathBuf>,
    /// Its SHA-256 [default: as the file is now]
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    digest: Option<String>,
    /// The requester's uid [default: your own]
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Its groups, the first being its own [default: the number of its uid]
    #[arg(long, value_name = "GID")]
    gid: Vec<u32>,
    /// Its systemd unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Its container
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Whose container: docker, containerd, cri-o, podman, lxc
    #[arg(long, value_name = "NAME")]
    container_runtime: Option<String>,
    /// Its Kubernetes pod
    #[arg(long, value_name = "UID")]
    pod: Option<String>,
    /// Its cgroup
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// systemd's ID of its unit's run
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// The label that an LSM gives it
    #[arg(long, value_name = "LABEL")]
    lsm: Option<String>,
    /// What system calls are left to it: disabled (all), strict, filter
    #[arg(long, value_name = "MODE", value_parser = ["disabled", "strict", "filter"],
          hide_possible_values = true)]
    seccomp: Option<String>,
    /// It can gain no privilege by exec: true or false
    #[arg(long, value_name = "BOOL", hide_possible_values = true)]
    no_new_privs: Option<bool>,
    /// Its namespaces that are the host's: mnt, pid, user, net
    #[arg(long, value_name = "KIND", value_parser = ["mnt", "pid", "user", "net"],
          value_delimiter = ',', hide_possible_values = true)]
    host_namespaces: Vec<String>,
    /// Its controlling terminal, as pts/3
    #[arg(long, value_name = "TTY")]
    tty: Option<String>,
    /// Its level of assurance, 0 to 4 [default: 1]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(0..=4))]
    assurance: Option<u32>,
    /// The same if its just-in-time compiler did not count [default: --assurance]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(0..=4))]
    assurance_with_jit: Option<u32>,
    /// A fact that cannot be read: exe, tty, unit, container, cgroup, invocation,
    /// container_runtime, pod, lsm, seccomp, no_new_privs, namespaces
    #[arg(long, value_name = "FACT", value_parser = UNREADABLE, hide_possible_values = true)]
    unreadable: Vec<String>,
    /// The program that `jsi exec` would become
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// Its SHA-256 [default: as the file is now]
    #[arg(long, value_name = "SHA256", value_parser = digest, requires = "target")]
    target_digest: Option<String>,
    /// What would be done: request, renew, release, list, wrap
    #[arg(long, value_name = "ACTION", hide_possible_values = true,
          value_parser = ["request", "renew", "release", "list", "wrap"])]
    action: Option<String>,
    /// The narrowing
    #[arg(long, value_name = "KEY=VALUE", value_parser = scope)]
    scope: Vec<(String, String)>,
    /// How it would be delivered: caller, environment, descriptor, file
    #[arg(long, value_name = "HOW", hide_possible_values = true,
          value_parser = ["caller", "environment", "descriptor", "file"])]
    delivery: Option<String>,
    /// The binding that would be asked for: process, connection, none
    #[arg(long, value_name = "WHAT", hide_possible_values = true,
          value_parser = ["process", "connection", "none"])]
    bind: Option<String>,
    /// The TTL that would be asked for
    #[arg(long, value_name = "TIME", value_parser = ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// When, as 2026-01-05T22:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<OffsetDateTime>,
}

fn moment(text: &str) -> Result<OffsetDateTime, &'static str> {
    let at = OffsetDateTime::parse(text, &Rfc3339);
    at.map_err(|_| "write it as 2026-01-05T22:00:00Z, or with +01:00 for Z")
}

impl Facts {
    /// Nothing is supposed of who asks or of what for.
    pub(super) fn is_empty(&self) -> bool {
        self.is_silent_of_who()
            && self.target.is_none()
            && self.action.is_none()
            && self.scope.is_empty()
            && self.delivery.is_none()
            && self.bind.is_none()
            && self.ttl.is_none()
            && self.at.is_none()
    }

    fn is_silent_of_who(&self) -> bool {
        let texts = [&self.digest, &self.unit, &self.container, &self.cgroup, &self.tty];
        let around =
            [&self.invocation, &self.container_runtime, &self.pod, &self.lsm, &self.seccomp];
        self.exe.is_none()
            && self.uid.is_none()
            && self.gid.is_empty()
            && self.assurance.is_none()
            && self.assurance_with_jit.is_none()
            && self.unreadable.is_empty()
            && self.no_new_privs.is_none()
            && self.host_namespaces.is_empty()
            && texts.iter().chain(&around).all(|text| text.is_none())
    }
}

/// The request that is supposed. Where nothing is said of who makes it, the
/// agent is asked who this is.
pub(super) fn hypothesis(credential: String, facts: Facts) -> Result<Hypothesis, Failure> {
    let target = match &facts.target {
        None => None,
        Some(path) => {
            let Executable { path: exe, digest, .. } = program(path, facts.target_digest.clone())?;
            Some(TargetClaim { exe, digest, ..Default::default() })
        }
    };
    let at = facts.at.map(|at| prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    });
    let delivery = match facts.delivery.as_deref() {
        Some("environment") => Delivery::Environment,
        Some("descriptor") => Delivery::Descriptor,
        Some("file") => Delivery::File,
        _ => Delivery::Caller,
    };
    let asked = Hypothesis {
        credential,
        action: facts.action.clone().unwrap_or_default(),
        scope: facts.scope.iter().cloned().collect(),
        delivery: delivery.into(),
        binding: facts.bind.clone().unwrap_or_default(),
        target,
        ttl: facts.ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
        at,
        ..Default::default()
    };
    if facts.is_silent_of_who() { as_i_am(asked) } else { as_supposed(asked, facts) }
}

/// Whoever runs this, as the agent sees it.
fn as_i_am(asked: Hypothesis) -> Result<Hypothesis, Failure> {
    let (attestation, _) = session::block_on(async { session::agent().await?.who_am_i().await })
        .map_err(|failure| failure.advise("or suppose somebody: --exe PATH, --uid UID"))?;
    let groups = nix::unistd::getgroups().unwrap_or_default();
    Ok(Hypothesis {
        requester: attestation.requester,
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        caller: attestation.caller,
        via: attestation.via.replace(' ', "_"),
        ..asked
    })
}

fn as_supposed(asked: Hypothesis, facts: Facts) -> Result<Hypothesis, Failure> {
    let exe = match &facts.exe {
        None if facts.digest.is_none() => None,
        None => Some(Executable { digest: facts.digest.unwrap_or_default(), ..Default::default() }),
        Some(path) => Some(program(path, facts.digest)?),
    };
    let uid = facts.uid.unwrap_or_else(|| nix::unistd::getuid().as_raw());
    let (gid, groups) = match facts.gid.split_first() {
        Some((first, rest)) => (*first, rest.to_vec()),
        None => (uid, Vec::new()),
    };
    let requester = Process {
        uid,
        gid,
        exe,
        unit: facts.unit.unwrap_or_default(),
        container: facts.container.unwrap_or_default(),
        cgroup: facts.cgroup.unwrap_or_default(),
        invocation: facts.invocation.unwrap_or_default(),
        container_runtime: facts.container_runtime.unwrap_or_default(),
        pod: facts.pod.unwrap_or_default(),
        lsm: facts.lsm.unwrap_or_default(),
        seccomp: facts.seccomp.unwrap_or_default(),
        no_new_privs: facts.no_new_privs,
        namespaces: namespaces(&facts.host_namespaces),
        tty: facts.tty.unwrap_or_default(),
        assurance: facts.assurance.unwrap_or(1),
        assurance_with_jit: facts.assurance_with_jit,
        unreadable: facts.unreadable,
        ..Default::default()
    };
    Ok(Hypothesis { requester: Some(requester), groups, ..asked })
}

/// Those kinds are the host's, the others its own; none: nothing is supposed.
fn namespaces(host: &[String]) -> Option<Namespaces> {
    let is = |kind: &str| host.iter().any(|one| one == kind);
    (!host.is_empty()).then(|| Namespaces {
        host_mnt: is("mnt"),
        host_pid: is("pid"),
        host_user: is("user"),
        host_net: is("net"),
        ..Namespaces::default()
    })
}

/// The file as it is now, where it is there; else the path alone: a program of
/// another host can be supposed as well.
fn program(path: &Path, digest: Option<String>) -> Result<Executable, Failure> {
    use std::os::unix::fs::MetadataExt;
    let Ok(real) = real_path(path) else {
        let path = path.to_str().ok_or_else(|| Failure::usage("the path is not UTF-8"))?.to_owned();
        let digest = digest.unwrap_or_default();
        return Ok(Executable { path, digest, ..Default::default() });
    };
    let owner_uid = std::fs::metadata(&real).map_or(0, |meta| meta.uid());
    let digest = digest.or_else(|| measure(Path::new(&real)).ok()).unwrap_or_default();
    Ok(Executable { path: real, digest, owner_uid, ..Default::default() })
}
