//! From `*.cedar` files to a policy set that is valid as a whole, or to all
//! that is wrong with it.

use super::annotations::{self, OwnLimits};
use super::bounds;
use super::conditions::{self, Clause};
use super::facts::{self, Names};
use super::fault::{Fault, Source};
use super::index::Index;
use super::lints::{self, Lint};
use super::schema::{BUILTIN, schema, uid};
use super::warnings;
use super::{Action, Policies};
use crate::config::{TrustError, near_miss, read_trusted, trusted_entries};
use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Authorizer, Effect, Entity, Policy, PolicyId, PolicySet, Schema,
    ValidationMode, Validator,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// How often a directory that changes is read.
const MAX_READINGS: usize = 4;
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
        let mut policies = match listed(dir) {
            Ok(paths) => Self::load_listed(dir, paths)?,
            Err(error) if error.is_missing() => {
                let mut policies = Self::from_texts(&[])?;
                let message = format!(
                    "the policy directory {} does not exist: every request is denied",
                    dir.display()
                );
                policies.warn(Fault::of_file(dir.display().to_string(), message));
                return Ok(policies);
            }
            Err(error) => return Err(error.into()),
        };
        if policies.is_empty() {
            let message =
                format!("{} holds no policy (*.cedar): every request is denied", dir.display());
            policies.warn(Fault::of_file(dir.display().to_string(), message));
        }
        Ok(policies)
    }

    /// A directory that changes while it is read is read anew: what is in force
    /// is to be what it held at one time.
    fn load_listed(dir: &Path, mut paths: Vec<PathBuf>) -> Result<Self, LoadError> {
        for _ in 0..MAX_READINGS {
            let loaded = Self::load_files(&paths);
            let now = listed(dir)?;
            if now == paths {
                return loaded;
            }
            paths = now;
        }
        let message = format!("{} changes while it is read; try again", dir.display());
        Err(LoadError::Invalid(vec![Fault::of_file(dir.display().to_string(), message)]))
    }

    /// Loads these files, as one set; one that is named twice is read once.
    ///
    /// # Errors
    /// As [`Policies::load`]; a missing file is one.
    pub fn load_files(paths: &[impl AsRef<Path>]) -> Result<Self, LoadError> {
        let (mut texts, mut faults) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for path in paths.iter().map(AsRef::as_ref).filter(|path| seen.insert(path.to_owned())) {
            let name = path.display().to_string();
            match read_trusted(path, euid()) {
                Ok((text, _)) => texts.push((name, text)),
                Err(error) => faults.push(Fault::of_file(name, error.whole())),
            }
        }
        let texts: Vec<_> =
            texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        match Self::from_texts(&texts) {
            Ok(policies) if faults.is_empty() => Ok(policies),
            Ok(_) => Err(LoadError::Invalid(faults)),
            Err(LoadError::Invalid(more)) => {
                faults.extend(more);
                Err(LoadError::Invalid(faults))
            }
            Err(bug) => Err(bug),
        }
    }

    /// Loads texts under the names of their files.
    ///
    /// # Errors
    /// All faults of all texts.
    pub fn from_texts(texts: &[(&str, &str)]) -> Result<Self, LoadError> {
        let schema = schema().map_err(LoadError::Bug)?;
        let validator = Validator::new(schema.clone());
        let mut loading =
            Loading { validator, rules: Vec::new(), faults: Vec::new(), findings: Vec::new() };
        loading.text(BUILTIN_NAME, BUILTIN, true);
        for (name, text) in texts {
            loading.text(name, text, false);
        }
        loading.refuse_duplicates();
        if !loading.faults.is_empty() {
            return Err(LoadError::Invalid(loading.faults));
        }
        let (rules, places): (Vec<Arc<Rule>>, Vec<Fault>) =
            loading.rules.into_iter().map(|(rule, here)| (Arc::new(rule), here)).unzip();
        let mut findings = loading.findings;
        for (at, lint) in lints::across(&rules) {
            if let (Some(rule), Some(here)) = (rules.get(at), places.get(at)) {
                let policy = Some(rule.name.clone());
                let Lint { message, help, .. } = lint;
                findings.push(Fault { message, help, policy, ..here.clone() });
            }
        }
        Ok(Self {
            authorizer: Authorizer::new(),
            index: Index::build(&rules),
            actions: actions(&schema).map_err(LoadError::Bug)?,
            by_id: rules.iter().map(|rule| (rule.policy.id().clone(), rule.clone())).collect(),
            places,
            rules,
            warnings: findings.iter().map(Fault::in_one_line).collect(),
            findings,
        })
    }

    fn warn(&mut self, finding: Fault) {
        self.warnings.push(finding.in_one_line());
        self.findings.push(finding);
    }
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, TrustError> {
    trusted_entries(dir, "cedar", euid())
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
    findings: Vec<Fault>,
}

