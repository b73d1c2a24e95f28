//! Which policies can speak of a credential: worked out at load from the
//! resource in each policy's scope, so that a decision costs what its own
//! policies cost.

use super::load::Rule;
use cedar_policy::{Policy, PolicySet, ResourceConstraint};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The policies that can speak of one resource, with their Cedar set.
#[derive(Default)]
pub(super) struct Slice {
    pub(super) rules: Vec<Arc<Rule>>,
    /// Made when it is first asked: a thousand credentials and a thousand open
    /// policies would be a million of them.
    set: OnceLock<PolicySet>,
}

/// Slices, all laid out beforehand: for each credential and path that a policy
/// names, for the agent, and for everything else.
#[derive(Default)]
pub(super) struct Index {
    credentials: HashMap<String, Slice>,
    paths: HashMap<String, Slice>,
    agent: Slice,
    rest: Slice,
}

/// What a scope's resource narrows a policy to.
enum Reach {
    Everything,
    Credential(String),
    Path(String),
    Agent,
}

impl Index {
    /// Builds all slices.
    pub(super) fn build(rules: &[Arc<Rule>]) -> Self {
        let mut everywhere = Vec::new();
        let mut agent = Vec::new();
        let mut by_credential: HashMap<String, Vec<Arc<Rule>>> = HashMap::new();
        let mut by_path: HashMap<String, Vec<Arc<Rule>>> = HashMap::new();
        for rule in rules {
            match reach(&rule.policy) {
                Reach::Everything => everywhere.push(rule.clone()),
                Reach::Agent => agent.push(rule.clone()),
                Reach::Credential(name) => {
                    by_credential.entry(name).or_default().push(rule.clone())
                }
                Reach::Path(name) => by_path.entry(name).or_default().push(rule.clone()),
            }
        }
        // Own policies first, then those of the paths from the inside out, then the rest.
        let above = |name: &str, itself: bool| {
            let inner = itself.then_some(name);
            let outer = name.rmatch_indices('/').map(|(at, _)| &name[..at]);
            let paths = inner.into_iter().chain(outer).filter_map(|path| by_path.get(path));
            paths.flatten().chain(&everywhere).cloned().collect::<Vec<_>>()
        };
        let mut index = Self::default();
        for (name, own) in &by_credential {
            let all = own.iter().cloned().chain(above(name, false)).collect();
            index.credentials.insert(name.clone(), Slice::of(all));
        }
        for name in by_path.keys() {
            index.paths.insert(name.clone(), Slice::of(above(name, true)));
        }
        index.agent = Slice::of(agent.into_iter().chain(everywhere.iter().cloned()).collect());
        index.rest = Slice::of(everywhere);
        index
    }

    /// The policies that can speak of that credential.
    pub(super) fn credential(&self, name: &str) -> &Slice {
        if let Some(slice) = self.credentials.get(name) {
            return slice;
        }
        name.rmatch_indices('/')
            .find_map(|(at, _)| self.paths.get(&name[..at]))
            .unwrap_or(&self.rest)
    }

    /// The policies that can speak of the agent.
    pub(super) fn agent(&self) -> &Slice {
        &self.agent
    }
}

impl Slice {
    fn of(rules: Vec<Arc<Rule>>) -> Self {
        Self { rules, set: OnceLock::new() }
    }

    /// The rules, for Cedar.
    ///
    /// # Errors
    /// Two have the same name within Cedar: a bug, since each is named by its place.
    pub(super) fn set(&self) -> Result<&PolicySet, String> {
        if let Some(set) = self.set.get() {
            return Ok(set);
        }
        let made = PolicySet::from_policies(self.rules.iter().map(|rule| rule.policy.clone()))
            .map_err(|error| error.to_string())?;
        Ok(self.set.get_or_init(|| made))
    }
}

fn reach(policy: &Policy) -> Reach {
    let (ResourceConstraint::Eq(uid)
    | ResourceConstraint::In(uid)
    | ResourceConstraint::IsIn(_, uid)) = policy.resource_constraint()
    else {
        return Reach::Everything;
    };
    let name = uid.id().unescaped().to_owned();
    match uid.type_name().to_string().as_str() {
        "Credential" => Reach::Credential(name),
        "Path" => Reach::Path(name),
        "Agent" => Reach::Agent,
        // The schema has no other resource; what is not understood is everywhere.
        _ => Reach::Everything,
    }
}
