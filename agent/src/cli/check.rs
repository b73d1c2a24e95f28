//! `jsi-agent check`: what the agent would say of its configuration and its
//! policies, without being started. The same loaders, the same errors.

use crate::config::{self, Config};
use crate::policy::{BUILTIN, LoadError, Policies};
use clap::Parser;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check configuration and policies, with the loaders that the agent uses.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "jsi-agent check",
    version,
    after_help = "\
Exit code 0: valid, perhaps with warnings. 1: the agent would refuse it.
For example:
  jsi policy check
  jsi policy check -v orders.cedar"
)]
pub(super) struct CheckArgs {
    /// The configuration file; left out, the one that the agent would take.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// One policy directory or policy files; left out, the configured directory.
    #[arg(value_name = "POLICY_DIR|FILES")]
    pub(super) policies: Vec<PathBuf>,
    /// Also prints where things lie, each policy, and the built-in policies.
    #[arg(short, long)]
    pub(super) verbose: bool,
}

/// `jsi-agent check` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: CheckArgs = match super::parsed("jsi-agent check", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    run(&args).unwrap_or_else(|error| {
        eprintln!("jsi-agent check: {error}");
        ExitCode::FAILURE
    })
}

/// Checks and prints: findings to stderr, with `-v` what was found to stdout.
///
/// # Errors
/// When the terminal cannot be written.
pub(super) fn run(args: &CheckArgs) -> io::Result<ExitCode> {
    let report = check(args);
    let mut out = io::stdout().lock();
    out.write_all(report.told.as_bytes())?;
    out.flush()?;
    io::stderr().lock().write_all(report.found.as_bytes())?;
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a check came to.
struct Report {
    valid: bool,
    /// Errors and warnings.
    found: String,
    /// What was checked.
    told: String,
}

fn check(args: &CheckArgs) -> Report {
    let mut report = Report { valid: true, found: String::new(), told: String::new() };
    let config = match config::load(args.config.as_deref(), None) {
        Ok(config) => Some(config),
        Err(error) => {
            report.error(&error);
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
        Some(Err(error)) => report.refused(&error),
        Some(Ok(policies)) => report.policies(&policies, config.as_ref(), args.verbose),
    }
    if let Some(config) = config.filter(|_| args.verbose) {
        report.configuration(&config);
    }
    report
}

impl Report {
    fn error(&mut self, error: &dyn Error) {
        self.valid = false;
        let _ = write!(self.found, "error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(self.found, ": {cause}");
            source = cause.source();
        }
        self.found.push('\n');
    }

    fn refused(&mut self, error: &LoadError) {
        let LoadError::Invalid(faults) = error else { return self.error(error) };
        self.valid = false;
        for fault in faults {
            let _ = writeln!(self.found, "error: {fault}");
        }
        let plural = if faults.len() == 1 { "" } else { "s" };
        let _ = writeln!(
            self.found,
            "{} error{plural}: the agent would keep the policies it has",
            faults.len()
        );
    }

    fn policies(&mut self, policies: &Policies, config: Option<&Config>, verbose: bool) {
        let class = |name: &str| {
            let mut known = config?.credentials.iter();
            let (_, credential) = known.find(|(known, _)| known.as_str() == name)?;
            (credential.issuer.as_str() == "store").then_some("static")
        };
        for warning in policies.warnings().iter().cloned().chain(policies.static_warnings(class)) {
            let _ = writeln!(self.found, "warning: {warning}");
        }
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
        for reason in config::advisory(config) {
            let _ = writeln!(self.found, "advisory: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn args(dir: &Path, config: &str, policies: Vec<PathBuf>) -> CheckArgs {
        let text = format!("[agent]\npolicy_dir = {:?}\n{config}", dir.join("policy.d"));
        CheckArgs { config: Some(file(dir, "agent.toml", &text)), policies, verbose: true }
    }

    #[test]
    fn valid_policies_are_told_with_their_warnings() {
        let dir = tempfile::tempdir().unwrap();
        let policy = file(
            dir.path(),
            "a.cedar",
            r#"@id("open") permit(principal, action, resource == Credential::"db/orders");"#,
        );
        let credential = "[credentials.\"db/orders\"]\nowner = \"a\"\npurpose = \"b\"\n";
        let report = check(&args(dir.path(), credential, vec![policy]));
        assert!(report.valid, "{}", report.found);
        assert!(report.found.contains("warning: open: it says nothing of the requester"));
        assert!(report.found.contains("warning: db/orders is a stored secret"), "{}", report.found);
        assert!(
            report.told.contains("1 policy valid") && report.told.contains("jsi/holders-release")
        );
    }

    #[test]
    fn what_the_agent_would_refuse_is_not_called_valid() {
        let dir = tempfile::tempdir().unwrap();
        let bad =
            file(dir.path(), "a.cedar", "permit(principal, action, resource) when { nonsense };");
        let report = check(&args(dir.path(), "", vec![bad]));
        assert!(!report.valid);
        assert!(
            report.found.contains("a.cedar:1:") && report.found.contains('^'),
            "{}",
            report.found
        );

        let report = check(&args(dir.path(), "colour = 1\n", Vec::new()));
        assert!(!report.valid && report.found.contains("unknown key `colour`"), "{}", report.found);

        let none = dir.path().join("none.cedar");
        let report = check(&args(dir.path(), "", vec![none]));
        assert!(!report.valid && report.found.contains("none.cedar"), "{}", report.found);
    }

    #[test]
    fn the_published_examples_are_valid() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/policies");
        for entry in std::fs::read_dir(examples).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "cedar") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.display().to_string();
            if let Err(error) = Policies::from_texts(&[(name.as_str(), text.as_str())]) {
                panic!("{error}");
            }
        }
    }
}
