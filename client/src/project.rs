//! Project files: what a project needs, found by where one stands.

mod allowed;
mod confirm;
mod find;
mod read;
mod schema;

use crate::failure::Failure;
use crate::place::{Source, near};
use crate::plan::{Item, Mode, Origin, Others, Text, dotenv};
pub(crate) use allowed::{Allowed, Standing};
pub(crate) use confirm::require_allowed;
pub(crate) use find::NAME;
use find::find;
pub(crate) use read::{ReadFile, placed, read};
use schema::{Document, Layer};
use std::path::{Path, PathBuf};

/// A project file and the dotenv files and templates that it names, each read once.
pub(crate) struct Project {
    /// The project file first.
    files: Vec<ReadFile>,
    /// The layers, lowest first.
    layers: Vec<Vec<Item>>,
    profiles: Vec<String>,
}

/// Which parts of a project file are wanted.
#[derive(Clone, Copy)]
pub(crate) enum Profiles<'a> {
    /// What always holds.
    None,
    /// That one over it.
    One(&'a str),
    /// Every one, each over those before it: to look at all that there is.
    All,
}

/// The nearest project file from the working directory upwards.
pub(crate) fn nearest() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    find(&std::env::current_dir().ok()?, home.as_deref())
}

/// How each of its files stands.
pub(crate) fn standings(project: &Project) -> Result<Vec<(PathBuf, Standing)>, Failure> {
    let allowed = Allowed::of_user()?;
    let files = project.files().iter();
    files.map(|file| Ok((file.path.clone(), allowed.standing(file)?))).collect()
}

impl Project {
    /// Reads a project file and what it names. Nothing of it is believed yet:
    /// see [`require_allowed`].
    pub(crate) fn load(path: &Path, profiles: Profiles<'_>) -> Result<Self, Failure> {
        let file = read(path)?;
        let source = Source::new(&file.path, &file.bytes);
        let Document { base, profiles: mut named } = schema::parse(&source, &file.bytes)?;
        let names: Vec<String> = named.keys().cloned().collect();
        let mut chosen = vec![base];
        match profiles {
            Profiles::None => {}
            Profiles::All => chosen.extend(named.into_values()),
            Profiles::One(name) => match named.remove(name) {
                Some(layer) => chosen.push(layer),
                None => return Err(no_profile(path, name, &names)),
            },
        }
        let directory = file.path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut project = Self { files: vec![file], layers: Vec::new(), profiles: names };
        for layer in chosen {
            project.take(layer, &directory)?;
        }
        Ok(project)
    }

    /// Every file that was read, the project file first.
    pub(crate) fn files(&self) -> &[ReadFile] {
        &self.files
    }

    /// The names of all its profiles.
    pub(crate) fn profiles(&self) -> &[String] {
        &self.profiles
    }

    /// Takes the variables out, in layers, lowest first.
    pub(crate) fn take_layers(&mut self) -> Vec<Vec<Item>> {
        std::mem::take(&mut self.layers)
    }

    fn take(&mut self, layer: Layer, directory: &Path) -> Result<(), Failure> {
        for named in layer.dotenv {
            let path = directory.join(&named.path);
            if named.optional && is_missing(&path) {
                continue;
            }
            let file = read(&path)?;
            self.layers.push(dotenv::parse(&file.path, &file.bytes)?);
            self.used(file);
        }
        let mut items = layer.items;
        for named in layer.templates {
            let file = read(&directory.join(&named.path))?;
            let text = Text::parse(&file.bytes, Others::Kept, |_| false)
                .map_err(|error| Source::new(&file.path, &file.bytes).fault(error.at, &error))?;
            let origin = Origin::Template(file.path.clone());
            items.push(Item { name: named.name, mode: Mode::File, text, origin });
            self.used(file);
        }
        self.layers.push(items);
        Ok(())
    }

    fn used(&mut self, file: ReadFile) {
        if !self.files.iter().any(|other| other.path == file.path) {
            self.files.push(file);
        }
    }
}

/// Not there; one that only cannot be looked at is an error when it is read.
fn is_missing(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let found = path.symlink_metadata();
    found.is_err_and(|error| matches!(error.kind(), NotFound | NotADirectory))
}

fn no_profile(path: &Path, name: &str, names: &[String]) -> Failure {
    let failure = Failure::usage(format!("{} has no profile {name:?}", path.display()));
    match near(name, names.iter().map(String::as_str)) {
        Some(near) => failure.advise(format!("did you mean {near}?")),
        None if names.is_empty() => failure.advise("it has none"),
        None => failure.advise(format!("it has: {}", names.join(", "))),
    }
}
