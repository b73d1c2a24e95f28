//! `jsi-agent policy test`: golden decisions, without an agent. The same loader,
//! the same decisions.

mod cases;
mod report;

use super::diagnostics::{self, Severity, Style};
use crate::config::{self, ConfigError};
use crate::policy::{LoadError, Outcome, Policies, Verdict};
use cases::{Case, Expected, Tests};
use clap::Parser;
use report::Failed;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a file of cases, or of policies that are tested.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Decide the cases of a file by policy, and compare with what is expected.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "jsi policy test",
    version,
    after_help = "\
A case supposes a request and says what is to come of it; no agent is needed:
  policies = [\"orders.cedar\"]          # beside this file; else --policy-dir

  [[case]]
  name = \"psql of the nightly unit reads orders\"
  credential = \"db/orders\"
  uid = 999
  unit = \"report.service\"
  target = \"/usr/bin/psql\"
  expect = \"permit\"                    # or \"deny\"
  limits = { max_ttl = \"15m\" }         # only those that are named are compared
  by = [\"orders/nightly\"]              # the policies that decided, all of them
  # because = \"…\"                      # for a denial: a part of its reason

Facts: credential action scope delivery binding ttl at admin_socket advisory via
target target_digest uid gid groups exe digest verity ima exe_owner tty session unit
container cgroup invocation container_runtime pod lsm seccomp no_new_privs
host_namespaces (those of mnt, pid, user, net that are the host's) assurance
assurance_with_jit unreadable caller. What is left out: uid 1000, gid as uid,
assurance 1 with and without a JIT, request, caller, no binding named, Monday 2026-01-05T12:00:00Z,
a digest of zeros, and otherwise nothing. [defaults] takes them for all cases,
[credentials.NAME] takes class, issuer, owner, purpose, default_ttl and max_ttl.
Exit code 0: all passed. 1: some did not, or something is wrong."
)]
pub(super) struct TestArgs {
    /// Files of cases
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Policies of a file that names none: a directory
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// The configuration that says where policies are, where nothing else does
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write into the file what cases without `expect` come to
    #[arg(long)]
    record: bool,
    /// Also name the cases that passed
    #[arg(short, long)]
    verbose: bool,
    /// How to print it: for people, or JSON for programs
    #[arg(short, long, value_name = "table|json", default_value = "table", hide_default_value = true,
          value_parser = ["table", "json"], hide_possible_values = true)]
    output: String,
}

/// `jsi-agent policy test` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: TestArgs = match super::parsed("jsi policy test", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Why nothing could be tested.
#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error("error: {0}")]
    Config(String),
    #[error("error: cannot {} {}: {}", .0, .1.display(), .2)]
    File(&'static str, PathBuf, io::Error),
    #[error("{0}")]
    Policies(String),
    #[error("error: cannot write to standard output: {0}")]
    Output(io::Error),
}

impl From<ConfigError> for TestError {
    fn from(error: ConfigError) -> Self {
        Self::Config(super::chain(&error))
    }
}

impl From<LoadError> for TestError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Invalid(faults) => {
                let style = Style::of_stderr();
                let text = |fault| diagnostics::text(Severity::Error, fault, style);
                Self::Policies(faults.iter().map(text).collect())
            }
            error => Self::Policies(format!("error: {}", super::chain(&error))),
        }
    }
}

/// One case and what came of it.
struct Tried<'a> {
    file: &'a Path,
    case: &'a Case,
    verdict: Verdict,
    /// What differs; empty: it passed.
    differences: Vec<Failed>,
}

fn run(args: &TestArgs) -> Result<bool, TestError> {
    let mut files = Vec::new();
    for path in &args.files {
        let text = read(path)?;
        let tests = Tests::read(path, &text)?;
        let policies = policies(args, &tests)?;
        files.push((path, text, tests, policies));
    }
    let mut all = Vec::new();
    for (path, text, tests, policies) in &files {
        let tried: Vec<Tried<'_>> =
            tests.cases.iter().map(|case| try_one(path, case, policies)).collect();
        if args.record {
            record(path, text, &tried)?;
        }
        all.extend(tried);
    }
    if args.record {
        // What was written down is as expected now.
        for tried in all.iter_mut().filter(|tried| tried.case.expected.is_none()) {
            tried.differences.clear();
        }
    }
    let out = match args.output.as_str() {
        "json" => report::json(&all),
        _ => report::text(&all, args.verbose),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).map_err(TestError::Output)?;
    Ok(all.iter().all(|tried| tried.differences.is_empty()))
}

