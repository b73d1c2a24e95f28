//! From `*.cedar` files to a policy set that is valid as a whole, or to all
//! that is wrong with it.

use super::annotations::{self, OwnLimits};
use super::bounds;
use super::conditions::{self, Clause};
use super::facts::{self, Names};
use super::index::Index;
use super::schema::{BUILTIN, schema, uid};
use super::warnings;
use super::{Action, Policies};
use crate::config::{TrustError, read_trusted, trusted_entries};
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Authorizer, Effect, Entity, Policy, PolicyId, PolicySet, Schema,
    ValidationMode, Validator,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// The name under which the built-in policies are shown.
const BUILTIN_NAME: &str = "built in";

/// One policy, with what was worked out about it at load.
pub(super) struct Rule {
    pub(super) policy: Policy,
    /// Its `@id`, else `file:line`.
    pub(super) name: String,
    /// `file:line`.
    pub(super) place: String,
    pub(super) permit: bool,
    pub(super) builtin: bool,
    pub(super) limits: OwnLimits,
    /// Its JSON, for explanations and warnings.
    pub(super) json: serde_json::Value,
    /// Facts that it names.
    pub(super) facts: Names,
    /// See [`Rule::clauses`].
    clauses: OnceLock<Vec<Clause>>,
}

impl Rule {
    /// Its scope and conditions, part by part: worked out when it is first explained.
    pub(super) fn clauses(&self) -> &[Clause] {
        self.clauses.get_or_init(|| conditions::clauses(&self.policy, &self.json))
    }
}

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// That line of the file.
    pub source_line: String,
    /// How many characters are meant; at least 1.
    pub width: usize,
    /// What is wrong, and what helps.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, source_line, width, message } = self;
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "  {line} | {source_line}")?;
        write!(f, "  {margin} | {}{}", " ".repeat(column.saturating_sub(1)), "^".repeat(*width))
    }
}

/// Why a policy set is not taken. The one before it stays.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or the directory cannot be read, or others may write it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What is written is wrong: every fault of every file.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Fault>),
    /// A bug of this build.
    #[error("{0}")]
    Bug(String),
}

impl Policies {
    /// Loads every `*.cedar` of a directory. A directory that does not exist
    /// holds no policy: everything is denied, and a warning says so.
    ///
    /// # Errors
    /// Files that cannot be trusted, and all faults of all files.
    pub fn load(dir: &Path) -> Result<Self, LoadError> {
        match trusted_entries(dir, "cedar", euid()) {
            Ok(paths) => {
                let mut policies = Self::load_files(&paths)?;
                if policies.is_empty() {
                    policies.warnings.push(format!(
                        "{} holds no policy (*.cedar): every request is denied",
                        dir.display()
                    ));
                }
                Ok(policies)
            }
            Err(error) if error.is_missing() => {
                let mut policies = Self::from_texts(&[])?;
                policies.warnings.push(format!(
                    "the policy directory {} does not exist: every request is denied",
                    dir.display()
                ));
                Ok(policies)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Loads these files, as one set.
    ///
    /// # Errors
    /// As [`Policies::load`]; a missing file is one.
    pub fn load_files(paths: &[impl AsRef<Path>]) -> Result<Self, LoadError> {
        let mut texts = Vec::new();
        for path in paths {
            let path = path.as_ref();
            texts.push((path.display().to_string(), read_trusted(path, euid())?.0));
        }
        let texts: Vec<_> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        Self::from_texts(&texts)
    }

    /// Loads texts under the names of their files.
    ///
    /// # Errors
    /// All faults of all texts.
    pub fn from_texts(texts: &[(&str, &str)]) -> Result<Self, LoadError> {
        let schema = schema().map_err(LoadError::Bug)?;
        let validator = Validator::new(schema.clone());
        let mut loading =
            Loading { validator, rules: Vec::new(), faults: Vec::new(), warnings: Vec::new() };
        loading.text(BUILTIN_NAME, BUILTIN, true);
        for (name, text) in texts {
            loading.text(name, text, false);
        }
        loading.refuse_duplicates();
        if !loading.faults.is_empty() {
            return Err(LoadError::Invalid(loading.faults));
        }
        let rules: Vec<Arc<Rule>> =
            loading.rules.into_iter().map(|(rule, _)| Arc::new(rule)).collect();
        let mut warnings = loading.warnings;
        warnings
            .extend(rules.iter().filter(|rule| !rule.builtin).flat_map(|rule| warnings::of(rule)));
        Ok(Self {
            authorizer: Authorizer::new(),
            index: Index::build(&rules).map_err(LoadError::Bug)?,
            actions: actions(&schema).map_err(LoadError::Bug)?,
            by_id: rules.iter().map(|rule| (rule.policy.id().clone(), rule.clone())).collect(),
            rules,
            warnings,
        })
    }
}

fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Each action with its place in the groups, for Cedar's entities.
fn actions(schema: &Schema) -> Result<BTreeMap<&'static str, Vec<Entity>>, String> {
    let all = schema.action_entities().map_err(|error| error.to_string())?;
    let mut actions = BTreeMap::new();
    for action in Action::ALL {
        let id = uid("Action", action.name())?;
        let mut entities: Vec<Entity> = all.get(&id).cloned().into_iter().collect();
        let above = all.ancestors(&id).into_iter().flatten();
        entities.extend(above.filter_map(|uid| all.get(uid)).cloned());
        if entities.is_empty() {
            return Err(format!("the schema has no action {}", action.name()));
        }
        actions.insert(action.name(), entities);
    }
    Ok(actions)
}

/// Whether a rule's scope can match that action.
pub(super) fn covers(policy: &Policy, action: Action) -> bool {
    let matches = |uid: &cedar_policy::EntityUid| {
        let id = uid.id().unescaped();
        id == action.name() || (id == "use" && action.is_use())
    };
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::In(uids) => uids.iter().any(matches),
        ActionConstraint::Eq(uid) => matches(&uid),
    }
}

/// A set that is being loaded.
struct Loading {
    validator: Validator,
    /// With the fault that a second policy of the same name would be.
    rules: Vec<(Rule, Fault)>,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Loading {
    fn text(&mut self, file: &str, text: &str, builtin: bool) {
        if let Some((at, message)) = bounds::too_deep(text) {
            self.faults.push(Fault { message, ..place(file, text, at, 1) });
            return;
        }
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                let errors = errors.iter().map(DetailedError::from);
                self.faults.extend(errors.map(|error| fault(file, text, &error)));
                return;
            }
        };
        for template in set.templates() {
            let error = DetailedError {
                message: "a template (?principal, ?resource) is never linked; write the policy out"
                    .to_owned(),
                ..DetailedError::default()
            };
            let source = template.to_cedar();
            let at = text.find(&source).unwrap_or(0);
            self.faults.push(Fault { message: error.message, ..place(file, text, at, 1) });
        }
        let result = self.validator.validate(&set, ValidationMode::Strict);
        for error in result.validation_errors() {
            let detailed = without_own_name(DetailedError::from(error), error.policy_id());
            self.faults.push(fault(file, text, &detailed));
        }
        for warning in result.validation_warnings() {
            let detailed = without_own_name(DetailedError::from(warning), warning.policy_id());
            let fault = fault(file, text, &detailed);
            self.warnings
                .push(format!("{}:{}:{}: {}", file, fault.line, fault.column, fault.message));
        }
        let mut cursor = 0;
        for policy in in_order(&set) {
            let source = policy.to_cedar().unwrap_or_default();
            let at = text[cursor..].find(&source).map_or(cursor, |at| cursor + at);
            cursor = at + if text[at..].starts_with(&source) { source.len() } else { 0 };
            self.policy(file, text, at, &policy, builtin);
        }
    }

