//! From a place to what is found there, by its format.

use super::item::{Fault, Found, Item};
use super::source::{self, Below, State};
use super::tool::{AGE, GPG, SYSTEMD_CREDS, Tool, Trouble};
use super::{dotenv, json, pass};
use crate::commands::secret::input::{Filled, ONLY_FIELD};
use crate::failure::Failure;
use crate::terminal;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest dotenv or JSON file, in bytes: ten thousand secrets of some length.
const MAX_FILE: usize = 64 * jsi_proto::MAX_SECRET;

/// How a source is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// NAME=value lines
    Dotenv,
    /// An object of strings, or of objects of strings
    Json,
    /// A password store of pass (gpg)
    Pass,
    /// A password store of passage (age)
    Passage,
    /// A directory of systemd credentials, or one of them
    SystemdCreds,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dotenv => "dotenv",
            Self::Json => "json",
            Self::Pass => "pass",
            Self::Passage => "passage",
            Self::SystemdCreds => "systemd-creds",
        }
    }

    /// Where its tool keeps it, where nothing else is said.
    pub(super) fn usual_place(self) -> Option<PathBuf> {
        let home = |below: &str| Some(PathBuf::from(std::env::var_os("HOME")?).join(below));
        let named = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        match self {
            Self::Dotenv => Some(PathBuf::from(".env")),
            Self::Json => None,
            Self::Pass => named("PASSWORD_STORE_DIR").or_else(|| home(".password-store")),
            Self::Passage => named("PASSAGE_DIR").or_else(|| home(".passage/store")),
            Self::SystemdCreds => named("CREDENTIALS_DIRECTORY"),
        }
    }

    /// What a place looks like; `None`: like none of them.
    pub(super) fn of(place: &Path) -> Option<Self> {
        let name = place.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if !place.is_dir() {
            let dotenv = name == ".env" || name.starts_with(".env.") || name.ends_with(".env");
            return match () {
                () if name.ends_with(".json") => Some(Self::Json),
                () if name.ends_with(".cred") => Some(Self::SystemdCreds),
                () if dotenv => Some(Self::Dotenv),
                () => None,
            };
        }
        let ending = |ending: &str| {
            let (files, _) = source::walk(place, true).ok()?;
            files.iter().any(|file| file.name.ends_with(ending)).then_some(())
        };
        if place.join(".gpg-id").exists() {
            return Some(Self::Pass);
        }
        let given = std::env::var_os("CREDENTIALS_DIRECTORY");
        if given.is_some_and(|given| Path::new(&given) == place) {
            return Some(Self::SystemdCreds);
        }
        None.or_else(|| ending(".cred").map(|()| Self::SystemdCreds))
            .or_else(|| ending(".gpg").map(|()| Self::Pass))
            .or_else(|| ending(".age").map(|()| Self::Passage))
    }

    /// Names in it are those of variables.
    pub(super) fn has_variables(self) -> bool {
        self == Self::Dotenv
    }
}

/// What is to be done with something, before it is opened.
pub(super) enum Choice {
    Take,
    LeaveOut,
    /// It is stored already, and is not to be replaced.
    Stored,
}

/// By what it is called in the source.
pub(super) type Choose<'a> = &'a dyn Fn(&str) -> Choice;

/// Why something that is stored already is skipped.
pub(super) const STORED: &str = "it is stored already; --replace replaces it";

/// What was found, and in which files.
pub(super) struct Gathered {
    pub(super) found: Vec<Found>,
    /// What should be known of the source as a whole.
    pub(super) warnings: Vec<String>,
    /// The files that were read, to be looked at again before anything is sent.
    pub(super) read: Vec<(PathBuf, State)>,
    /// Files that were left out, unread.
    pub(super) left_out: usize,
}

/// Reads a place; `None`: standard input.
///
/// # Errors
/// Nothing of it can be read, or the tool that opens it is missing.
pub(super) fn gather(
    format: Format,
    place: Option<&Path>,
    identity: Option<&Path>,
    choose: Choose<'_>,
) -> Result<Gathered, Failure> {
    let (found, warnings, read) = (Vec::new(), Vec::new(), Vec::new());
    let mut gathered = Gathered { found, warnings, read, left_out: 0 };
    let Some(place) = place else {
        let text = terminal::all_input()?;
        gathered.found = parsed(format, &text)?;
        return Ok(gathered);
    };
    match format {
        Format::Dotenv | Format::Json => {
            let text = gathered.file(place, MAX_FILE)?;
            gathered.found = parsed(format, &text)
                .map_err(|failure| failure.advise(format!("in {}", place.display())))?;
        }
        Format::Pass => {
            let arguments = ["--batch", "--quiet", "--decrypt"].map(Into::into);
            gathered.entries(place, ".gpg", GPG, &arguments, choose)?;
        }
        Format::Passage => {
            let (store, identity) = passage(place, identity)?;
            let arguments = ["--decrypt".into(), "--identity".into(), identity.into_os_string()];
            gathered.entries(&store, ".age", AGE, &arguments, choose)?;
        }
        Format::SystemdCreds => gathered.credentials(place, choose)?,
    }
    Ok(gathered)
}

fn parsed(format: Format, text: &[u8]) -> Result<Vec<Found>, Failure> {
    match format {
        Format::Json => json::parse(text),
        Format::Dotenv => Ok(dotenv::parse(text)),
        _ => Err(Failure::usage(format!("{} does not come by standard input", format.name()))
            .advise("name the directory")),
    }
}