/// The policies that the file names; else those of `--policy-dir`; else the configured.
/// Those of a checkout need not be trusted: they are tested, not obeyed.
fn policies(args: &TestArgs, tests: &Tests) -> Result<Policies, TestError> {
    if tests.policies.is_empty() {
        let dir = match &args.policy_dir {
            Some(dir) => dir.clone(),
            None => config::load(args.config.as_deref(), None)?.policy_dir,
        };
        return Ok(Policies::load(&dir)?);
    }
    let mut paths = Vec::new();
    for path in &tests.policies {
        if path.is_dir() {
            paths
                .extend(below(path).map_err(|error| TestError::File("read", path.clone(), error))?);
        } else {
            paths.push(path.clone());
        }
    }
    paths.sort();
    paths.dedup();
    let mut texts = Vec::new();
    for path in &paths {
        texts.push((path.display().to_string(), read(path)?));
    }
    let texts: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(Policies::from_texts(&texts)?)
}

fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "cedar") {
            found.push(path);
        }
    }
    Ok(found)
}

/// A regular file of text, never waited for.
fn read(path: &Path) -> Result<String, TestError> {
    let wrong = |error| TestError::File("read", path.to_owned(), error);
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if !meta.is_file() {
        return Err(wrong(io::Error::other("it is not a regular file")));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > MAX_FILE {
        return Err(wrong(io::Error::other(format!("it is larger than {MAX_FILE} bytes"))));
    }
    Ok(text)
}

fn try_one<'a>(file: &'a Path, case: &'a Case, policies: &Policies) -> Tried<'a> {
    let verdict = policies.suppose(&case.supposed, &case.facts, cases::NOON);
    let differences = match &case.expected {
        None => vec![Failed::new("decision", "nothing yet (--record writes it)", &seen(&verdict))],
        Some(expected) => compare(expected, &verdict),
    };
    Tried { file, case, verdict, differences }
}

/// The policies that decided: permits that count, or forbids that hold.
fn decided_by(verdict: &Verdict) -> Vec<&str> {
    let permitted = verdict.limits.is_some();
    let counts = |step: &&crate::policy::Step| {
        step.permit == permitted && step.outcome != Outcome::NotSatisfied
    };
    let mut names: Vec<&str> =
        verdict.steps.iter().filter(counts).map(|step| step.policy.as_str()).collect();
    names.sort_unstable();
    names
}

fn seen(verdict: &Verdict) -> String {
    if verdict.limits.is_some() { "permit".to_owned() } else { "deny".to_owned() }
}

fn compare(expected: &Expected, verdict: &Verdict) -> Vec<Failed> {
    let mut failed = Vec::new();
    if expected.permit != verdict.limits.is_some() {
        let wanted = if expected.permit { "permit" } else { "deny" };
        failed.push(Failed::new("decision", wanted, &seen(verdict)));
        return failed;
    }
    if let Some(limits) = &verdict.limits {
        failed.extend(report::limits(expected, limits));
    }
    if let Some(by) = &expected.by {
        let mut by: Vec<&str> = by.iter().map(String::as_str).collect();
        by.sort_unstable();
        let decided = decided_by(verdict);
        if by != decided {
            failed.push(Failed::new("by", &by.join(", "), &decided.join(", ")));
        }
    }
    if let Some(because) = &expected.because
        && !verdict.reason.contains(because.as_str())
    {
        failed.push(Failed::new("because", because, &verdict.reason));
    }
    failed
}

/// Writes what was seen behind the name of each case that expects nothing.
fn record(path: &Path, text: &str, tried: &[Tried<'_>]) -> Result<(), TestError> {
    let mut new = text.to_owned();
    let silent = tried.iter().filter(|tried| tried.case.expected.is_none());
    let mut silent: Vec<_> = silent.collect();
    silent.sort_by_key(|tried| std::cmp::Reverse(tried.case.name_end));
    for tried in &silent {
        // Behind the line of the name, so that its comment stays with it.
        let rest = &text[tried.case.name_end..];
        let at = tried.case.name_end + rest.find('\n').unwrap_or(rest.len());
        new.insert_str(at, &format!("\n{}", report::recorded(&tried.verdict).trim_end()));
    }
    if silent.is_empty() {
        return Ok(());
    }
    replace(path, &new).map_err(|error| TestError::File("write", path.to_owned(), error))
}

/// All of it or nothing, with the mode that it had.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let real = path.canonicalize()?;
    let mut name = OsString::from(".");
    name.push(real.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let draft = real.with_file_name(name);
    let permissions = std::fs::metadata(&real)?.permissions();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(permissions))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&draft, &real));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft); // the draft is ours and of no use
    }
    written
}

#[cfg(test)]
mod tests;
