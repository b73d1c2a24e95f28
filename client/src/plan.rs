//! What a command is to have, before anything is asked for.
//!
//! The way of `jsi exec` has three steps with plain types between them:
//!
//! 1. **plan**: a project file ([`crate::project`]), dotenv files, variables of
//!    the caller and flags become a [`Plan`], layer over layer ([`Sources`]): a
//!    list of [`Item`]s, each a name, a [`Text`] and a [`Mode`]. No agent is
//!    needed and no secret is there.
//! 2. **obtain** ([`crate::obtain`]): one lease for each credential, mode,
//!    scope and TTL; what was granted is given back where a later one fails.
//! 3. **deliver** (`commands/exec/deliver.rs`): the items' values, put together
//!    by [`crate::obtain::Obtained::value`], become variables and descriptors.
//!
//! Then `jsi exec` becomes the command. A new way of delivery is a new
//! [`Mode`], an arm in `obtain::delivery` and one in `deliver::prepare`; a
//! section of its own in project files is a line in `project::schema`; flags of
//! its own go to [`Sources::gather`] as further items.

pub(crate) mod dotenv;
mod environment;
mod filter;
pub(crate) mod scrub;
mod sources;
pub(crate) mod table;
mod text;

use crate::failure::Failure;
pub(crate) use filter::Filter;
use jsi_client::Reference;
pub(crate) use sources::{Assignment, Gathered, Sources, assignment, of_project, scope};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub(crate) use table::{Verdict, Verdicts};
pub(crate) use text::{Others, Part, Text};

/// Longest string that execve takes, in bytes: MAX_ARG_STRLEN of execve(2), 32
/// pages, with the name, `=` and the zero byte behind it.
const LONGEST_STRING: usize = 128 * 1024;

/// Everything that a command is to have. Names are unique.
#[derive(Default)]
pub(crate) struct Plan {
    items: Vec<Item>,
}

/// One variable, and how its value comes about.
pub(crate) struct Item {
    /// The variable's name.
    pub(crate) name: String,
    /// How the text reaches the command.
    pub(crate) mode: Mode,
    /// What it is made of.
    pub(crate) text: Text,
    /// Who named it.
    pub(crate) origin: Origin,
}

/// How a text reaches the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// As the variable's value.
    Environment,
    /// As a sealed memory file; the variable holds its path.
    Descriptor,
    /// As a file with a name; the variable holds its path.
    File,
}

/// Where an item was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line, by that flag.
    Flag(&'static str),
    /// In the environment of the caller.
    Environment,
    /// In a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: usize,
    },
    /// On the command line; the text is that of the file.
    Template(PathBuf),
}

/// One field of a credential, as an item asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    /// The credential and its field.
    pub(crate) reference: Reference,
    /// What the value goes through, in that order.
    pub(crate) filters: Vec<Filter>,
    /// How long; `None`: the credential's default.
    pub(crate) ttl: Option<Duration>,
    /// The narrowing; keys are the issuer's.
    pub(crate) scope: BTreeMap<String, String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment => f.write_str("the environment"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Template(path) => write!(f, "the template {}", path.display()),
        }
    }
}

impl Plan {
    /// Lays items over those of the same names. Names are unique among them.
    pub(crate) fn lay(&mut self, layer: Vec<Item>) {
        let below = self.items.iter().enumerate();
        let below: HashMap<String, usize> =
            below.map(|(at, item)| (item.name.clone(), at)).collect();
        for item in layer {
            match below.get(&item.name).and_then(|at| self.items.get_mut(*at)) {
                Some(below) => *below = item,
                None => self.items.push(item),
            }
        }
    }

    /// Those that are so, and the others.
    pub(crate) fn split(self, so: impl Fn(&Item) -> bool) -> (Self, Self) {
        let (items, others) = self.items.into_iter().partition(so);
        (Self { items }, Self { items: others })
    }

    /// The items, in the order in which they were named.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Every field that is asked for, with the mode of its item.
    pub(crate) fn wants(&self) -> impl Iterator<Item = (Mode, &Want)> {
        self.items.iter().flat_map(|item| item.text.wants().map(|want| (item.mode, want)))
    }

    /// Changes every field that is asked for.
    pub(crate) fn wants_mut(&mut self) -> impl Iterator<Item = &mut Want> {
        self.items.iter_mut().flat_map(|item| item.text.wants_mut())
    }
}

impl Item {
    /// Refuses what no variable can hold, before exec or a shell says less of it.
    pub(crate) fn fits_a_variable(&self, value: &[u8]) -> Result<(), Failure> {
        let name = &self.name;
        let fault = if value.contains(&0) {
            "has a zero byte, which no variable can hold"
        } else if name.len() + value.len() + 2 > LONGEST_STRING {
            "is longer than a variable can be (128 KiB)"
        } else {
            return Ok(());
        };
        Err(Failure::new(format!("the value of {name} ({}) {fault}", self.origin)).advise(format!(
            "a command can read it from a memory file: jsi exec --fd {name}=REF -- COMMAND"
        )))
    }
}

impl Mode {
    /// As tables name it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Environment => "variable",
            Self::Descriptor => "descriptor",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reference)?;
        self.filters.iter().try_for_each(|filter| write!(f, "|{}", filter.name()))
    }
}

impl Want {
    /// The field alone, on the credential's own terms.
    pub(crate) fn new(reference: Reference) -> Self {
        Self { reference, filters: Vec::new(), ttl: None, scope: BTreeMap::new() }
    }
}

/// Letters, digits and underscores, and no digit first.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