/// Where the entries of a passage store are, and the identity that opens them.
fn passage(place: &Path, identity: Option<&Path>) -> Result<(PathBuf, PathBuf), Failure> {
    // ~/.passage holds the store and the identities side by side.
    let (store, beside) = if place.join("store").is_dir() {
        (place.join("store"), Some(place.join("identities")))
    } else {
        (place.to_owned(), place.parent().map(|above| above.join("identities")))
    };
    let named = std::env::var_os("PASSAGE_IDENTITIES_FILE").map(PathBuf::from);
    let usual = std::env::var_os("HOME").map(|home| Path::new(&home).join(".passage/identities"));
    let known = beside.into_iter().chain(usual).find(|path| path.is_file());
    let identity = identity.map(Path::to_owned).or(named).or(known);
    match identity {
        Some(identity) if identity.is_file() => Ok((store, identity)),
        Some(identity) => Err(Failure::new(format!("{} is no file", identity.display()))),
        None => Err(Failure::new("there is no age identity that opens it")
            .advise("name it with --age-identity, or by PASSAGE_IDENTITIES_FILE")),
    }
}

impl Gathered {
    /// A file of plaintext, which others had better not read.
    fn file(&mut self, path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let shown = path.display();
        if path.is_symlink() {
            self.warnings.push(format!("{shown} is a symbolic link; what it leads to was read"));
        }
        let taken = source::read(path, most, true)
            .map_err(|why| Failure::new(format!("{shown}: {why}")))?;
        self.seen(path, taken.state, Some(taken.mode));
        Ok(taken.bytes)
    }

    /// `mode`: of a file that holds plaintext.
    fn seen(&mut self, path: &Path, state: State, mode: Option<u32>) {
        self.read.push((path.to_owned(), state));
        if let Some(mode) = mode.filter(|mode| mode & 0o044 != 0) {
            let shown = path.display();
            self.warnings.push(format!(
                "others can read {shown} (mode {mode:04o}), now and until it is gone: \
                 chmod 600 {shown}, and think of replacing what stood in it (jsi secret rotate)"
            ));
        }
    }

    /// Entries of a password store, each opened by its tool.
    fn entries(
        &mut self,
        store: &Path,
        ending: &str,
        tool: Tool,
        arguments: &[OsString],
        choose: Choose<'_>,
    ) -> Result<(), Failure> {
        for Below { name, path } in self.below(store, true)? {
            let Some(entry) = name.strip_suffix(ending).map(str::to_owned) else {
                self.found.push(Err(Fault::skipped(name, format!("it does not end in {ending}"))));
                continue;
            };
            if !self.is_taken(&entry, choose) {
                continue;
            }
            let most = 2 * jsi_proto::MAX_SECRET;
            let found = match source::read(&path, most, false) {
                Err(why) => Err(Fault::failed(entry, why)),
                Ok(taken) => {
                    self.seen(&path, taken.state, None);
                    match tool.open(arguments, &taken.bytes) {
                        Ok(text) => Ok(pass::entry(entry, &text)),
                        Err(Trouble::Refused(why)) => Err(Fault::failed(entry, why)),
                        Err(Trouble::Missing(failure)) => return Err(failure),
                    }
                }
            };
            self.found.push(found);
        }
        Ok(())
    }

    /// systemd credentials: a directory of them, or one file. The bytes are kept
    /// exactly.
    fn credentials(&mut self, place: &Path, choose: Choose<'_>) -> Result<(), Failure> {
        let files = if place.is_dir() {
            self.below(place, false)?
        } else {
            let name = place.file_name().map(|name| name.to_string_lossy().into_owned());
            vec![Below { name: name.unwrap_or_default(), path: place.to_owned() }]
        };
        let single = !place.is_dir();
        for Below { name, path } in files {
            let sealed = name.strip_suffix(".cred").map(str::to_owned);
            if !self.is_taken(sealed.as_deref().unwrap_or(&name), choose) {
                continue;
            }
            let most = 2 * jsi_proto::MAX_SECRET;
            let taken = match source::read(&path, most, single) {
                Ok(taken) => taken,
                Err(why) => {
                    self.found.push(Err(Fault::failed(name, why)));
                    continue;
                }
            };
            self.seen(&path, taken.state, sealed.is_none().then_some(taken.mode));
            let opened = match &sealed {
                None => Ok(taken.bytes),
                Some(name) => {
                    let named = OsString::from(format!("--name={name}"));
                    let arguments = ["decrypt".into(), named, "-".into(), "-".into()];
                    SYSTEMD_CREDS.open(&arguments, &taken.bytes)
                }
            };
            let source = sealed.unwrap_or(name);
            self.found.push(match opened {
                Ok(value) => Ok(whole(source, value)),
                Err(Trouble::Refused(why)) => Err(Fault::failed(source, why)),
                Err(Trouble::Missing(failure)) => return Err(failure),
            });
        }
        Ok(())
    }

    fn is_taken(&mut self, source: &str, choose: Choose<'_>) -> bool {
        match choose(source) {
            Choice::Take => return true,
            Choice::LeaveOut => self.left_out += 1,
            Choice::Stored => self.found.push(Err(Fault::skipped(source, STORED))),
        }
        false
    }

    fn below(&mut self, dir: &Path, deep: bool) -> Result<Vec<Below>, Failure> {
        let (files, faults) = source::walk(dir, deep)
            .map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        self.found.extend(faults.into_iter().map(Err));
        Ok(files)
    }
}

fn whole(source: String, value: Zeroizing<Vec<u8>>) -> Item {
    let name = ONLY_FIELD.to_owned();
    Item::new(source, vec![Filled { name, value, sensitive: true, is_default: true }])
}
