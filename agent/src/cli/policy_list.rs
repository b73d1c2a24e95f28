//! `jsi-agent policy ls`: the policies of a directory, one a line.

use super::printable;
use crate::config;
use crate::policy::{Listed, Policies};
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// List policies: whom they permit what, and where they stand.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "jsi policy ls",
    version,
    after_help = "\
As they are in the files, which is what a reload would take; a * behind a principal
says that conditions stand behind it, too. The built-in ones: jsi policy check -v"
)]
pub(super) struct ListArgs {
    /// Where policies are [default: the configured directory]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// The configuration that says where policies are
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print it: for people, or JSON for programs
    #[arg(short, long, value_name = "table|json", default_value = "table",
          hide_default_value = true, value_parser = ["table", "json"], hide_possible_values = true)]
    output: String,
}

/// `jsi-agent policy ls` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: ListArgs = match super::parsed("jsi policy ls", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {}", why.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &ListArgs) -> Result<(), String> {
    let dir = match &args.policy_dir {
        Some(dir) => dir.clone(),
        None => {
            let config = config::load(args.config.as_deref(), None);
            config.map_err(|error| super::chain(&error))?.policy_dir
        }
    };
    let policies = Policies::load(&dir).map_err(|error| super::chain(&error))?;
    let listed = policies.listed();
    let text = match args.output.as_str() {
        "json" => format!("{:#}\n", Value::Array(listed.iter().map(as_json).collect())),
        _ => table(&listed),
    };
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| format!("cannot write to standard output: {error}"))
}

fn as_json(one: &Listed) -> Value {
    json!({
        "id": one.name,
        "effect": if one.permit { "permit" } else { "forbid" },
        "resource": one.resource,
        "principal": one.principal,
        "conditions": one.conditions,
        "limits": one.limits.iter().map(|(name, value)| json!({ "name": name, "value": value }))
            .collect::<Vec<_>>(),
        "file": one.file,
        "line": one.line,
    })
}

fn table(listed: &[Listed]) -> String {
    let mut rows =
        vec![["ID", "EFFECT", "CREDENTIAL", "WHO", "LIMITS", "PLACE"].map(str::to_owned)];
    rows.extend(listed.iter().map(|one| {
        let limits: Vec<String> = one.limits.iter().map(limit).collect();
        let limits = if limits.is_empty() { "-".to_owned() } else { limits.join(" ") };
        let who = match (one.principal.as_str(), one.conditions) {
            ("*", true) => "see conditions".to_owned(),
            (principal, true) => format!("{principal} *"),
            (principal, false) => principal.to_owned(),
        };
        let effect = if one.permit { "permit" } else { "forbid" }.to_owned();
        let place = format!("{}:{}", one.file, one.line);
        [one.name.clone(), effect, one.resource.clone(), who, limits, place]
            .map(|cell| printable(&cell))
    }));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn limit((name, value): &(String, String)) -> String {
    if value.is_empty() { name.clone() } else { format!("{name}={value}") }
}
