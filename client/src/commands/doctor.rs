//! `jsi doctor`.

use crate::doctor::{self, Finding, Severity};
use crate::failure::Failure;
use crate::output::{self, Format, OutputFlag, Screen};
use serde_json::{Value, json};
use std::io::stdout;

#[derive(clap::Args)]
#[command(after_help = "\
Each finding is ok, a note, a warning or a failure, with what mends it. It works
without an agent, and shows an operator more than others. Exit code 0: nothing
fails; 1: something does.
  jsi doctor --quiet
  jsi doctor -o json | jq '.findings[] | select(.severity == \"fail\")'")]
pub(crate) struct Arguments {
    /// Leave out what is as it should be
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let facts = doctor::gather::gather()?;
    let all = doctor::examine(&facts);
    let worst = all.iter().map(|finding| finding.severity).max();
    let least = if arguments.quiet { Severity::Note } else { Severity::Ok };
    let shown: Vec<&Finding> = all.iter().filter(|found| found.severity >= least).collect();
    match arguments.output.format {
        Format::Json => output::print(arguments.output, || as_json(&all, &shown), String::new)?,
        Format::Table => output::to_stdout(as_text(&all, &shown).as_bytes())?,
    }
    if worst == Some(Severity::Fail) { Err(Failure::Quiet(1)) } else { Ok(()) }
}

/// On terminals of fewer columns the severity has a line of its own.
const NARROW: usize = 50;

const SEVERITIES: [Severity; 4] = [Severity::Ok, Severity::Note, Severity::Warn, Severity::Fail];

fn number(all: &[Finding], severity: Severity) -> usize {
    all.iter().filter(|finding| finding.severity == severity).count()
}

fn as_json(all: &[Finding], shown: &[&Finding]) -> Value {
    let counts =
        SEVERITIES.map(|severity| (severity.word().to_owned(), number(all, severity).into()));
    json!({
        "counts": Value::Object(counts.into_iter().collect()),
        "findings": shown.iter().map(|finding| json!({
            "topic": finding.topic,
            "name": finding.name,
            "severity": finding.severity.word(),
            "text": finding.text,
            "remedy": finding.remedy,
        })).collect::<Vec<_>>(),
    })
}

/// A heading for each topic; a finding's severity, name and text on its first
/// line, and the remedy below.
fn as_text(all: &[Finding], shown: &[&Finding]) -> String {
    let narrow = Screen::now().columns.is_some_and(|columns| columns < NARROW);
    let mut text = String::new();
    let mut topic = "";
    for finding in shown {
        if finding.topic != topic {
            let gap = if topic.is_empty() { "" } else { "\n" };
            topic = finding.topic;
            text.push_str(&format!("{gap}{}\n", output::paint(&stdout(), "1", topic)));
        }
        let word = format!("{:4}", finding.severity.word());
        let colour = match finding.severity {
            Severity::Ok => "32",
            Severity::Note => "36",
            Severity::Warn => "33",
            Severity::Fail => "1;31",
        };
        let said = format!("{}: {}", finding.name, finding.text);
        let head = format!("  {}  ", output::paint(&stdout(), colour, &word));
        if narrow {
            text.push_str(&head);
            text.push('\n');
            text.push_str(&output::hanging("  ", 2, &said));
            text.push_str(&remedy(finding, "  -> "));
        } else {
            text.push_str(&output::hanging(&head, 8, &said));
            text.push_str(&remedy(finding, "        -> "));
        }
    }
    let counts: Vec<String> =
        SEVERITIES.iter().map(|&s| format!("{} {}", number(all, s), s.word())).collect();
    let gap = if shown.is_empty() { "" } else { "\n" };
    text + gap + &output::hanging("", 0, &counts.join(", "))
}

fn remedy(finding: &Finding, head: &str) -> String {
    let remedy = finding.remedy.as_ref();
    remedy.map(|remedy| output::hanging(head, head.len(), remedy)).unwrap_or_default()
}
