//! `jsi allow`: a policy from flags, checked by the agent that will use it.

use super::exec::measure;
use super::revoke::digest;
use crate::failure::Failure;
use crate::policy_text::PolicyText;
use crate::{output, session};
use jsi_client::{Kind, credential_name};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = "\
All that are given must hold. With `jsi exec` in a shell, the requester is the
shell and the target is the command:
  jsi allow db/orders --exe /usr/bin/bash --target /usr/bin/psql")]
pub(crate) struct Arguments {
    /// The credential
    #[arg(value_parser = credential_name)]
    credential: String,
    /// The requester's program
    #[arg(long, value_name = "PATH")]
    exe: Option<PathBuf>,
    /// Only this very file: its SHA-256, by default as it is now
    #[arg(long, value_name = "SHA256", num_args = 0..=1, require_equals = true,
          default_missing_value = "now", requires = "exe")]
    digest: Option<String>,
    /// The program that `jsi exec` becomes
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// The requester's uid, or any [default: your own]
    #[arg(long, value_name = "UID", value_parser = uid)]
    uid: Option<Uid>,
    /// The requester's systemd unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// The longest lease: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// Where policies are [default: where the agent reads them]
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<PathBuf>,
    /// The policy's @id and file name
    #[arg(long, value_parser = policy_name)]
    name: Option<String>,
    /// Replace a policy of that name
    #[arg(long)]
    replace: bool,
    /// Print the policy and write nothing
    #[arg(long)]
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
        text => text.parse().map(Uid::One).map_err(|_| "give a number, or any"),
    }
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
    let policy = policy(&arguments)?;
    let text = policy.render();
    if arguments.dry_run {
        return output::to_stdout(text.as_bytes());
    }
    let (directory, given) = match &arguments.policy_dir {
        Some(directory) => (directory.clone(), true),
        None => (policy_dir()?, false),
    };
    let path = directory.join(format!("{}.cedar", policy.id));
    let before = write(&path, &text, arguments.replace)?;
    match session::block_on(async { session::admin().await?.reload().await }) {
        Ok(now) => {
            for warning in &now.warnings {
                output::note(&format!("warning: {warning}"));
            }
            output::note(&format!("wrote {}; policies in force: {}", path.display(), now.policies));
            Ok(())
        }
        Err(Failure::Told { code, .. }) if given && code == Kind::Unreachable.exit_code() => {
            output::note(&format!("wrote {}; no agent runs that could check it", path.display()));
            output::note("check it with: jsi policy check");
            Ok(())
        }
        Err(failure) => {
            take_back(&path, before.as_deref());
            Err(failure.advise(format!("{} was not kept", path.display())))
        }
    }
}

fn policy_dir() -> Result<PathBuf, Failure> {
    let status = session::block_on(async { session::admin().await?.status().await })
        .map_err(|failure| failure.advise("or say where policies are: --policy-dir DIR"))?;
    if status.policy_dir.is_empty() {
        return Err(Failure::new("the agent does not say where it reads policies")
            .advise("say it yourself: --policy-dir DIR"));
    }
    Ok(status.policy_dir.into())
}

fn policy(arguments: &Arguments) -> Result<PolicyText, Failure> {
    if arguments.exe.is_none() && arguments.target.is_none() && arguments.unit.is_none() {
        return Err(Failure::usage("a policy names a program or a unit")
            .advise("give --exe PATH, --target PATH or --unit UNIT")
            .advise("what the agent sees of you: jsi whoami"));
    }
    let exe = arguments.exe.as_deref().map(real_path).transpose()?;
    let target = arguments.target.as_deref().map(real_path).transpose()?;
    let digest = match (arguments.digest.as_deref(), &exe) {
        (None, _) | (_, None) => None,
        (Some("now"), Some(exe)) => Some(
            measure(Path::new(exe))
                .map_err(|error| Failure::new(format!("cannot read {exe}: {error}")))?,
        ),
        (Some(given), Some(_)) => Some(digest(given).map_err(Failure::usage)?),
    };
    let program = target.as_deref().or(exe.as_deref());
    let mut comments = vec![format!("Permits {} to what is named below.", arguments.credential)];
    if arguments.unit.is_none() {
        comments.push("Whoever can start this program can have what it is given.".to_owned());
    }
    Ok(PolicyText {
        id: match &arguments.name {
            Some(name) => name.clone(),
            None => PolicyText::name(&arguments.credential, program.or(arguments.unit.as_deref())),
        },
        comments,
        credential: arguments.credential.clone(),
        uid: match arguments.uid {
            None => Some(nix::unistd::getuid().as_raw()),
            Some(Uid::One(uid)) => Some(uid),
            Some(Uid::Any) => None,
        },
        unit: arguments.unit.clone(),
        exe,
        digest,
        target,
        max_ttl: arguments.ttl,
    })
}

/// As the agent will see it: links resolved, as the kernel names a process's exe.
fn real_path(path: &Path) -> Result<String, Failure> {
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

/// Puts the policy in its place whole, with mode 0644 whatever the umask is.
/// Answers what it replaced.
fn write(path: &Path, text: &str, replace: bool) -> Result<Option<Vec<u8>>, Failure> {
    let fault =
        |error: &io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let before = match fs::read(path) {
        Ok(_) if !replace => {
            return Err(Failure::new(format!("{} is there already", path.display()))
                .advise("replace it with --replace, or give another --name"));
        }
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fault(&error)),
    };
    place(path, text.as_bytes(), replace).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} is there already", path.display())).advise("use --replace")
        }
        io::ErrorKind::PermissionDenied => {
            fault(&error).advise("policies are written by the agent's operator")
        }
        _ => fault(&error),
    })?;
    Ok(before)
}

/// By way of a file that the agent does not read, so that it never sees half a policy.
fn place(path: &Path, text: &[u8], replace: bool) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let placed = file
        .write_all(text)
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| file.sync_all())
        .and_then(
            |()| if replace { fs::rename(&draft, path) } else { fs::hard_link(&draft, path) },
        );
    if placed.is_err() || !replace {
        let _ = fs::remove_file(&draft); // the draft is ours and of no use
    }
    placed
}

fn take_back(path: &Path, before: Option<&[u8]>) {
    let taken = match before {
        Some(text) => place(path, text, true),
        None => fs::remove_file(path),
    };
    if let Err(error) = taken {
        output::note(&format!("warning: {} could not be taken back: {error}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_not_overwritten_unless_that_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cedar");
        assert!(write(&path, "one", false).unwrap().is_none());
        assert!(write(&path, "two", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(write(&path, "two", true).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        take_back(&path, Some(b"one"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        take_back(&path, None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        for bad in ["", "../x", ".x", "a/b", "a b"] {
            assert!(policy_name(bad).is_err(), "{bad}");
        }
        assert!(policy_name("allow-db.orders_1").is_ok());
    }
}
