//! `jsi allow`: a policy from flags, checked by the agent that will use it.

mod place;
pub(crate) mod remedy;
mod seen;
mod times;
mod verify;

use super::exec::measure;
use super::exec::target::Target;
use super::revoke::digest;
use crate::failure::Failure;
use crate::plan::scope;
use crate::policy_text::{PolicyText, Script};
use crate::{output, session};
use jsi_client::{Kind, credential_name};
use seen::Seen;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
All that are given must hold. With `jsi exec` in a shell, the requester is the
shell and the target is the command:
  jsi allow db/orders --exe /usr/bin/bash --target /usr/bin/psql --ttl 15m
Exactly who is seen, or who was denied:
  jsi whoami -o json > who.json   # there, where access is wanted
  jsi allow db/orders --from who.json
  jsi allow db/orders --from hhyrx6o4yxoiy
Whoever can start an allowed program can have what it is given: name a unit, a
container or a target with it. The policy is a file; jsi policy ls and rm.")]
pub(crate) struct Arguments {
    /// The credential; db/ for all below db
    #[arg(value_name = "CREDENTIAL", value_parser = credential_or_prefix)]
    credential: String,
    /// Whom: `whoami` (this shell), a denied request's ID, or a FILE (- for stdin)
    /// that jsi whoami -o json wrote; takes uid, program, digest, service, container
    #[arg(long, value_name = "WHOM", help_heading = "Who")]
    from: Option<String>,
    /// The requester's program
    #[arg(long, value_name = "PATH", help_heading = "Who")]
    exe: Option<PathBuf>,
    /// Only this very file: its SHA-256, by default as it is now; any: not so
    #[arg(long, value_name = "SHA256", num_args = 0..=1, require_equals = true,
          default_missing_value = "now", help_heading = "Who")]
    digest: Option<String>,
    /// The program that `jsi exec` becomes
    #[arg(long, value_name = "PATH", help_heading = "Who")]
    target: Option<PathBuf>,
    /// Only this very target: its SHA-256, by default as it is now
    #[arg(long, value_name = "SHA256", num_args = 0..=1, require_equals = true,
          default_missing_value = "now", help_heading = "Who")]
    target_digest: Option<String>,
    /// The script that `jsi exec --script` runs: its text as it is now, and what runs it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "target_digest"],
          help_heading = "Who")]
    script: Option<PathBuf>,
    /// A uid of the requester's, or any [default: your own]
    #[arg(long, value_name = "UID", value_parser = uid, help_heading = "Who")]
    uid: Vec<Uid>,
    /// A group of the requester's, by its number
    #[arg(long, visible_alias = "group", value_name = "GID", help_heading = "Who")]
    gid: Vec<u32>,
    /// The requester's systemd unit, or any
    #[arg(long, value_name = "UNIT", value_parser = unit, help_heading = "Who")]
    unit: Option<String>,
    /// The requester's container, or any
    #[arg(long, value_name = "ID", value_parser = filled, help_heading = "Who")]
    container: Option<String>,
    /// The requester's Kubernetes pod
    #[arg(long, value_name = "UID", value_parser = filled, help_heading = "Who")]
    pod: Option<String>,
    /// The label that an LSM gives the requester, as jsi whoami shows it
    #[arg(long, value_name = "LABEL", value_parser = filled, help_heading = "Who")]
    lsm: Option<String>,
    /// The requester's cgroup
    #[arg(long, value_name = "PATH", value_parser = cgroup, help_heading = "Who")]
    cgroup: Option<String>,
    /// The requester's controlling terminal, as pts/3
    #[arg(long, value_name = "TTY", value_parser = tty, help_heading = "Who")]
    tty: Option<String>,
    /// The lowest level of assurance, 1 to 4; see jsi whoami
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=4),
          help_heading = "Who")]
    assurance: Option<u8>,
    /// Let it have a just-in-time compiler, as node and java do
    #[arg(long, requires = "assurance", help_heading = "Who")]
    jit: bool,
    /// What may be done: use (all that a holder does), request, renew, release, list, wrap
    #[arg(long, value_name = "ACTION", hide_possible_values = true, help_heading = "What",
          value_parser = ["use", "request", "renew", "release", "list", "wrap"])]
    action: Vec<String>,
    /// Only where the request is narrowed so
    #[arg(long, value_name = "KEY=VALUE", value_parser = scope, help_heading = "What")]
    scope: Vec<(String, String)>,
    /// Only delivered so: caller, environment, descriptor, file
    #[arg(long, value_name = "HOW", hide_possible_values = true, help_heading = "What",
          value_parser = ["caller", "environment", "descriptor", "file"])]
    delivery: Vec<String>,
    /// Only from the first until the second time of the day, in UTC
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = times::between, help_heading = "When")]
    between: Option<(u16, u16)>,
    /// Only on these days, in UTC; left empty, from Monday to Friday
    #[arg(long, value_name = "mon-fri", num_args = 0..=1, require_equals = true,
          default_missing_value = "mon-fri", value_parser = times::weekdays, help_heading = "When")]
    weekdays: Option<times::Weekdays>,
    /// The longest lease: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl, allow_hyphen_values = true,
          help_heading = "Limits")]
    ttl: Option<Duration>,
    /// Deliveries of one lease
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
          help_heading = "Limits")]
    max_uses: Option<u32>,
    /// What every lease must be bound to: process, connection, none
    #[arg(long, value_name = "WHAT", hide_possible_values = true, help_heading = "Limits",
          value_parser = ["process", "connection", "none"])]
    bind: Option<String>,
    /// none: the agent wipes it once it is delivered
    #[arg(long, value_name = "none", hide_possible_values = true, help_heading = "Limits",
          value_parser = ["none"])]
    hold: Option<String>,
    /// The policy's @id and file name
    #[arg(long, alias = "name", value_name = "ID", value_parser = policy_name,
          help_heading = "Writing")]
    id: Option<String>,
    /// Where policies are [default: where the agent reads them]
    #[arg(long, value_name = "DIR", help_heading = "Writing")]
    policy_dir: Option<PathBuf>,
    /// Write exactly this file, which must end in .cedar
    #[arg(long, value_name = "FILE", conflicts_with = "policy_dir", help_heading = "Writing")]
    file: Option<PathBuf>,
    /// Replace a policy of that name
    #[arg(long, help_heading = "Writing")]
    replace: bool,
    /// The credential need not be defined yet
    #[arg(long, help_heading = "Writing")]
    undefined: bool,
    /// Print the policy and write nothing
    #[arg(long, help_heading = "Writing")]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug)]
