//! From the output of attestation to Cedar's request and entities, as the
//! schema lays them out. Facts that are absent or unreadable are left out.

use super::schema::uid;
use super::{Action, BindingKind, CredentialFacts, Question};
use crate::attestation::{Assurance, Namespaces, ProcessFacts, Via};
use crate::clock::WallTime;
use crate::mutants::{Check, on};
use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression as Value};
use std::collections::{HashMap, HashSet};

/// The requester of the one request: nothing keeps it.
const REQUESTER: &str = "request";

/// What Cedar is asked.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

type Record = HashMap<String, Value>;

/// Builds Cedar's request for one question.
pub(super) fn build(
    question: &Question<'_>,
    action: Action,
    facts: &CredentialFacts,
    actions: &[Entity],
) -> Result<Asked, String> {
    let requester = uid("Requester", REQUESTER)?;
    let scope = uid("Scope", REQUESTER)?;
    let mut entities: Vec<Entity> = actions.to_vec();
    entities.push(
        Entity::new(
            requester.clone(),
            process(&question.attestation.requester)?,
            parents(question)?,
        )
        .map_err(|error| error.to_string())?,
    );
    let resource = resource(action, facts, &mut entities)?;
    let tags = question.scope.iter().map(|(key, value)| (key.clone(), text(value)));
    entities.push(
        Entity::new_with_tags(scope.clone(), [], [], tags).map_err(|error| error.to_string())?,
    );
    let context =
        Context::from_pairs(context(question, scope)?).map_err(|error| error.to_string())?;
    // Built by construction as the schema says; a test has Cedar check it.
    Ok(Asked {
        request: Request::new(requester, uid("Action", action.name())?, resource, context, None)
            .map_err(|error| error.to_string())?,
        entities: Entities::from_entities(entities, None).map_err(|error| error.to_string())?,
    })
}

fn parents(question: &Question<'_>) -> Result<HashSet<EntityUid>, String> {
    let process = &question.attestation.requester;
    let mut parents = HashSet::from([uid("User", &process.uid.to_string())?]);
    for gid in process.groups.iter().chain([&process.gid]) {
        parents.insert(uid("Group", &gid.to_string())?);
    }
    if let Some(unit) = process.unit.known() {
        parents.insert(uid("Unit", unit)?);
    }
    Ok(parents)
}

fn resource(
    action: Action,
    facts: &CredentialFacts,
    entities: &mut Vec<Entity>,
) -> Result<EntityUid, String> {
    let Some(name) = facts.name.as_ref().filter(|_| action != Action::Administer) else {
        return uid("Agent", "jsi");
    };
    let mut parent: Option<EntityUid> = None;
    for path in name.parents() {
        let path = uid("Path", path)?;
        entities.push(Entity::new_no_attrs(path.clone(), parent.into_iter().collect()));
        parent = Some(path);
    }
    let credential = uid("Credential", name.as_str())?;
    let attributes = Record::from([
        ("name".to_owned(), text(name.as_str())),
        ("class".to_owned(), text(facts.class)),
        ("issuer".to_owned(), text(&facts.issuer)),
        ("owner".to_owned(), text(&facts.owner)),
        ("purpose".to_owned(), text(&facts.purpose)),
    ]);
    entities.push(
        Entity::new(credential.clone(), attributes, parent.into_iter().collect())
            .map_err(|error| error.to_string())?,
    );
    Ok(credential)
}

