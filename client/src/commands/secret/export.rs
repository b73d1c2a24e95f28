//! `jsi secret export`: age files as they lie in the store, and nothing else.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::{AgeFile, credential_name};
use serde_json::json;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
What leaves is ciphertext, always: there is no flag that makes it plaintext. It is
opened with the agent's identity, and holds JSON with the fields:
  jsi secret export db/orders | age -d -i ~/.config/jsi/identity
  jsi secret export db/orders --to orders.age
  jsi secret export --all --into age-files/
A backup of the whole store, which can be restored, is jsi backup.")]
pub(super) struct Arguments {
    /// The credentials
    #[arg(value_parser = credential_name, required_unless_present = "all")]
    names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Into this file, which must not be there (mode 0600) [default: standard output]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Each into a file of its own below this directory
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    into: Option<PathBuf>,
    /// As text, and so also to a terminal
    #[arg(long)]
    armor: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { names, all, to, into, armor, output } = arguments;
    if into.is_none() && (all || names.len() > 1) {
        return Err(Failure::usage("several age files do not fit into one")
            .advise("name a directory for them: --into DIR"));
    }
    let to_stdout = into.is_none() && to.is_none();
    if to_stdout && output.format == output::Format::Json {
        return Err(Failure::usage("standard output is taken by the age file")
            .advise("name a file with --to"));
    }
    if to_stdout && !armor && output::stdout_is_terminal() {
        return Err(Failure::usage("an age file is no text, and standard output is a terminal")
            .advise("say --armor for text, or name a file with --to"));
    }
    let mut done = Vec::new();
    let mut faults = Vec::new();
    session::block_on(async {
        let mut files = session::admin().await?.export(&names, all).await?;
        while let Some(AgeFile { secret, bytes }) = files.next().await? {
            let written = match bytes {
                Err(fault) => Err(fault),
                Ok(bytes) => {
                    let bytes = if armor { armored(&bytes).into_bytes() } else { bytes };
                    match (&to, &into) {
                        (Some(path), _) => write(path, &bytes).map(|()| path.clone()),
                        (None, Some(dir)) => write_below(dir, &secret.name, &bytes),
                        (None, None) => {
                            output::to_stdout(&bytes)?;
                            Ok(PathBuf::from("-"))
                        }
                    }
                }
            };
            match written {
                Ok(path) => done.push((secret, path)),
                Err(fault) => faults.push(format!("{}: {fault}", secret.name)),
            }
        }
        Ok::<_, Failure>(())
    })?;
    if output.format == output::Format::Json {
        let rows = done.iter().map(|(secret, path)| {
            json!({ "secret": view::secret(secret), "file": path.display().to_string() })
        });
        let json = || json!({ "exported": rows.collect::<Vec<_>>(), "failed": faults });
        output::print(output, json, String::new)?;
    } else if !to_stdout {
        output::note(&format!("{} age files written", done.len()));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(format!("{} could not be exported", faults.len()));
    Err(faults.into_iter().fold(failure, Failure::advise))
}

fn write_below(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    // The agent's word, and so held to the rules of names: no way out of the directory.
    let name = credential_name(name).map_err(|error| error.to_string())?;
    let path = dir.join(format!("{name}.age"));
    let parent = path.parent().unwrap_or(dir);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| format!("{}: {error}", parent.display()))?;
    write(&path, bytes).map(|()| path)
}

/// A file that was not there, of mode 0600, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let new = || -> io::Result<()> {
        let mut file = create(path)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
            let _ = std::fs::remove_file(path); // half a file is none
        })
    };
    new().map_err(|error| format!("{}: {error}", path.display()))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The text form of age (C2SP age, "ASCII armor"): strict PEM.
fn armored(bytes: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(bytes);
    let mut text = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = later;
    }
    text + "-----END AGE ENCRYPTED FILE-----\n"
}