enum Uid {
    Any,
    One(u32),
}

fn uid(text: &str) -> Result<Uid, &'static str> {
    match text {
        "any" => Ok(Uid::Any),
        text => text.parse().map(Uid::One).map_err(|_| "give a number (id -u NAME), or any"),
    }
}

fn credential_or_prefix(text: &str) -> Result<String, String> {
    let name = credential_name(text.strip_suffix('/').unwrap_or(text));
    name.map(|_| text.to_owned()).map_err(|why| why.to_string())
}

fn filled(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

fn unit(text: &str) -> Result<String, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "any" => Ok(text.to_owned()),
        text if text.contains('.') => Ok(text.to_owned()),
        text => Err(format!("a unit's name has its kind at the end; did you mean {text}.service?")),
    }
}

fn cgroup(text: &str) -> Result<String, &'static str> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("a cgroup's path begins with /") }
}

fn tty(text: &str) -> Result<String, &'static str> {
    filled(text.strip_prefix("/dev/").unwrap_or(text))
}

fn policy_name(text: &str) -> Result<String, &'static str> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good && !text.is_empty() && !text.starts_with('.') && text.len() <= 128 {
        Ok(text.to_owned())
    } else {
        Err("letters, digits, '-', '_' and '.', and no '.' first")
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let seen = match &arguments.from {
        None => Seen::default(),
        Some(from) => seen::from(from)?,
    };
    let policy = policy(&arguments, seen)?;
    let text = policy.render();
    if arguments.dry_run {
        return output::to_stdout(text.as_bytes());
    }
    let (path, given) = destination(&arguments, &policy.id)?;
    let before = if given { None } else { verify::before(&policy, arguments.undefined)? };
    if let Some(other) = path.parent().and_then(|directory| place::same(directory, &text))
        && other != path
    {
        return Err(Failure::new(format!("{} says the same already", other.display()))
            .advise("nothing was written; to replace it, remove it first: jsi policy rm ID"));
    }
    let replaced = place::write(&path, &text, arguments.replace)?;
    match session::block_on(async { session::admin().await?.reload().await }) {
        Ok(now) => {
            warn(&policy.id, &now.warnings);
            output::note(&format!("wrote {}; policies in force: {}", path.display(), now.policies));
            verify::after(&policy, before.as_ref());
            Ok(())
        }
        Err(Failure::Told { code, .. }) if given && code == Kind::Unreachable.exit_code() => {
            output::note(&format!("wrote {}; no agent runs that could check it", path.display()));
            output::note("check it with: jsi policy check");
            Ok(())
        }
        Err(failure) => {
            place::take_back(&path, replaced.as_deref());
            Err(failure.advise(format!("{} was not kept; nothing has changed", path.display())))
        }
    }
}

