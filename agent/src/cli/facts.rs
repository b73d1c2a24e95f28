//! `jsi-agent facts`: what `jsi doctor` cannot see by itself, as JSON: what the
//! kernel can do, how the clock is kept, and what an agent that is started here
//! would take for its configuration. Asks; changes nothing.

use crate::config::{self, Config, Mode};
use crate::process::features;
use clap::Parser;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print facts for `jsi doctor`.
#[derive(Debug, Parser)]
#[command(name = "jsi-agent facts", after_help = "For example:\n  jsi-agent facts | jq .kernel")]
pub(super) struct FactsArgs {
    /// The configuration file; left out, the one that the agent would take.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// `jsi-agent facts` as a whole.
pub(super) fn main(words: &[OsString]) -> ExitCode {
    let args: FactsArgs = match super::parsed("jsi-agent facts", words) {
        Ok(args) => args,
        Err(code) => return code,
    };
    let text = format!("{:#}\n", facts(&args));
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody reads it
    }
}

fn facts(args: &FactsArgs) -> Value {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": kernel(&exe),
        "clock": match features::clock() {
            Ok(state) => json!({
                "synchronised": state.synchronised,
                "max_error_us": state.max_error_us,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        },
        "configuration": match config::load(args.config.as_deref(), None) {
            Ok(config) => configuration(&config),
            Err(error) => json!({ "error": chain(&error) }),
        },
    })
}

fn kernel(exe: &Path) -> Value {
    let features = features::all(exe).into_iter().map(|feature| {
        let found = match feature.found {
            Ok(version) => json!({ "present": true, "version": version }),
            Err(why) => json!({ "present": false, "why": why }),
        };
        (feature.name.to_owned(), found)
    });
    Value::Object(features.collect())
}

fn configuration(config: &Config) -> Value {
    json!({
        "source": config.source.as_ref().map(|path| path.display().to_string()),
        "mode": if config.mode == Mode::Host { "host" } else { "user" },
        "advisory": config::advisory(config),
        "places": config.places().iter()
            .map(|(what, path)| json!({ "what": what, "path": path }))
            .collect::<Vec<_>>(),
        "leases": config.limits.leases,
        "opens_by_itself": config::opens_by_itself(&config.identity),
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_is_refused_is_told_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "colour = 1\n").unwrap();
        let told = facts(&FactsArgs { config: Some(file) });
        let error = told["configuration"]["error"].as_str().unwrap();
        assert!(error.contains("colour"), "{error}");
        assert_eq!(told["kernel"]["pidfd"]["present"], true);
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn places_of_a_configuration_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, format!("[agent]\nlog_dir = {:?}\n", dir.path().join("l"))).unwrap();
        let told = facts(&FactsArgs { config: Some(file) });
        let places = told["configuration"]["places"].as_array().unwrap();
        assert!(places.iter().any(|place| {
            place["what"] == "log" && place["path"].as_str().unwrap().ends_with("/l")
        }));
    }
}
