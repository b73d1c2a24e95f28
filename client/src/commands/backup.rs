//! `jsi backup`: the whole store in one file, while the agent goes on.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::BackupSummary;
use jsi_client::{Admin, BackupPart};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
A tar archive: the age files and their metadata as they are at one moment, policies and
configuration to read, and a manifest with a digest of each, sealed under the agent's
identity. Nothing in it is plaintext. The identity is NOT in it: without the identity
nobody can open a backup, so keep a copy of it, elsewhere.
The log is not in it; it is copied by itself (jsi audit head tells its state).
  jsi backup /mnt/backup/jsi-$(date +%F).tar
  jsi backup - | ssh backup.example.org 'cat >jsi.tar'")]
pub(crate) struct Arguments {
    /// The file, which must not be there (mode 0600); - for standard output
    file: PathBuf,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { file, output } = arguments;
    let to_stdout = file.as_os_str() == "-";
    if to_stdout && (output::stdout_is_terminal() || output.format == output::Format::Json) {
        return Err(Failure::usage("standard output cannot take the archive")
            .advise("name a file, or send it to a program"));
    }
    let summary = session::block_on(async {
        let admin = session::admin().await?;
        if to_stdout { to(admin, &mut Stdout).await } else { to_file(admin, &file).await }
    })?;
    tell(&summary, &file);
    if output.format == output::Format::Json {
        return output::print(output, || view_of(&summary, &file), String::new);
    }
    Ok(())
}

/// Under another name until it is whole, so that half a backup never looks like one.
async fn to_file(admin: Admin, path: &Path) -> Result<BackupSummary, Failure> {
    let cannot = |error: &io::Error| Failure::new(format!("{}: {error}", path.display()));
    if path.symlink_metadata().is_ok() {
        return Err(cannot(&ErrorKind::AlreadyExists.into())
            .advise("a backup replaces no file: name another, or remove it"));
    }
    let name = path.file_name().ok_or_else(|| Failure::usage("that names no file"))?;
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(format!(".{}.part", std::process::id()));
    let part = Part(Some(path.with_file_name(part)));
    let mut file = part.create().map_err(|error| cannot(&error))?;
    let summary = to(admin, &mut file).await?;
    file.sync_all().and_then(|()| part.finish(path)).map_err(|error| cannot(&error))?;
    Ok(summary)
}

/// A file that is not whole yet; removed when dropped.
struct Part(Option<PathBuf>);

impl Part {
    fn create(&self) -> io::Result<File> {
        let path = self.0.as_deref().unwrap_or(Path::new(""));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// Gives it its name, if nobody else has taken that meanwhile.
    fn finish(mut self, path: &Path) -> io::Result<()> {
        let Some(part) = self.0.take() else { return Ok(()) };
        let named = std::fs::hard_link(&part, path);
        match named {
            Ok(()) => std::fs::remove_file(&part)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let _ = std::fs::remove_file(&part);
                return Err(error);
            }
            // A file system without links.
            Err(_) => std::fs::rename(&part, path)?,
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = std::fs::remove_file(path); // it may never have been made
        }
    }
}

struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

async fn to(admin: Admin, out: &mut dyn Write) -> Result<BackupSummary, Failure> {
    let cannot = |error: io::Error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Quiet(1),
        _ => Failure::new(format!("the backup cannot be written: {error}"))
            .advise("nothing is left of it"),
    };
    let mut backup = admin.backup().await?;
    loop {
        match backup.next().await? {
            BackupPart::Bytes(bytes) => out.write_all(&bytes).map_err(cannot)?,
            BackupPart::End(summary) => {
                out.flush().map_err(cannot)?;
                return Ok(summary);
            }
        }
    }
}

fn tell(summary: &BackupSummary, file: &Path) {
    let BackupSummary { secrets, identity, damaged, manifest, .. } = summary;
    output::note(&format!("{secrets} secrets in {}; manifest {manifest}", file.display()));
    for name in damaged {
        output::note(&format!(
            "warning: {name} is damaged in the store, and in the backup as well"
        ));
    }
    let label = output::paint(&io::stderr(), "1;33", "NOT in it:");
    output::note(&format!(
        "{label} the identity, {identity}\n  Without it this backup is worthless: nobody can open it, \
         you included.\n  Keep a copy of it, where neither this machine nor the backup is: on paper, on a \
         stick in\n  a safe, in another password store. If it has no passphrase, whoever has both reads all."
    ));
}

fn view_of(summary: &BackupSummary, file: &Path) -> Value {
    json!({
        "file": file.display().to_string(),
        "made_at": view::at(summary.made_at.as_ref()),
        "secrets": summary.secrets,
        "files": summary.files,
        "manifest": summary.manifest,
        "identity": summary.identity,
        "identity_included": false,
        "damaged": summary.damaged,
    })
}
