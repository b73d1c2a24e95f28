//! The file of golden decisions, as it is written. Unknown keys are errors.

use crate::attestation::{Assurance, Digest, Namespaces, Seccomp, Via};
use crate::clock::WallTime;
use crate::config::{ConfigError, error_at, near_miss, parse_duration, read_toml};
use crate::names::CredentialName;
use crate::policy::{
    Action, BindingKind, CredentialFacts, Delivery, Supposed, SupposedProcess, Target,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;

/// When every case happens that says nothing: Monday 2026-01-05, 12:00 UTC.
pub(super) const NOON: WallTime = WallTime(1_767_614_400_000);
/// Cases of one file.
const MAX_CASES: usize = 10_000;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTests {
    /// Files or one directory, from this file's own directory on.
    #[serde(default)]
    pub(super) policies: Vec<PathBuf>,
    #[serde(default)]
    credentials: BTreeMap<CredentialName, RawCredential>,
    #[serde(default)]
    defaults: RawFacts,
    #[serde(default)]
    case: Vec<RawCase>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCredential {
    class: Option<Spanned<String>>,
    issuer: Option<String>,
    owner: Option<String>,
    purpose: Option<String>,
    default_ttl: Option<Spanned<String>>,
    max_ttl: Option<Spanned<String>>,
}

/// Declares the facts of a case once: for `[defaults]` and for each `[[case]]`.
macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// What a case supposes.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct RawFacts { $($(#[$doc])* $name: Option<$type>,)* }

        /// One case: a name, what is supposed, and what is expected.
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct RawCase {
            name: Spanned<String>,
            expect: Option<Spanned<String>>,
            limits: Option<RawLimits>,
            by: Option<Vec<String>>,
            because: Option<String>,
            $(#[serde(default)] $name: Option<$type>,)*
        }

        impl RawCase {
            /// Its own facts, and the defaults where it says nothing.
            fn facts(&self, defaults: &RawFacts) -> RawFacts {
                RawFacts { $($name: self.$name.clone().or_else(|| defaults.$name.clone()),)* }
            }
        }
    };
}

facts! {
    credential: Spanned<String>,
    action: Spanned<String>,
    scope: BTreeMap<String, String>,
    delivery: Spanned<String>,
    binding: Spanned<String>,
    ttl: Spanned<String>,
    at: Spanned<String>,
    admin_socket: bool,
    advisory: bool,
    via: Spanned<String>,
    target: String,
    target_digest: Spanned<String>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    exe: String,
    digest: Spanned<String>,
    verity: String,
    ima: String,
    exe_owner: u32,
    tty: String,
    session: u32,
    unit: String,
    container: String,
    cgroup: String,
    invocation: String,
    container_runtime: String,
    pod: String,
    lsm: String,
    seccomp: Spanned<String>,
    no_new_privs: bool,
    host_namespaces: Spanned<BTreeSet<String>>,
    assurance: Spanned<u8>,
    assurance_with_jit: Spanned<u8>,
    unreadable: Spanned<BTreeSet<String>>,
    caller: RawProcess,
}

/// `caller = { … }`: where it is not the requester.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProcess {
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
    exe: Option<String>,
    digest: Option<Spanned<String>>,
    verity: Option<String>,
    ima: Option<String>,
    exe_owner: Option<u32>,
    tty: Option<String>,
    session: Option<u32>,
    unit: Option<String>,
    container: Option<String>,
    cgroup: Option<String>,
    invocation: Option<String>,
    container_runtime: Option<String>,
    pod: Option<String>,
    lsm: Option<String>,
    seccomp: Option<Spanned<String>>,
    no_new_privs: Option<bool>,
    host_namespaces: Option<Spanned<BTreeSet<String>>>,
    assurance: Option<Spanned<u8>>,
    assurance_with_jit: Option<Spanned<u8>>,
    unreadable: Option<Spanned<BTreeSet<String>>>,
}

/// `limits = { … }`: what is left out is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    max_ttl: Option<Spanned<String>>,
    default_ttl: Option<Spanned<String>>,
    max_uses: Option<u32>,
    bind: Option<Spanned<String>>,
    hold: Option<Spanned<String>>,
    approval: Option<Vec<String>>,
}

