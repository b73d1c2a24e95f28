//! `jsi secret import`: secrets from where they have been until now.

mod dotenv;
mod gather;
mod item;
mod json;
mod names;
mod pass;
mod report;
mod source;
mod tool;

use super::input;
use crate::failure::Failure;
use crate::output::OutputFlag;
use crate::session;
use gather::{Choice, Format, Gathered, STORED, gather};
use item::{Fault, Found, Item};
use jsi_client::v1::import_secrets_response::Outcome as Answered;
use jsi_client::{NewSecret, field_name};
use report::{Outcome, Report, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
The format is told by the source, unless --format says it:
  dotenv         NAME=value lines; nothing is expanded, which is said where it matters
  json           {\"NAME\": \"value\"} or {\"NAME\": {\"FIELD\": \"value\"}}; bytes as {\"base64\": \"…\"}
  pass, passage  a password store, opened by gpg or age; the first line is the field
                 password, `key: value` lines are fields, otpauth:// lines the field otp,
                 and what is left is the field notes
  systemd-creds  a directory of credentials, or one; .cred files by systemd-creds decrypt
Names become small letters; what no name may have becomes '-', and so does '_' in the
names of variables: with --prefix app, DATABASE_URL becomes app/database-url.
What is stored already is skipped, unless --replace is given. What cannot be imported
does not hold up the rest; the exit code is 1 then. No value is ever shown.
  jsi secret import .env --owner you --prefix app --dry-run
  jsi secret import ~/.password-store --owner you --only 'work/*'
  vault kv get -format=json -field=data app | jsi secret import --format json - --owner you")]
pub(super) struct Arguments {
    /// A file or a directory; - for standard input [default: where the format's tool has it]
    source: Option<PathBuf>,
    /// How it is written: dotenv, json, pass, passage or systemd-creds
    #[arg(
        id = "written",
        long = "format",
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true
    )]
    format: Option<Format>,
    /// Who answers for them; asked for on a terminal
    #[arg(long)]
    owner: Option<String>,
    /// What they are for [default: imported from SOURCE, as what it was called there]
    #[arg(long)]
    purpose: Option<String>,
    /// Store them below this name
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Another name for one of them
    #[arg(long, value_name = "SOURCE=NAME", value_parser = renaming)]
    rename: Vec<(String, String)>,
    /// Only what matches, by its name there or here; * is anything, ? one character
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// Not what matches
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// A field that need not be kept secret, like a user name
    #[arg(long, value_name = "FIELD", value_parser = field_name)]
    plain: Vec<String>,
    /// Replace what is stored already; holders of leases are told
    #[arg(long)]
    replace: bool,
    /// The identity that opens a passage store [default: as passage]
    #[arg(long, value_name = "FILE")]
    age_identity: Option<PathBuf>,
    /// Show names and sizes, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Overwrite and remove the file, if all of it was imported and read back
    #[arg(long, conflicts_with = "dry_run")]
    delete_source: bool,
    #[command(flatten)]
    output: OutputFlag,
}

/// For clap: `SOURCE=NAME`.
fn renaming(text: &str) -> Result<(String, String), String> {
    // What it is called there may have a '=' in it; a name here never has.
    let (source, name) = text.rsplit_once('=').ok_or("write it as SOURCE=NAME")?;
    let name = jsi_client::credential_name(name).map_err(|error| error.to_string())?;
    Ok((source.to_owned(), name))
}

pub(super) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let (format, place) = source_of(&arguments)?;
    let owner = super::required(arguments.owner.take(), "owner", "Who answers for them")?;
    // Before anything secret is read: whether there is an agent, and to hide from others.
    let stored = session::block_on(async { session::admin().await?.secrets("").await })?;
    let stored: BTreeSet<String> = stored.into_iter().map(|secret| secret.name).collect();
    let choose = |source: &str| {
        let name = name_of(&arguments, format, source).unwrap_or_default();
        match () {
            () if !is_chosen(&arguments, source, &name) => Choice::LeaveOut,
            () if stored.contains(&name) && !arguments.replace => Choice::Stored,
            () => Choice::Take,
        }
    };
    let identity = arguments.age_identity.as_deref();
    let gathered = gather(format, place.as_deref(), identity, &choose)?;
    let Gathered { found, warnings, read, left_out } = gathered;
    let from = place.as_deref().map_or("standard input".to_owned(), |at| at.display().to_string());
    let mut plan = Plan {
        report: Report {
            from,
            format: format.name(),
            dry_run: arguments.dry_run,
            rows: Vec::new(),
            warnings,
            remedy: None,
            source_deleted: false,
        },
        secrets: Vec::new(),
        left_out,
    };
    plan.make(found, &arguments, format, &owner, &stored);
    unchanged(&read)?;
    if !arguments.dry_run {
        let secrets = std::mem::take(&mut plan.secrets);
        let answers = session::block_on(async {
            let (secrets, at): (Vec<_>, Vec<_>) = secrets.into_iter().unzip();
            let mut answers =
                session::admin().await?.import(format.name(), arguments.replace, secrets).await?;
            let mut told = Vec::new();
            while let Some(answer) = answers.next().await? {
                told.push(answer);
            }
            Ok::<_, jsi_client::Error>((told, at))
        });
        plan.settle(answers)?;
        plan.clean(&arguments, format, place.as_deref(), &read);
    }
    plan.report.print(arguments.output)
}

