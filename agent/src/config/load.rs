//! From the file to a checked configuration.

use super::checked::{Config, CredentialConfig, Lifetimes, Limits, Mode, RunAs};
use super::document::{Section, sections};
use super::environment::Environment;
use super::error::ConfigError;
use super::issuers::{self, IssuerConfig};
use super::raw::{RawAgent, RawCredential, RawFile, RawLimits, RawMode, Source, Span};
use super::trust::read_trusted;
use crate::names::{CredentialName, IssuerName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// The user of a host agent that names none.
const HOST_USER: &str = "jsi";
/// Distributions link it to the one that is installed.
const PINENTRY: &str = "/usr/bin/pinentry";
/// Not PATH: whoever starts the agent would choose the plugins.
const PLUGIN_DIRS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// Where packages put the client; root owns both places.
const GENUINE_CLIENTS: [&str; 2] = ["/usr/bin/jsi", "/usr/local/bin/jsi"];
/// SIGTERM's wait for revocations: below systemd's 90 seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest owner or purpose: they stand in tables and in the log.
const MAX_LABEL: usize = 200;
/// A request with its scope must fit into a message.
const MIN_MESSAGE_BYTES: u64 = 4_096;

/// Loads the configuration of this process; see [`load_in`].
///
/// # Errors
/// As [`load_in`].
pub fn load(path: Option<&Path>, mode: Option<Mode>) -> Result<Config, ConfigError> {
    load_in(path, mode, &Environment::current())
}

/// Loads `path`, else the default file of the mode, else built-in defaults.
///
/// Without a `mode` the file decides; where neither says, root with an
/// `/etc/jsi/agent.toml` and no other file named means a host agent, and
/// everything else a user agent.
///
/// # Errors
/// A named file that is missing; a file that others may write; a text that is
/// wrong, with file, line and column; accounts or directories that are missing.
pub fn load_in(
    path: Option<&Path>,
    mode: Option<Mode>,
    env: &Environment,
) -> Result<Config, ConfigError> {
    let (path, explicit, likely) = match (path, mode) {
        (Some(path), mode) => (Some(path.to_owned()), true, mode),
        (None, None) if env.euid == 0 && env.host_file.exists() => {
            (Some(env.host_file.clone()), false, Some(Mode::Host))
        }
        (None, mode) => (env.config_file(mode.unwrap_or(Mode::User)), false, mode),
    };
    let Some(path) = path else { return check(RawFile::default(), None, mode, likely, env) };
    match read_trusted(&path, env.euid) {
        Ok((text, owner)) => {
            let source = Source { path: &path, text: &text };
            check(source.parse()?, Some((source, owner)), mode, likely, env)
        }
        Err(error) if error.is_missing() && explicit => Err(ConfigError::Missing(path)),
        Err(error) if error.is_missing() => check(RawFile::default(), None, mode, likely, env),
        Err(error) => Err(error.into()),
    }
}

fn check(
    raw: RawFile,
    source: Option<(Source<'_>, u32)>,
    asked: Option<Mode>,
    likely: Option<Mode>,
    env: &Environment,
) -> Result<Config, ConfigError> {
    let said = raw.agent.mode.map(|mode| match mode {
        RawMode::Host => Mode::Host,
        RawMode::User => Mode::User,
    });
    if let (Some(said), Some(asked)) = (said, asked)
        && said != asked
    {
        return Err(ConfigError::Contradiction(format!(
            "{} says mode = \"{}\", but a {} agent was asked for",
            source.map_or_else(String::new, |(source, _)| source.path.display().to_string()),
            mode_name(said),
            mode_name(asked),
        )));
    }
    let mode = said.or(likely).unwrap_or(Mode::User);
    let place = Place { source: source.map(|(source, _)| source), env, mode };
    let lifetimes = place.lifetimes(
        raw.agent.default_ttl.as_ref(),
        raw.agent.max_ttl.as_ref(),
        Lifetimes::BUILT_IN,
    )?;
    let tables = |top| source.map_or_else(|| Ok(Vec::new()), |(source, _)| sections(source, top));
    let issuers = issuers::issuers(tables("issuers")?)?;
    let mut credentials = BTreeMap::new();
    for section in tables("credentials")? {
        let name = CredentialName::new(&section.name).map_err(|e| section.error(e.to_string()))?;
        credentials.insert(name, place.credential(section, &issuers, lifetimes)?);
    }
    let limits = place.limits(&raw.limits)?;
    let file_owner = source.map(|(_, owner)| owner);
    let config = place.agent(raw.agent, file_owner, lifetimes, credentials, limits)?;
    Ok(Config { issuers, ..config })
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Host => "host",
        Mode::User => "user",
    }
}

/// Where a configuration is being checked.
pub(super) struct Place<'a> {
    source: Option<Source<'a>>,
    pub(super) env: &'a Environment,
    mode: Mode,
}