/// A file of cases, checked.
pub(super) struct Tests {
    pub(super) policies: Vec<PathBuf>,
    pub(super) cases: Vec<Case>,
}

/// One case.
pub(super) struct Case {
    pub(super) name: String,
    /// Its line, from 1.
    pub(super) line: usize,
    /// Where its name ends, for `--record`.
    pub(super) name_end: usize,
    pub(super) supposed: Supposed,
    pub(super) facts: CredentialFacts,
    pub(super) expected: Option<Expected>,
}

/// What is to come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) permit: bool,
    pub(super) max_ttl: Option<Duration>,
    pub(super) default_ttl: Option<Duration>,
    pub(super) max_uses: Option<u32>,
    pub(super) bind: Option<BindingKind>,
    pub(super) hold_none: Option<bool>,
    pub(super) approvals: Option<Vec<String>>,
    pub(super) by: Option<Vec<String>>,
    pub(super) because: Option<String>,
}

impl Tests {
    /// Reads a text of cases.
    pub(super) fn read(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: RawTests = read_toml(path, text)?;
        let place = Place { path, text, credentials: &raw.credentials };
        if raw.case.len() > MAX_CASES {
            return Err(place.error(0..0, format!("more than {MAX_CASES} cases; part the file")));
        }
        if raw.case.is_empty() {
            return Err(place.error(0..0, "there is no [[case]] in it".to_owned()));
        }
        let mut names = BTreeSet::new();
        let mut cases = Vec::new();
        for case in &raw.case {
            if !names.insert(case.name.get_ref().as_str()) {
                let message = format!("two cases are called {:?}", case.name.get_ref());
                return Err(place.error(case.name.span(), message));
            }
            cases.push(place.case(case, &raw.defaults)?);
        }
        let beside = path.parent().unwrap_or(Path::new(""));
        let policies = raw.policies.iter().map(|file| beside.join(file)).collect();
        Ok(Self { policies, cases })
    }
}

/// Where a case is being checked.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
    credentials: &'a BTreeMap<CredentialName, RawCredential>,
}