impl Loading {
    fn text(&mut self, file: &str, text: &str, builtin: bool) {
        let source = Source::new(file, text);
        if let Some((at, message)) = bounds::too_deep(text) {
            self.faults.push(Fault { message, ..source.place(at, 1) });
            return;
        }
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                let errors = errors.iter().map(DetailedError::from);
                self.faults.extend(errors.map(|error| source.cedar(&error)));
                return;
            }
        };
        for template in set.templates() {
            let message =
                "a template (?principal, ?resource) is never linked; write the policy out";
            let at = text.find(&template.to_cedar()).unwrap_or(0);
            self.faults.push(Fault { message: message.to_owned(), ..source.place(at, 1) });
        }
        let result = self.validator.validate(&set, ValidationMode::Strict);
        for error in result.validation_errors() {
            let detailed = without_own_name(DetailedError::from(error), error.policy_id());
            self.faults.push(source.cedar(&detailed));
        }
        for warning in result.validation_warnings() {
            let detailed = without_own_name(DetailedError::from(warning), warning.policy_id());
            self.findings.push(source.cedar(&detailed));
        }
        let mut cursor = 0;
        for policy in in_order(&set) {
            let own = policy.to_cedar().unwrap_or_default();
            let at = text[cursor..].find(&own).map_or(cursor, |at| cursor + at);
            cursor = at + if text[at..].starts_with(&own) { own.len() } else { 0 };
            self.policy(&source, at..cursor, &policy, builtin);
        }
    }

    /// One policy, which stands there in the text.
    fn policy(&mut self, source: &Source<'_>, at: Range<usize>, policy: &Policy, builtin: bool) {
        let permit = policy.effect() == Effect::Permit;
        let here = source.place(at.start, 1);
        let (id, limits) = match annotations::read(permit, policy.annotations()) {
            Ok(read) => read,
            Err(refused) => {
                for (name, message) in refused {
                    let place = within(source, &at, &format!("@{name}"));
                    self.faults.push(Fault { message, ..place });
                }
                return;
            }
        };
        let place = format!("{}:{}", source.file, here.line);
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
        if !builtin {
            for Lint { message, help, at: part } in
                warnings::of(&rule).into_iter().chain(lints::of(&rule))
            {
                let place = within(source, &at, part.as_deref().unwrap_or(""));
                let policy = Some(rule.name.clone());
                self.findings.push(Fault { message, help, policy, ..place });
            }
        }
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

/// A part of the policy that stands there, or its beginning.
fn within(source: &Source<'_>, at: &Range<usize>, part: &str) -> Fault {
    let own = source.text.get(at.start..).unwrap_or_default();
    let own = own.get(..at.len()).unwrap_or(own);
    match own.find(part).filter(|_| !part.is_empty()) {
        Some(offset) => source.place(at.start + offset, part.chars().count()),
        None => source.place(at.start, 1),
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
    // Where Cedar says which action was meant, its answer varies from run to run.
    if let Some(meant) = meant_action(&error.message) {
        error.help = Some(meant);
    }
    error
}

/// Which action was probably meant.
fn meant_action(message: &str) -> Option<String> {
    let written = message.strip_prefix("unrecognized action `Action::\"")?.split('"').next()?;
    let known = Action::ALL.into_iter().map(Action::name).chain(["use"]);
    near_miss(written, known).map(|near| format!("did you mean `Action::\"{near}\"`?"))
}
