//! `jsi-agent check`: what the agent would say of its configuration and its
//! policies, without being started. The same loaders, the same errors.

use super::diagnostics::{self, Severity, Style};
use super::surroundings;
use crate::config::{self, Config};
use crate::policy::{BUILTIN, Fault, LoadError, Policies};
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check configuration and policies, with the loaders that the agent uses.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "jsi policy check",
    version,
    after_help = "\
Errors are what the agent would refuse; warnings, what it takes and can hardly be
meant: programs that run whatever they are given, permits that can never apply or
that a forbid always overrides, credentials that nobody defines, files that are
not there, that others may write, or that have another digest by now.
Exit code 0: valid, perhaps with warnings. 1: the agent would refuse it, or there
are warnings and --deny-warnings.
For example:
  jsi policy check
  jsi policy check -v orders.cedar
  jsi policy check --deny-warnings -o json /etc/jsi/policy.d"
)]
pub(super) struct CheckArgs {
    /// The configuration file; left out, the one that the agent would take.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Policy directories or files; left out, the configured directory.
    #[arg(value_name = "POLICY_DIR|FILES")]
    pub(super) policies: Vec<PathBuf>,
    /// Warnings fail the check, too.
    #[arg(long)]
    pub(super) deny_warnings: bool,
    /// How to print it: for people, or JSON for programs.
    #[arg(short, long, value_name = "table|json", default_value = "table",
          hide_default_value = true, value_parser = ["table", "json"], hide_possible_values = true)]
    pub(super) output: String,
    /// Also prints where things lie, each policy, and the built-in policies.
    #[arg(short, long)]
    pub(super) verbose: bool,
}

/// `jsi-agent check` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: CheckArgs = match super::parsed("jsi policy check", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    run(&args).unwrap_or_else(|error| {
        eprintln!("jsi-agent check: {error}");
        ExitCode::FAILURE
    })
}

/// Checks and prints: findings to stderr, with `-v` what was found to stdout;
/// with `-o json` all of it to stdout.
///
/// # Errors
/// When the terminal cannot be written.
pub(super) fn run(args: &CheckArgs) -> io::Result<ExitCode> {
    let report = check(args);
    let failed = report.failed(args.deny_warnings);
    let mut out = io::stdout().lock();
    if args.output == "json" {
        writeln!(out, "{:#}", report.json(failed))?;
    } else {
        out.write_all(report.told.as_bytes())?;
        out.flush()?;
        io::stderr().lock().write_all(report.found(Style::of_stderr(), failed).as_bytes())?;
    }
    out.flush()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a check came to.
#[derive(Default)]
struct Report {
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
    advisory: Vec<String>,
    /// What was checked.
    told: String,
    policies: usize,
}

fn check(args: &CheckArgs) -> Report {
    let mut report = Report::default();
    let config = match config::load(args.config.as_deref(), None) {
        Ok(config) => Some(config),
        Err(error) => {
            report.error(super::chain(&error));
            None
        }
    };
    let policies = match (args.policies.as_slice(), &config) {
        ([], None) => None,
        ([], Some(config)) => Some(Policies::load(&config.policy_dir)),
        ([one], _) if one.is_dir() => Some(Policies::load(one)),
        (files, _) => Some(Policies::load_files(files)),
    };
    match policies {
        None => {}
        Some(Err(LoadError::Invalid(faults))) => report.errors.extend(faults),
        Some(Err(error)) => report.error(super::chain(&error)),
        Some(Ok(policies)) => report.policies(&policies, config.as_ref(), args.verbose),
    }
    if let Some(config) = config.filter(|_| args.verbose) {
        report.configuration(&config);
    }
    report
}

impl Report {
    fn error(&mut self, message: String) {
        self.errors.push(Fault { message, width: 1, ..Fault::default() });
    }

    fn policies(&mut self, policies: &Policies, config: Option<&Config>, verbose: bool) {
        self.warnings.extend(policies.findings().iter().cloned());
        self.warnings.extend(surroundings::of(policies, config));
        let place = |fault: &Fault| (fault.file.clone(), fault.line, fault.column);
        self.warnings.sort_by_key(place);
        self.policies = policies.len();
        let count = policies.len();
        let plural = if count == 1 { "y" } else { "ies" };
        let _ = writeln!(self.told, "{count} polic{plural} valid");
        if verbose {
            for (name, place) in policies.names() {
                let _ = writeln!(self.told, "  {name}  ({place})");
            }
            let _ = writeln!(self.told, "built-in policies:\n{}", BUILTIN.trim_end());
        }
    }

    fn configuration(&mut self, config: &Config) {
        let source = config
            .source
            .as_ref()
            .map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
        let _ = writeln!(self.told, "configuration: {source}");
        for (what, path) in [
            ("socket", &config.socket),
            ("admin socket", &config.admin_socket),
            ("policies", &config.policy_dir),
            ("store", &config.store_dir),
            ("log", &config.log_dir),
            ("identity", &config.identity),
        ] {
            let _ = writeln!(self.told, "  {what}: {}", path.display());
        }
        self.advisory = config::advisory(config);
    }

    fn failed(&self, deny_warnings: bool) -> bool {
        !self.errors.is_empty() || (deny_warnings && !self.warnings.is_empty())
    }

    /// Errors, then warnings, then how many.
    fn found(&self, style: Style, failed: bool) -> String {
        let mut text = String::new();
        for fault in &self.errors {
            text.push_str(&diagnostics::text(Severity::Error, fault, style));
        }
        for fault in &self.warnings {
            text.push_str(&diagnostics::text(Severity::Warning, fault, style));
        }
        for reason in &self.advisory {
            let _ = writeln!(text, "advisory: {reason}");
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (errors, warnings) = (self.errors.len(), self.warnings.len());
        if errors > 0 {
            let s = plural(errors);
            let _ = writeln!(text, "{errors} error{s}: the agent would keep the policies it has");
        } else if warnings > 0 {
            let denied = if failed { ": denied" } else { "" };
            let _ = writeln!(text, "{warnings} warning{}{denied}", plural(warnings));
        }
        text
    }

    fn json(&self, failed: bool) -> Value {
        json!({
            "valid": self.errors.is_empty(),
            "passed": !failed,
            "policies": self.policies,
            "errors": self.errors.iter().map(diagnostics::json).collect::<Vec<_>>(),
            "warnings": self.warnings.iter().map(diagnostics::json).collect::<Vec<_>>(),
            "advisory": self.advisory,
        })
    }
}

#[cfg(test)]
mod tests;