impl Place<'_> {
    fn error(&self, span: std::ops::Range<usize>, message: String) -> ConfigError {
        error_at(self.path, self.text, span, message)
    }

    fn at<T>(&self, place: &Spanned<T>, message: impl ToString) -> ConfigError {
        self.error(place.span(), message.to_string())
    }

    fn case(&self, case: &RawCase, defaults: &RawFacts) -> Result<Case, ConfigError> {
        let facts = case.facts(defaults);
        let span = case.name.span();
        Ok(Case {
            name: case.name.get_ref().clone(),
            line: self.text[..span.start].matches('\n').count() + 1,
            name_end: span.end,
            supposed: self.supposed(&facts)?,
            facts: self.credential(case, &facts)?,
            expected: self.expected(case)?,
        })
    }

    fn credential(&self, case: &RawCase, facts: &RawFacts) -> Result<CredentialFacts, ConfigError> {
        let Some(given) = &facts.credential else {
            let agents = facts.action.as_ref().is_some_and(|it| it.get_ref() == "administer");
            return if agents {
                Ok(CredentialFacts::agent())
            } else {
                Err(self.at(&case.name, "the case names no credential"))
            };
        };
        let name = CredentialName::new(given.get_ref()).map_err(|error| self.at(given, error))?;
        let raw = self.credentials.get(&name).cloned().unwrap_or_default();
        let mut facts = CredentialFacts::supposed(name);
        if let Some(class) = &raw.class {
            facts.class = match class.get_ref().as_str() {
                "static" => "static",
                "dynamic" => "dynamic",
                _ => return Err(self.at(class, "a class is \"static\" or \"dynamic\"")),
            };
        }
        for (to, from) in [
            (&mut facts.issuer, raw.issuer),
            (&mut facts.owner, raw.owner),
            (&mut facts.purpose, raw.purpose),
        ] {
            if let Some(from) = from {
                *to = from;
            }
        }
        if let Some(ttl) = &raw.max_ttl {
            facts.lifetimes.max_ttl = self.span(ttl)?;
            facts.lifetimes.default_ttl = facts.lifetimes.default_ttl.min(facts.lifetimes.max_ttl);
        }
        if let Some(ttl) = &raw.default_ttl {
            facts.lifetimes.default_ttl = self.span(ttl)?;
        }
        Ok(facts)
    }

    fn supposed(&self, facts: &RawFacts) -> Result<Supposed, ConfigError> {
        let caller = facts.caller.as_ref().map(|raw| self.process(raw)).transpose()?;
        Ok(Supposed {
            requester: self.process(&facts.process())?,
            caller,
            via: self.via(facts.via.as_ref())?,
            advisory: facts.advisory.unwrap_or(false),
            action: self
                .word(facts.action.as_ref(), Action::ALL, Action::name)?
                .unwrap_or(Action::Request),
            scope: facts.scope.clone().unwrap_or_default(),
            delivery: self
                .word(facts.delivery.as_ref(), Delivery::ALL, Delivery::name)?
                .unwrap_or(Delivery::Caller),
            binding: self.word(facts.binding.as_ref(), BindingKind::ALL, BindingKind::name)?,
            target: match &facts.target {
                None => None,
                Some(exe) => {
                    let digest = self.digest(facts.target_digest.as_ref())?;
                    let digest = digest.map_or_else(String::new, |digest| digest.hex());
                    Some(Target::measured(exe, &digest))
                }
            },
            admin_socket: facts.admin_socket.unwrap_or(false),
            ttl: facts.ttl.as_ref().map(|ttl| self.span(ttl)).transpose()?,
            at: match &facts.at {
                None => None,
                Some(at) => Some(moment(at.get_ref()).map_err(|why| self.at(at, why))?),
            },
        })
    }

    fn process(&self, raw: &RawProcess) -> Result<SupposedProcess, ConfigError> {
        const READ: [&str; 12] = SupposedProcess::MAY_BE_UNREADABLE;
        if let Some(unreadable) = &raw.unreadable
            && let Some(name) = unreadable.get_ref().iter().find(|it| !READ.contains(&it.as_str()))
        {
            let message = format!("{name:?} is none of {}", READ.join(", "));
            return Err(self.at(unreadable, message));
        }
        let uid = raw.uid.unwrap_or(1000);
        Ok(SupposedProcess {
            uid,
            gid: raw.gid.unwrap_or(uid),
            groups: raw.groups.clone().unwrap_or_default(),
            exe: raw.exe.clone(),
            digest: self.digest(raw.digest.as_ref())?,
            verity: raw.verity.clone(),
            ima: raw.ima.clone(),
            exe_owner: raw.exe_owner.unwrap_or(0),
            tty: raw.tty.clone(),
            session: raw.session.unwrap_or(1),
            unit: raw.unit.clone(),
            container: raw.container.clone(),
            cgroup: raw.cgroup.clone(),
            invocation: raw.invocation.clone(),
            container_runtime: raw.container_runtime.clone(),
            pod: raw.pod.clone(),
            lsm: raw.lsm.clone(),
            seccomp: self.word(raw.seccomp.as_ref(), Seccomp::ALL, Seccomp::name)?,
            no_new_privs: raw.no_new_privs,
            namespaces: raw
                .host_namespaces
                .as_ref()
                .map(|kinds| self.namespaces(kinds))
                .transpose()?,
            assurance: self.level(raw.assurance.as_ref())?,
            assurance_with_jit: self.level(raw.assurance_with_jit.as_ref())?,
            unreadable: raw.unreadable.as_ref().map(|it| it.get_ref().clone()).unwrap_or_default(),
        })
    }

    /// Those kinds are the host's, the others its own.
    fn namespaces(&self, kinds: &Spanned<BTreeSet<String>>) -> Result<Namespaces, ConfigError> {
        let names: Vec<&str> = kinds.get_ref().iter().map(String::as_str).collect();
        Namespaces::supposed(&names).map_err(|kind| {
            let all = Namespaces::KINDS.join(", ");
            self.at(kinds, format!("{kind:?} is none of {all}"))
        })
    }

    fn level(&self, given: Option<&Spanned<u8>>) -> Result<Option<Assurance>, ConfigError> {
        let level = |given: &Spanned<u8>| {
            Assurance::of_level(*given.get_ref()).ok_or_else(|| self.at(given, "a level is 0 to 4"))
        };
        given.map(level).transpose()
    }

    fn expected(&self, case: &RawCase) -> Result<Option<Expected>, ConfigError> {
        let Some(expect) = &case.expect else {
            let idle = case.limits.is_some() || case.by.is_some() || case.because.is_some();
            return if idle {
                Err(self.at(
                    &case.name,
                    "what is expected is not said: expect = \"permit\" or \"deny\"",
                ))
            } else {
                Ok(None)
            };
        };
        let permit = match expect.get_ref().as_str() {
            "permit" => true,
            "deny" => false,
            _ => return Err(self.at(expect, "expect is \"permit\" or \"deny\"")),
        };
        if !permit && case.limits.is_some() {
            return Err(self.at(expect, "a denial has no limits"));
        }
        if permit && case.because.is_some() {
            return Err(self.at(expect, "`because` is a part of a denial's reason"));
        }
        let limits = case.limits.clone().unwrap_or_default();
        let hold_none = match &limits.hold {
            None => None,
            Some(hold) => match hold.get_ref().as_str() {
                "none" => Some(true),
                "lease" => Some(false),
                _ => return Err(self.at(hold, "hold is \"none\" or \"lease\"")),
            },
        };
        Ok(Some(Expected {
            permit,
            max_ttl: limits.max_ttl.as_ref().map(|ttl| self.span(ttl)).transpose()?,
            default_ttl: limits.default_ttl.as_ref().map(|ttl| self.span(ttl)).transpose()?,
            max_uses: limits.max_uses,
            bind: self.word(limits.bind.as_ref(), BindingKind::ALL, BindingKind::name)?,
            hold_none,
            approvals: limits.approval,
            by: case.by.clone(),
            because: case.because.clone(),
        }))
    }

    fn via(&self, given: Option<&Spanned<String>>) -> Result<Option<Via>, ConfigError> {
        let all = [Via::Direct, Via::GenuineClient, Via::EnrolledClient];
        self.word(given, all, Via::name)
    }

    /// One of the words that there are.
    fn word<T: Copy, const N: usize>(
        &self,
        given: Option<&Spanned<String>>,
        all: [T; N],
        name: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = given else { return Ok(None) };
        let text = given.get_ref().as_str();
        if let Some(found) = all.into_iter().find(|one| name(*one) == text) {
            return Ok(Some(found));
        }
        let names: Vec<&str> = all.into_iter().map(name).collect();
        Err(self.at(
            given,
            match near_miss(text, names.iter().copied()) {
                Some(near) => format!("there is no {text:?}; did you mean {near:?}?"),
                None => format!("{text:?} is none of {}", names.join(", ")),
            },
        ))
    }

    fn span(&self, given: &Spanned<String>) -> Result<Duration, ConfigError> {
        parse_duration(given.get_ref()).map_err(|error| self.at(given, error))
    }

    fn digest(&self, given: Option<&Spanned<String>>) -> Result<Option<Digest>, ConfigError> {
        let Some(given) = given else { return Ok(None) };
        let digest = Digest::from_hex(given.get_ref());
        let wrong = "a SHA-256 has 64 hex digits, in lower case";
        digest.map(Some).ok_or_else(|| self.at(given, wrong))
    }
}

impl RawFacts {
    fn process(&self) -> RawProcess {
        let own = self.clone();
        RawProcess {
            uid: own.uid,
            gid: own.gid,
            groups: own.groups,
            exe: own.exe,
            digest: own.digest,
            verity: own.verity,
            ima: own.ima,
            exe_owner: own.exe_owner,
            tty: own.tty,
            session: own.session,
            unit: own.unit,
            container: own.container,
            cgroup: own.cgroup,
            invocation: own.invocation,
            container_runtime: own.container_runtime,
            pod: own.pod,
            lsm: own.lsm,
            seccomp: own.seccomp,
            no_new_privs: own.no_new_privs,
            host_namespaces: own.host_namespaces,
            assurance: own.assurance,
            assurance_with_jit: own.assurance_with_jit,
            unreadable: own.unreadable,
        }
    }
}

fn moment(text: &str) -> Result<WallTime, String> {
    let wrong = |_| format!("{text:?} is no time: write it as 2026-01-05T12:00:00Z");
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(wrong)?;
    let millis = at.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(millis).map(WallTime).map_err(|_| "it is before 1970".to_owned())
}