impl Place<'_> {
    pub(super) fn error<T>(&self, at: &Spanned<T>, message: impl Into<String>) -> ConfigError {
        match self.source {
            Some(source) => source.error(at.span(), message),
            None => ConfigError::Contradiction(message.into()),
        }
    }

    fn agent(
        &self,
        raw: RawAgent,
        file_owner: Option<u32>,
        lifetimes: Lifetimes,
        credentials: BTreeMap<CredentialName, CredentialConfig>,
        limits: Limits,
    ) -> Result<Config, ConfigError> {
        let run_as = self.run_as(raw.user.as_ref())?;
        let pick =
            |given: Option<super::raw::AbsolutePath>, host: &str, user: Option<PathBuf>| match (
                given, self.mode,
            ) {
                (Some(path), _) => Ok(path.0),
                (None, Mode::Host) => Ok(PathBuf::from(host)),
                (None, Mode::User) => {
                    user.ok_or(ConfigError::NoDirectory { variable: "XDG_CONFIG_HOME" })
                }
            };
        let list = |given: Vec<super::raw::AbsolutePath>| -> Vec<PathBuf> {
            given.into_iter().map(|path| path.0).collect()
        };
        let env = self.env;
        let (sockets, state, data) = (env.socket_dir(), env.state_dir(), env.data_dir());
        let config = env.config_dir();
        let below = |dir: &Option<PathBuf>, name: &str| dir.as_ref().map(|dir| dir.join(name));
        Ok(Config {
            source: self.source.map(|source| source.path.to_owned()),
            mode: self.mode,
            dedicated_uid: self.dedicated_uid(run_as.as_ref(), raw.user.as_ref()),
            run_as,
            socket: pick(raw.socket, "/run/jsi/agent.sock", below(&sockets, "agent.sock"))?,
            admin_socket: pick(
                raw.admin_socket,
                "/run/jsi/admin.sock",
                below(&sockets, "admin.sock"),
            )?,
            admin_gid: self.admin_gid(raw.admin_group.as_ref())?,
            policy_dir: pick(raw.policy_dir, "/etc/jsi/policy.d", below(&config, "policy.d"))?,
            store_dir: pick(raw.store_dir, "/var/lib/jsi/store", below(&data, "store"))?,
            log_dir: pick(raw.log_dir, "/var/lib/jsi/log", below(&state, "log"))?,
            identity: pick(raw.identity, "/var/lib/jsi/identity", below(&config, "identity"))?,
            pinentry: raw.pinentry.map_or_else(|| PathBuf::from(PINENTRY), |path| path.0),
            plugin_dirs: raw
                .plugin_dirs
                .map_or_else(|| PLUGIN_DIRS.iter().map(PathBuf::from).collect(), list),
            lock_after_idle: raw.lock_after_idle.map(|span| span.0),
            genuine_clients: raw
                .genuine_clients
                .map_or_else(|| GENUINE_CLIENTS.iter().map(PathBuf::from).collect(), list),
            enrolled_clients: match (raw.enrolled_clients, self.mode) {
                (Some(given), _) => list(given),
                (None, Mode::User) => {
                    env.agent_exe.iter().map(|exe| exe.with_file_name("jsi")).collect()
                }
                (None, Mode::Host) => Vec::new(),
            },
            isolated_uids: self.isolated_uids(raw.isolated_uids.as_ref(), file_owner)?,
            enforced_labels: self.enforced_labels(raw.enforced_labels.as_ref(), file_owner)?,
            enforced_ima: self.enforced_ima(raw.enforced_ima.as_ref(), file_owner)?,
            listed_libraries: self.listed_libraries(raw.listed_libraries.as_ref(), file_owner)?,
            reflection: raw.reflection.unwrap_or(false),
            stop_timeout: raw.stop_timeout.map_or(STOP_TIMEOUT, |span| span.0),
            lifetimes,
            issuers: BTreeMap::new(),
            credentials,
            limits,
        })
    }

    fn run_as(&self, user: Option<&Spanned<String>>) -> Result<Option<RunAs>, ConfigError> {
        if self.mode == Mode::User || self.env.euid != 0 {
            return Ok(None);
        }
        let name = user.map_or(HOST_USER, |user| user.get_ref());
        let fail = |message: String| match user {
            Some(user) => self.error(user, message),
            None => ConfigError::Account(message),
        };
        let found = nix::unistd::User::from_name(name)
            .map_err(|error| fail(format!("cannot look up the user {name:?}: {error}")))?;
        let Some(found) = found else {
            return Err(fail(format!(
                "there is no user {name:?} for the host agent to run as; make it with: useradd --system --user-group --home-dir /var/lib/jsi --no-create-home --shell /usr/sbin/nologin {name}"
            )));
        };
        if found.uid.is_root() {
            return Err(fail(format!("the host agent does not run as root; {name:?} has uid 0")));
        }
        Ok(Some(RunAs { user: found.name, uid: found.uid.as_raw(), gid: found.gid.as_raw() }))
    }

    /// A host agent that is, or is about to become, the user that it is to run as.
    fn dedicated_uid(&self, run_as: Option<&RunAs>, user: Option<&Spanned<String>>) -> bool {
        let name = user.map_or(HOST_USER, |user| user.get_ref());
        let is_user = || {
            let found = nix::unistd::User::from_name(name).ok().flatten();
            found.is_some_and(|found| found.uid.as_raw() == self.env.euid && self.env.euid != 0)
        };
        self.mode == Mode::Host && (run_as.is_some() || is_user())
    }

    fn admin_gid(&self, group: Option<&Spanned<String>>) -> Result<Option<u32>, ConfigError> {
        let Some(group) = group else { return Ok(None) };
        let name = group.get_ref();
        let found = nix::unistd::Group::from_name(name).map_err(|error| {
            self.error(group, format!("cannot look up the group {name:?}: {error}"))
        })?;
        match found {
            Some(found) => Ok(Some(found.gid.as_raw())),
            None => Err(self.error(
                group,
                format!("there is no group {name:?}; make it with: groupadd --system {name}"),
            )),
        }
    }

    fn credential(
        &self,
        section: Section<'_>,
        issuers: &BTreeMap<IssuerName, IssuerConfig>,
        fallback: Lifetimes,
    ) -> Result<CredentialConfig, ConfigError> {
        let written = section.text("issuer").unwrap_or("store").to_owned();
        let issuer = IssuerName::new(&written).unwrap_or_else(|_| IssuerName::store());
        let settings_of = issuers.get(&issuer);
        if issuer.as_str() != written || (settings_of.is_none() && issuer != IssuerName::store()) {
            let known: Vec<_> = issuers.keys().map(IssuerName::as_str).collect();
            let known = ["store"].iter().chain(&known).copied().collect::<Vec<_>>().join(", ");
            let message = format!(
                "there is no issuer {written:?}; known: {known}; others are defined by [issuers.NAME]"
            );
            return Err(section.error_at("issuer", message));
        }
        let (own, rest) = section.split(RawCredential::KEYS);
        let settings = issuers::settings(&rest, settings_of)?;
        let raw: RawCredential = own.read()?;
        for (key, label) in [("owner", &raw.owner), ("purpose", &raw.purpose)] {
            let text = label.get_ref();
            if text.trim().is_empty() {
                return Err(self.error(label, format!("{key} is empty; every credential has one")));
            }
            if text.len() > MAX_LABEL || text.chars().any(char::is_control) {
                return Err(
                    self.error(label, format!("{key} is one line of at most {MAX_LABEL} bytes"))
                );
            }
        }
        Ok(CredentialConfig {
            settings,
            owner: raw.owner.into_inner(),
            purpose: raw.purpose.into_inner(),
            lifetimes: self.issued_lifetimes(
                raw.default_ttl.as_ref(),
                raw.max_ttl.as_ref(),
                fallback,
                settings_of.and_then(IssuerConfig::max_ttl).map(|most| (&issuer, most)),
            )?,
            issuer,
        })
    }

    /// The same, cut to what the issuer grants at most.
    fn issued_lifetimes(
        &self,
        default_ttl: Option<&Spanned<Span>>,
        max_ttl: Option<&Spanned<Span>>,
        fallback: Lifetimes,
        issuer: Option<(&IssuerName, Duration)>,
    ) -> Result<Lifetimes, ConfigError> {
        let Some((name, most)) = issuer else {
            return self.lifetimes(default_ttl, max_ttl, fallback);
        };
        if let Some(ttl) = max_ttl.filter(|ttl| ttl.get_ref().0 > most) {
            let most = super::duration::format_duration(most);
            let message = format!("max_ttl is longer than that of its issuer {name} ({most})");
            return Err(self.error(ttl, message));
        }
        let Lifetimes { default_ttl: default, max_ttl: max } = fallback;
        let fallback = Lifetimes { default_ttl: default.min(most), max_ttl: max.min(most) };
        self.lifetimes(default_ttl, max_ttl, fallback)
    }

    /// What is left out comes from `fallback`, made to fit what was said.
    fn lifetimes(
        &self,
        default_ttl: Option<&Spanned<Span>>,
        max_ttl: Option<&Spanned<Span>>,
        fallback: Lifetimes,
    ) -> Result<Lifetimes, ConfigError> {
        let read = |span: &Spanned<Span>| span.get_ref().0;
        if let (Some(default), Some(max)) = (default_ttl, max_ttl)
            && read(default) > read(max)
        {
            return Err(self.error(default, "default_ttl is longer than max_ttl"));
        }
        if let (Some(default), None) = (default_ttl, max_ttl)
            && read(default) > fallback.max_ttl
        {
            let most = super::duration::format_duration(fallback.max_ttl);
            let message =
                format!("default_ttl is longer than the max_ttl that holds here ({most})");
            return Err(self.error(default, message));
        }
        let max_ttl = max_ttl.map_or(fallback.max_ttl, read);
        Ok(Lifetimes {
            default_ttl: default_ttl.map_or(fallback.default_ttl.min(max_ttl), read),
            max_ttl,
        })
    }

    fn limits(&self, raw: &RawLimits) -> Result<Limits, ConfigError> {
        let built_in = Limits::default();
        let number = |given: &Option<Spanned<u32>>, fallback| {
            self.number(given.as_ref(), fallback, 1, u64::from(u32::MAX))
        };
        let span = |given: Option<Span>, fallback| given.map_or(fallback, |span| span.0);
        let most_secret = jsi_proto::MAX_SECRET as u64;
        Ok(Limits {
            connections: number(&raw.connections, built_in.connections)?,
            connections_per_uid: number(&raw.connections_per_uid, built_in.connections_per_uid)?,
            connects_per_second: number(&raw.connects_per_second, built_in.connects_per_second)?,
            requests_per_second: number(&raw.requests_per_second, built_in.requests_per_second)?,
            denials_logged_per_second: number(
                &raw.denials_logged_per_second,
                built_in.denials_logged_per_second,
            )?,
            leases: number(&raw.leases, built_in.leases)?,
            leases_per_uid: number(&raw.leases_per_uid, built_in.leases_per_uid)?,
            message_bytes: self.number(
                raw.message_bytes.as_ref(),
                built_in.message_bytes,
                MIN_MESSAGE_BYTES,
                u64::from(u32::MAX),
            )?,
            challenge_timeout: span(raw.challenge_timeout, built_in.challenge_timeout),
            write_timeout: span(raw.write_timeout, built_in.write_timeout),
            hash_bytes: self.number(raw.hash_bytes.as_ref(), built_in.hash_bytes, 1, u64::MAX)?,
            hash_timeout: span(raw.hash_timeout, built_in.hash_timeout),
            hashes_per_minute: number(&raw.hashes_per_minute, built_in.hashes_per_minute)?,
            secret_bytes: self.number(
                raw.secret_bytes.as_ref(),
                built_in.secret_bytes,
                1,
                most_secret,
            )?,
            segment_bytes: self.number(
                raw.segment_bytes.as_ref(),
                built_in.segment_bytes,
                MIN_MESSAGE_BYTES,
                u64::MAX,
            )?,
            longest_ttl: span(raw.longest_ttl, built_in.longest_ttl),
        })
    }

    fn number<T: Copy + TryInto<u64>>(
        &self,
        given: Option<&Spanned<T>>,
        fallback: T,
        least: u64,
        most: u64,
    ) -> Result<T, ConfigError> {
        let Some(given) = given else { return Ok(fallback) };
        let value: u64 = (*given.get_ref()).try_into().unwrap_or(u64::MAX);
        if value < least || value > most {
            return Err(self.error(given, format!("{value} is not within {least} and {most}")));
        }
        Ok(*given.get_ref())
    }
}