/// The format and the place; no place: standard input.
fn source_of(arguments: &Arguments) -> Result<(Format, Option<PathBuf>), Failure> {
    let Arguments { source, format, delete_source, .. } = arguments;
    let place = match (source, format) {
        (Some(place), _) if place.as_os_str() == "-" => None,
        (Some(place), _) => Some(place.clone()),
        (None, Some(format)) => Some(format.usual_place().ok_or_else(|| {
            Failure::usage(format!("where the {} source is, is not said", format.name()))
                .advise("name it, or - for standard input")
        })?),
        (None, None) => {
            return Err(Failure::usage("what is to be imported is not said")
                .advise("name a file or a directory, or a --format whose tool has its own place"));
        }
    };
    let Some(place) = place else {
        let missing = || {
            Failure::usage("how standard input is written is not said")
                .advise("say it with --format dotenv or --format json")
        };
        if *delete_source {
            return Err(Failure::usage("standard input is no file that can be removed"));
        }
        return Ok((format.ok_or_else(missing)?, None));
    };
    if let Err(error) = std::fs::metadata(&place) {
        let code = if error.kind() == io::ErrorKind::NotFound { 4 } else { 1 };
        return Err(Failure::new(format!("{}: {error}", place.display())).code(code));
    }
    if *delete_source && (place.is_dir() || place.is_symlink()) {
        return Err(Failure::usage(
            "--delete-source removes a file, and not a directory or a link",
        )
        .advise("a directory has other files, perhaps a history of its own: look, then rm -r it"));
    }
    let format = format.or_else(|| Format::of(&place)).ok_or_else(|| {
        Failure::usage(format!("how {} is written cannot be told", place.display()))
            .advise("say it with --format dotenv, json, pass, passage or systemd-creds")
    })?;
    Ok((format, Some(place)))
}

/// Nothing is sent of files that changed since they were read.
fn unchanged(read: &[(PathBuf, source::State)]) -> Result<(), Failure> {
    // By the name that was given: a link of the top level was followed.
    let same = |path: &Path, state| source::now(path, true).is_ok_and(|now| now == state);
    match read.iter().find(|(path, state)| !same(path, *state)) {
        None => Ok(()),
        Some((path, _)) => Err(Failure::new(format!("{}: {}", path.display(), source::CHANGED))),
    }
}

struct Plan {
    report: Report,
    /// Each with the place of its row.
    secrets: Vec<(NewSecret, usize)>,
    /// Things that `--only` and `--exclude` leave out.
    left_out: usize,
}

impl Plan {
    fn make(
        &mut self,
        found: Vec<Found>,
        arguments: &Arguments,
        format: Format,
        owner: &str,
        stored: &BTreeSet<String>,
    ) {
        let mut chosen = Vec::new();
        let mut takers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for found in found {
            let source = found.as_ref().map_or_else(|fault| &fault.source, |item| &item.source);
            let name = name_of(arguments, format, source);
            if !is_chosen(arguments, source, name.as_deref().unwrap_or_default()) {
                self.left_out += 1;
                continue;
            }
            if let (Ok(item), Ok(name)) = (&found, &name) {
                takers.entry(name.clone()).or_default().push(item.source.clone());
            }
            chosen.push((found, name));
        }
        for (found, name) in chosen {
            let others = name.as_ref().ok().and_then(|name| takers.get(name));
            let planned = found.and_then(|item| {
                let refused = |why: String| Fault::failed(item.source.clone(), why);
                let name = name.clone().map_err(refused)?;
                if let Some(others) = others.filter(|others| others.len() > 1) {
                    let why =
                        format!("{} become the same name; use --rename", others.join(" and "));
                    return Err(refused(why));
                }
                self.secret(item, &name, arguments, owner, stored)
            });
            let row = planned.unwrap_or_else(|fault| Row {
                outcome: if fault.failed { Outcome::Failed } else { Outcome::Skipped },
                source: fault.source,
                name: name.unwrap_or_default(),
                fields: Vec::new(),
                bytes: 0,
                reason: fault.why,
            });
            self.report.rows.push(row);
        }
    }