fn context(question: &Question<'_>, scope: EntityUid) -> Result<Record, String> {
    let attestation = question.attestation;
    let caller = &attestation.caller;
    let mut context = Record::from([
        ("caller".to_owned(), record(process(caller)?)?),
        ("via".to_owned(), text(attestation.via.name())),
        ("scope".to_owned(), Value::new_entity_uid(scope)),
        ("assurance".to_owned(), level(attestation.assurance)),
        ("assurance_with_jit".to_owned(), level(attestation.assurance_with_jit)),
        ("advisory".to_owned(), Value::new_bool(!attestation.advisory.is_empty())),
        ("delivery".to_owned(), text(question.delivery.name())),
        ("binding".to_owned(), text(question.binding.unwrap_or(BindingKind::Process).name())),
        ("session".to_owned(), number(caller.session)),
        (
            "admin_socket".to_owned(),
            Value::new_bool(question.admin_socket || !on(Check::AdminSocket)),
        ),
        ("time".to_owned(), record(time(question.now.wall))?),
    ]);
    if let Some(tty) = caller.tty.known() {
        context.insert("tty".to_owned(), text(tty));
    }
    // Whoever asks directly would name whatever a policy demands: a target counts
    // by the word of a client only.
    if let Some(target) =
        question.target.filter(|_| attestation.via != Via::Direct || !on(Check::TargetByClient))
    {
        let mut facts = Record::from([
            // Measured by the caller, so it weighs what the caller weighs.
            ("assurance".to_owned(), level(caller.assurance)),
            ("sealed".to_owned(), Value::new_bool(target.unsealed.is_none())),
        ]);
        facts.extend(target.known().map(|(name, value)| (name.to_owned(), text(value))));
        context.insert("target".to_owned(), record(facts)?);
    }
    Ok(context)
}

fn process(process: &ProcessFacts) -> Result<Record, String> {
    let mut facts = Record::from([
        ("pid".to_owned(), number(process.pid)),
        ("uid".to_owned(), number(process.uid)),
        ("gid".to_owned(), number(process.gid)),
        ("session".to_owned(), number(process.session)),
        ("assurance".to_owned(), level(process.assurance)),
        ("assurance_with_jit".to_owned(), level(process.assurance_with_jit)),
    ]);
    if let Some(exe) = process.exe.known() {
        facts.insert("digest".to_owned(), text(&exe.digest.hex()));
        facts.insert("exe_owner".to_owned(), number(exe.owner_uid));
        for (name, value) in [("exe", &exe.path), ("verity", &exe.verity), ("ima", &exe.ima)] {
            if let Some(value) = value {
                facts.insert(name.to_owned(), text(value));
            }
        }
    }
    let texts = [
        ("tty", &process.tty),
        ("unit", &process.unit),
        ("container", &process.container),
        ("cgroup", &process.cgroup),
    ];
    for (name, fact) in texts.into_iter().chain(process.around.texts()) {
        if let Some(value) = fact.known() {
            facts.insert(name.to_owned(), text(value));
        }
    }
    if let Some(seccomp) = process.around.seccomp.known() {
        facts.insert("seccomp".to_owned(), text(seccomp.name()));
    }
    if let Some(&set) = process.around.no_new_privs.known() {
        facts.insert("no_new_privs".to_owned(), Value::new_bool(set));
    }
    if let Some(all) = process.around.namespaces.known() {
        facts.insert("namespaces".to_owned(), record(namespaces(all))?);
    }
    Ok(facts)
}

fn namespaces(all: &Namespaces) -> Record {
    let number = |inode: u64| Value::new_long(i64::try_from(inode).unwrap_or(i64::MAX));
    let numbers = [("mnt", all.mnt), ("pid", all.pid), ("user", all.user), ("net", all.net)];
    let shared = [
        ("host_mnt", all.host_mnt),
        ("host_pid", all.host_pid),
        ("host_user", all.host_user),
        ("host_net", all.host_net),
    ];
    let numbers = numbers.map(|(name, inode)| (name.to_owned(), number(inode)));
    let shared = shared.map(|(name, is)| (name.to_owned(), Value::new_bool(is)));
    numbers.into_iter().chain(shared).collect()
}

/// The hour and weekday of a moment, in UTC.
fn time(now: WallTime) -> Record {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX);
    let days = seconds / 86_400;
    Record::from([
        ("epoch".to_owned(), Value::new_long(seconds)),
        ("hour".to_owned(), Value::new_long(seconds / 3_600 % 24)),
        ("minute".to_owned(), Value::new_long(seconds / 60 % 60)),
        // 1970-01-01 was a Thursday, the fourth day.
        ("weekday".to_owned(), Value::new_long((days + 3) % 7 + 1)),
    ])
}

fn record(fields: Record) -> Result<Value, String> {
    Value::new_record(fields).map_err(|error| error.to_string())
}

fn text(text: &str) -> Value {
    Value::new_string(text.to_owned())
}

fn number(number: u32) -> Value {
    Value::new_long(i64::from(number))
}

fn level(assurance: Assurance) -> Value {
    Value::new_long(i64::from(assurance.level()))
}