/// The file, and whether the user named its place (so that no agent need run).
fn destination(arguments: &Arguments, id: &str) -> Result<(PathBuf, bool), Failure> {
    if let Some(file) = &arguments.file {
        if file.extension().is_none_or(|extension| extension != "cedar") {
            return Err(Failure::usage(format!("{} does not end in .cedar", file.display()))
                .advise("the agent reads nothing else"));
        }
        return Ok((file.clone(), true));
    }
    let name = format!("{id}.cedar");
    match &arguments.policy_dir {
        Some(directory) => Ok((directory.join(name), true)),
        None => Ok((policy_dir()?.join(name), false)),
    }
}

/// The warnings about this policy; of others only how many there are.
fn warn(id: &str, warnings: &[String]) {
    let own = format!("{id}: ");
    let (about, others): (Vec<_>, Vec<_>) =
        warnings.iter().partition(|warning| warning.starts_with(&own));
    for warning in about {
        output::note(&format!("warning: {warning}"));
    }
    if !others.is_empty() {
        let count = others.len();
        output::note(&format!("warnings about other policies: {count}; see: jsi policy check"));
    }
}

/// Where the running agent reads its policies.
pub(super) fn policy_dir() -> Result<PathBuf, Failure> {
    let status = session::block_on(async { session::admin().await?.status().await })
        .map_err(|failure| failure.advise("or say where policies are: --policy-dir DIR"))?;
    if status.policy_dir.is_empty() {
        return Err(Failure::new("the agent does not say where it reads policies")
            .advise("say it yourself: --policy-dir DIR"));
    }
    Ok(status.policy_dir.into())
}

fn policy(arguments: &Arguments, seen: Seen) -> Result<PolicyText, Failure> {
    let own = arguments.exe.as_deref().map(real_path).transpose()?;
    // A digest that was seen is of the program that was seen.
    let seen_digest = if own.is_none() { seen.digest } else { None };
    let exe = own.or(seen.exe);
    let own_target = arguments.target.as_deref().map(real_path).transpose()?;
    let seen_target_digest = if own_target.is_none() { seen.target_digest } else { None };
    let target = own_target.or(seen.target);
    let not_any = |given: &Option<String>, seen: Option<String>| match given.as_deref() {
        None => seen,
        Some("any") => None,
        Some(given) => Some(given.to_owned()),
    };
    let unit = not_any(&arguments.unit, seen.unit);
    let container = not_any(&arguments.container, seen.container);
    let digest = pinned("--digest", arguments.digest.as_deref(), &exe, seen_digest)?;
    let target_digest =
        pinned("--target-digest", arguments.target_digest.as_deref(), &target, seen_target_digest)?;
    let script = arguments.script.as_deref().map(script).transpose()?;
    // The script stands in the place of a target that was seen.
    let (target, target_digest) =
        if script.is_some() { (None, None) } else { (target, target_digest) };
    let named = [&exe, &target, &digest, &target_digest, &unit, &container, &arguments.cgroup];
    let fenced = [&arguments.pod, &arguments.lsm];
    if script.is_none() && named.into_iter().chain(fenced).all(Option::is_none) {
        return Err(Failure::usage("a policy names a program, a unit or a container")
            .advise("give --exe PATH, --target PATH, --unit UNIT or --container ID")
            .advise("or whom the agent sees: --from whoami"));
    }
    let uids = match (arguments.uid.as_slice(), seen.uid) {
        ([], Some(seen)) => vec![seen],
        ([], None) => vec![nix::unistd::getuid().as_raw()],
        (given, _) if given.iter().any(|uid| matches!(uid, Uid::Any)) => Vec::new(),
        (given, _) => numbers(given),
    };
    let scope = if arguments.scope.is_empty() { seen.scope } else { arguments.scope.clone() };
    let own = arguments.script.as_deref().and_then(Path::to_str);
    let program = own.or(target.as_deref()).or(exe.as_deref()).or(unit.as_deref());
    let id = match &arguments.id {
        Some(id) => id.clone(),
        None => PolicyText::name(&arguments.credential, program),
    };
    let policy = PolicyText {
        id,
        comments: Vec::new(),
        credential: arguments.credential.clone(),
        actions: arguments.action.clone(),
        uids,
        gids: arguments.gid.clone(),
        unit,
        container,
        pod: arguments.pod.clone(),
        lsm: arguments.lsm.clone(),
        cgroup: arguments.cgroup.clone(),
        tty: arguments.tty.clone(),
        exe,
        digest,
        target,
        target_digest,
        script,
        assurance: arguments.assurance,
        jit: arguments.jit,
        delivery: arguments.delivery.clone(),
        scope,
        between: arguments.between,
        weekdays: arguments.weekdays.clone().map(|days| days.0).unwrap_or_default(),
        max_ttl: arguments.ttl,
        max_uses: arguments.max_uses,
        bind: arguments.bind.clone(),
        hold_none: arguments.hold.is_some(),
    };
    Ok(PolicyText { comments: comments(&policy, seen.notes), ..policy })
}