    /// One secret that is to be stored, and its row.
    fn secret(
        &mut self,
        item: Item,
        name: &str,
        arguments: &Arguments,
        owner: &str,
        stored: &BTreeSet<String>,
    ) -> Result<Row, Fault> {
        let Arguments { replace, purpose, plain, .. } = arguments;
        let exists = stored.contains(name);
        let bytes = item.len();
        let Item { source, mut fields, warning } = item;
        self.report.warnings.extend(warning);
        fields.retain(|field| !field.value.is_empty());
        if fields.is_empty() {
            return Err(Fault::skipped(source, "its value is empty"));
        }
        if exists && !replace {
            return Err(Fault::skipped(source, STORED));
        }
        let has = |plain: &&String| fields.iter().any(|field| field.name == **plain);
        let plain: Vec<String> = plain.iter().filter(has).cloned().collect();
        let default = fields.iter().find(|field| field.is_default || fields.len() == 1);
        let default = default.or(fields.first()).map(|field| field.name.clone());
        let fields = input::settle(fields, default.as_deref(), &plain)
            .map_err(|failure| Fault::failed(source.clone(), failure.message().to_owned()))?;
        let purpose = purpose.clone().unwrap_or_else(|| {
            let purpose = format!("imported from {}, {source} there", self.report.from);
            let fit = purpose.chars().filter(|c| !crate::output::moves(*c)).take(256);
            fit.collect()
        });
        let mut secret = NewSecret::new(name, owner, &purpose);
        secret.replace = *replace;
        let shown = fields.iter().map(|field| field.name.clone()).collect();
        for field in fields {
            secret.field(&field.name, field.value, field.sensitive, field.is_default);
        }
        self.secrets.push((secret, self.report.rows.len()));
        let outcome = if exists { Outcome::Replaced } else { Outcome::Imported };
        let (name, reason) = (name.to_owned(), String::new());
        Ok(Row { source, name, fields: shown, bytes, outcome, reason })
    }

    /// What the agent made of them.
    fn settle(
        &mut self,
        answers: Result<(Vec<jsi_client::v1::ImportSecretsResponse>, Vec<usize>), Failure>,
    ) -> Result<(), Failure> {
        let (answers, at) = answers?;
        let mut answers = answers.into_iter();
        for at in at {
            let Some(row) = self.report.rows.get_mut(at) else { continue };
            let (outcome, reason) = match answers.next() {
                None => (Outcome::Failed, "the agent did not say what became of it".to_owned()),
                Some(answer) if answer.name != row.name => {
                    return Err(Failure::new("the agent's answers do not fit what was sent"));
                }
                Some(answer) => match answer.outcome() {
                    Answered::Stored => (Outcome::Imported, String::new()),
                    Answered::Replaced => (Outcome::Replaced, String::new()),
                    Answered::Exists => (Outcome::Skipped, STORED.to_owned()),
                    Answered::Failed | Answered::Unspecified => (Outcome::Failed, answer.reason),
                },
            };
            (row.outcome, row.reason) = (outcome, reason);
        }
        Ok(())
    }

    /// Removes the source, or says how.
    fn clean(
        &mut self,
        arguments: &Arguments,
        format: Format,
        place: Option<&Path>,
        read: &[(PathBuf, source::State)],
    ) {
        let Some(place) = place else { return };
        let rows = &self.report.rows;
        let whole = !rows.is_empty()
            && self.left_out == 0
            && rows.iter().all(|row| matches!(row.outcome, Outcome::Imported | Outcome::Replaced));
        let shown = place.display();
        if arguments.delete_source {
            let kept = |why: &str| format!("{shown} was kept: {why}");
            if !whole {
                let why = "not all of it was imported by this run";
                self.report.warnings.push(kept(why));
            } else if unchanged(read).is_err() {
                self.report.warnings.push(kept("it has changed since it was read"));
            } else {
                match overwrite_and_remove(place, read) {
                    Ok(()) => self.report.source_deleted = true,
                    Err(error) => self.report.warnings.push(kept(&error.to_string())),
                }
            }
        } else if whole || rows.iter().any(|row| row.outcome == Outcome::Imported) {
            let directory = place.is_dir();
            let how = match format {
                Format::Pass | Format::Passage => {
                    format!("rm -r {shown} (and its git history, wherever it was pushed)")
                }
                _ if directory => format!("shred -u {shown}/*"),
                _ => format!("shred -u {shown}"),
            };
            let when = if whole { "once you need it no more" } else { "once the rest is imported" };
            self.report.remedy = Some(format!("the source is still there; {when}: {how}"));
        }
    }
}

/// What it is to be called in the store.
fn name_of(arguments: &Arguments, format: Format, source: &str) -> Result<String, String> {
    let renamed = arguments.rename.iter().find(|(from, _)| from == source);
    renamed.map_or_else(
        || names::credential_of(source, &arguments.prefix, format.has_variables()),
        |(_, name)| Ok(name.clone()),
    )
}

fn is_chosen(arguments: &Arguments, source: &str, name: &str) -> bool {
    let any = |patterns: &[String]| {
        patterns
            .iter()
            .any(|pattern| names::matches(pattern, source) || names::matches(pattern, name))
    };
    (arguments.only.is_empty() || any(&arguments.only)) && !any(&arguments.exclude)
}

/// Zeros over it, then it is gone. File systems that copy on write, and flash, keep
/// what they keep: that is said.
fn overwrite_and_remove(path: &Path, read: &[(PathBuf, source::State)]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let now = source::of(&file)?;
    if read.iter().all(|(_, state)| *state != now) {
        return Err(io::Error::other("another file has taken its place"));
    }
    let mut left = file.metadata()?.len();
    let zeros = [0; 64 * 1024];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..now).unwrap_or_default())?;
        left -= now as u64;
    }
    file.sync_all()?;
    std::fs::remove_file(path)
}