    fn policy(&mut self, file: &str, text: &str, at: usize, policy: &Policy, builtin: bool) {
        let permit = policy.effect() == Effect::Permit;
        let here = place(file, text, at, 1);
        let (id, limits) = match annotations::read(permit, policy.annotations()) {
            Ok(read) => read,
            Err(refused) => {
                for (name, message) in refused {
                    let name = format!("@{name}");
                    let at = text[at..].find(&name).map_or(at, |offset| at + offset);
                    let width = name.chars().count();
                    self.faults.push(Fault { message, ..place(file, text, at, width) });
                }
                return;
            }
        };
        let place = format!("{file}:{}", here.line);
        let name = id.unwrap_or_else(|| place.clone());
        let json = match policy.to_json() {
            Ok(json) => json,
            Err(error) => {
                self.faults.push(Fault { message: error.to_string(), ..here });
                return;
            }
        };
        let facts = facts::named(&json);
        // Unique whatever its @id: two on one line have different columns.
        let unique = format!("{place}:{}", here.column);
        let policy = policy.new_id(PolicyId::new(unique));
        let clauses = OnceLock::new();
        let rule = Rule { policy, name, place, permit, builtin, limits, json, facts, clauses };
        self.rules.push((rule, here));
    }

    fn refuse_duplicates(&mut self) {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (rule, here) in &self.rules {
            if rule.name == rule.place {
                continue;
            }
            match seen.get(rule.name.as_str()) {
                Some(first) => self.faults.push(Fault {
                    message: format!("@id({:?}) is taken: the policy at {first} has it", rule.name),
                    ..here.clone()
                }),
                None => {
                    seen.insert(&rule.name, &rule.place);
                }
            }
        }
    }
}

/// A file's policies as they stand in it (Cedar numbers them `policy0`, `policy1`, …).
fn in_order(set: &PolicySet) -> Vec<Policy> {
    let mut policies: Vec<Policy> = set.policies().cloned().collect();
    let number = |policy: &Policy| {
        let id = policy.id().to_string();
        id.trim_start_matches("policy").parse::<usize>().unwrap_or(usize::MAX)
    };
    policies.sort_by_key(number);
    policies
}

/// Cedar puts its own name of the policy in front; the place says it better.
fn without_own_name(mut error: DetailedError, id: &PolicyId) -> DetailedError {
    let own = format!("for policy `{id}`, ");
    error.message = error.message.replace(&own, "");
    error.help = error.help.map(|help| help.replace(&own, ""));
    error
}

fn fault(file: &str, text: &str, error: &DetailedError) -> Fault {
    let span = error.source_locations.first().map(|label| label.loc);
    let (start, end) = span.map_or((0, 1), |span| (span.start, span.end));
    let mut message = error.message.clone();
    if let Some(label) = error.source_locations.first().and_then(|label| label.label.as_deref())
        && !message.contains(label)
    {
        message.push_str(&format!(": {label}"));
    }
    if let Some(help) = &error.help {
        message.push_str(&format!(" ({help})"));
    }
    let width =
        text.get(start..end).map_or(1, |meant| meant.lines().next().unwrap_or("").chars().count());
    Fault { message, ..place(file, text, start, width) }
}

fn place(file: &str, text: &str, at: usize, width: usize) -> Fault {
    let mut at = at.min(text.len());
    // An error at the end of the text is shown behind its last word.
    if at == text.len() {
        at = text.trim_end().len();
    }
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    Fault {
        file: file.to_owned(),
        line,
        column: before[start..].chars().count() + 1,
        source_line: text.lines().nth(line - 1).unwrap_or_default().to_owned(),
        width: width.max(1),
        message: String::new(),
    }
}
