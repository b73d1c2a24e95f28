//! `jsi-agent audit`: reads the log. Writes nothing, and needs no agent.

use super::record_line::line;
use crate::config::{self, ConfigError};
use crate::log::{Follower, Head, LogError, Record, VerifyError, for_each_record, verify};
use crate::names::LeaseId;
use clap::{Parser, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often `tail -f` looks for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// Read and check the log.
#[derive(Debug, Parser)]
#[command(
    name = "jsi-agent audit",
    after_help = "\
For example:
  jsi audit tail -f
  jsi audit show db/orders/toyssrurpyx5hwiwtwbctzkegi
  jsi audit head > head         # keep it elsewhere
  jsi audit verify --head \"$(cat head)\""
)]
pub(super) struct AuditArgs {
    /// Directory of the log [default: the agent's].
    #[arg(long, global = true, value_name = "DIR")]
    log: Option<PathBuf>,
    /// The agent's configuration, which says where the log is.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "log")]
    config: Option<PathBuf>,
    /// A line for people, or the records as they were logged.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table,
          value_name = "table|json", hide_possible_values = true, hide_default_value = true)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line for people.
    Table,
    /// One record as JSON a line, exactly as it was logged.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The last records.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N")]
        lines: usize,
        /// Go on with those to come.
        #[arg(short, long)]
        follow: bool,
    },
    /// All records of a lease or a request.
    Show {
        /// Lease ID or request ID.
        id: String,
    },
    /// Check every record; name the first that does not fit.
    Verify {
        /// A head that `audit head` printed earlier: also finds a cut tail and
        /// rewritten history.
        #[arg(long, value_name = "SIZE:ROOT")]
        head: Option<Head>,
    },
    /// Print the head to keep elsewhere, SIZE:ROOT, after checking every record.
    Head,
}

/// Why `audit` failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditError {
    /// The log does not verify.
    #[error("the log does not verify: {0}")]
    Verify(VerifyError),
    /// The log cannot be read.
    #[error("{0}")]
    Log(LogError),
    /// No record has that ID.
    #[error("no record of a lease or request {0:?} is in the log")]
    NotFound(String),
    /// The configuration, which says where the log is, cannot be used.
    #[error("{0}\nname the log itself with --log DIR")]
    Config(#[from] ConfigError),
    /// Output failed.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

impl AuditError {
    /// 4: not found; 1: everything else.
    #[must_use]
    fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 4,
            _ => 1,
        }
    }
}

/// `jsi-agent audit` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: AuditArgs = match super::parsed("jsi-agent audit", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jsi-agent audit: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs it; what was asked for goes to `out`.
///
/// # Errors
/// See [`AuditError`]. A reader that has gone away is none.
pub(super) fn run(args: &AuditArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    match command(args, out) {
        Err(AuditError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn command(args: &AuditArgs, out: &mut dyn Write) -> Result<(), AuditError> {
    let dir = match &args.log {
        Some(dir) => dir.clone(),
        None => config::load(args.config.as_deref(), None)?.log_dir,
    };
    let print = |out: &mut dyn Write, record: &Record, raw: &str| match args.output {
        Format::Json => writeln!(out, "{raw}"),
        Format::Table => writeln!(out, "{}", line(record)),
    };
    match &args.command {
        Command::Tail { lines, follow } => {
            let (last, mut follower) = Follower::open(&dir, *lines).map_err(AuditError::Log)?;
            for (record, raw) in last {
                print(out, &record, &raw)?;
            }
            if *follow {
                loop {
                    match follower.next_record().map_err(AuditError::Log)? {
                        Some((record, raw)) => print(out, &record, &raw)?,
                        None => {
                            out.flush()?;
                            std::thread::sleep(FOLLOW_INTERVAL);
                        }
                    }
                }
            }
        }
        Command::Show { id } => {
            let mut matching = Matching::new(id);
            let mut result = Ok(());
            let read = for_each_record(&dir, |record, raw| {
                if result.is_ok() && matching.takes(record) {
                    result = print(out, record, raw);
                }
            });
            result?;
            read.map_err(log_error)?;
            if !matching.found {
                return Err(AuditError::NotFound(id.clone()));
            }
        }
        Command::Verify { head } => {
            let head = verify(&dir, head.as_ref()).map_err(verify_error)?;
            match args.output {
                Format::Table => writeln!(out, "ok: {} records, head {head}", head.size)?,
                Format::Json => {
                    let said =
                        serde_json::json!({"ok": true, "size": head.size, "root": head.root});
                    writeln!(out, "{said}")?;
                }
            }
        }
        Command::Head => {
            let head = verify(&dir, None).map_err(verify_error)?;
            match args.output {
                Format::Table => writeln!(out, "{head}")?,
                Format::Json => {
                    let said = serde_json::json!({"size": head.size, "root": head.root});
                    writeln!(out, "{said}")?;
                }
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn verify_error(error: VerifyError) -> AuditError {
    match error {
        VerifyError::Unreadable(error) => AuditError::Log(error),
        error => AuditError::Verify(error),
    }
}

fn log_error(error: LogError) -> AuditError {
    match error {
        LogError::Damaged(damage) => AuditError::Verify(VerifyError::Record(damage)),
        error => AuditError::Log(error),
    }
}

/// The records of one lease, or of a request and the leases that it got.
struct Matching<'a> {
    id: &'a str,
    leases: BTreeSet<LeaseId>,
    found: bool,
}

impl<'a> Matching<'a> {
    fn new(id: &'a str) -> Self {
        Self { id, leases: BTreeSet::from([LeaseId::from_text(id)]), found: false }
    }

    fn takes(&mut self, record: &Record) -> bool {
        use crate::log::Event;
        let taken = match &record.event {
            Event::Intent { lease } | Event::Granted { lease } => {
                let asked = lease.request.as_str() == self.id;
                if asked {
                    self.leases.insert(lease.id.clone());
                }
                asked || self.leases.contains(&lease.id)
            }
            Event::Delivered { lease, request, .. } => {
                request.as_str() == self.id || self.leases.contains(lease)
            }
            Event::Failed { lease, .. }
            | Event::Renewed { lease, .. }
            | Event::Ending { lease, .. }
            | Event::Ended { lease, .. }
            | Event::Stuck { lease, .. } => self.leases.contains(lease),
            Event::Denied { request, .. } => request.as_str() == self.id,
            _ => false,
        };
        self.found |= taken;
        taken
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