fn numbers(given: &[Uid]) -> Vec<u32> {
    let mut all: Vec<u32> = given
        .iter()
        .filter_map(|uid| match uid {
            Uid::Any => None,
            Uid::One(uid) => Some(*uid),
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn comments(policy: &PolicyText, notes: Vec<String>) -> Vec<String> {
    let what = match policy.credential.strip_suffix('/') {
        Some(path) => format!("all below {path}"),
        None => policy.credential.clone(),
    };
    let mut comments = vec![format!("Permits {what} to what is named below.")];
    let joined = [&policy.unit, &policy.container, &policy.pod, &policy.lsm, &policy.cgroup];
    if joined.iter().all(|fact| fact.is_none()) {
        comments.push("Whoever can start this program can have what it is given.".to_owned());
    }
    if policy.between.is_some() || !policy.weekdays.is_empty() {
        comments.push("Hours and days are UTC; a window past midnight is cut at it.".to_owned());
    }
    comments.extend(notes);
    comments
}

/// A script as it is now.
fn script(file: &Path) -> Result<Script, Failure> {
    let claim = Target::script(file, std::env::var_os("PATH").as_deref())?.claim();
    // Where the interpreter is root's, its name says enough, and an upgrade of it
    // changes nothing.
    let interpreter_digest = claim.digest.is_empty().then_some(claim.interpreter_digest);
    let (digest, interpreter) = (claim.script_digest, claim.interpreter);
    Ok(Script { digest, interpreter, interpreter_digest })
}

/// A digest that is given, seen, or of the file as it is now.
fn pinned(
    flag: &str,
    given: Option<&str>,
    program: &Option<String>,
    seen: Option<String>,
) -> Result<Option<String>, Failure> {
    match given {
        None => Ok(seen),
        Some("any") => Ok(None),
        Some("now") => {
            let Some(path) = program else {
                let wrong = format!("{flag} without a value measures a program, and none is named");
                return Err(Failure::usage(wrong));
            };
            measure(Path::new(path))
                .map(Some)
                .map_err(|error| Failure::new(format!("cannot read {path}: {error}")))
        }
        Some(given) => digest(given).map(Some).map_err(Failure::usage),
    }
}

/// As the agent will see it: links resolved, as the kernel names a process's exe.
pub(super) fn real_path(path: &Path) -> Result<String, Failure> {
    let cannot = |why: String| {
        Failure::new(format!("{}: {why}", path.display())).code(4).advise("give the program's path")
    };
    let real = path.canonicalize().map_err(|error| cannot(error.to_string()))?;
    if !real.is_file() {
        return Err(cannot("it is no program".to_owned()));
    }
    match real.into_os_string().into_string() {
        Ok(text) => Ok(text),
        Err(_) => Err(cannot("its name is not UTF-8".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory() {
        for bad in ["", "../x", ".x", "a/b", "a b"] {
            assert!(policy_name(bad).is_err(), "{bad}");
        }
        assert!(policy_name("allow-db.orders_1").is_ok());
    }

    #[test]
    fn a_unit_without_its_kind_is_asked_about() {
        assert!(unit("report").unwrap_err().contains("report.service"));
        assert!(unit("report.service").is_ok() && unit("any").is_ok() && unit("").is_err());
    }

    #[test]
    fn a_prefix_ends_in_one_slash() {
        for good in ["db", "db/", "db/eu/"] {
            assert_eq!(credential_or_prefix(good).as_deref(), Ok(good));
        }
        for bad in ["", "/", "db//", "/db", "DB/"] {
            assert!(credential_or_prefix(bad).is_err(), "{bad}");
        }
    }
}
