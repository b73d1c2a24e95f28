//! Flags that say what a command is to have, and where else that stands.

use super::{Item, Mode, Origin, Others, Plan, Text, dotenv, environment, is_variable, scrub};
use crate::failure::Failure;
use crate::project::{self, Profiles, Project};
use jsi_client::{Reference, TtlError, parse_ttl};
use std::path::PathBuf;
use std::time::Duration;

/// Where the variables come from, lowest first: the project file, dotenv files,
/// the caller's own environment, flags.
#[derive(clap::Args)]
pub(crate) struct Sources {
    /// Put a field, or text with ${jsi:REF} in it, into a variable (exposed)
    #[arg(short = 'e', long = "env", value_name = "NAME=REF", value_parser = assignment)]
    env: Vec<Assignment>,
    /// Take the variables of a dotenv file, with ${jsi:REF} in their values
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Also resolve variables of this environment whose value is jsi:REF, or has ${jsi:REF} in it
    #[arg(long)]
    env_refs: bool,
    /// The project file [default: the nearest jsi.toml, upwards from here]
    #[arg(long, value_name = "FILE")]
    project: Option<PathBuf>,
    /// No project file
    #[arg(long, conflicts_with_all = ["project", "profile"])]
    no_project: bool,
    /// Also what the project file has under [profile.NAME]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// How long, at most: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// Narrow every credential; keys are the issuer's
    #[arg(long, value_name = "KEY=VALUE", value_parser = scope)]
    scope: Vec<(String, String)>,
}

/// A plan, and the project file that it follows in part.
pub(crate) struct Gathered {
    /// What the command is to have.
    pub(crate) plan: Plan,
    /// To be allowed before anything is asked for.
    pub(crate) project: Option<Project>,
}

/// `NAME=VALUE` as it was given, and known to be good.
#[derive(Clone)]
pub(crate) struct Assignment {
    name: String,
    value: String,
}

impl Sources {
    /// Puts the plan together. `others` are items of further flags; variables
    /// that let others' code in are refused unless `keep_env`, and in a project
    /// always.
    pub(crate) fn gather(&self, others: Vec<Item>, keep_env: bool) -> Result<Gathered, Failure> {
        let mut project = self.project()?;
        let mut plan = project.as_mut().map(of_project).transpose()?.unwrap_or_default();
        for path in &self.env_file {
            let file = project::read(path)?;
            let layer = dotenv::parse(path, &file.bytes)?;
            layer.iter().try_for_each(|item| of_a_file(item, keep_env))?;
            plan.lay(layer);
        }
        if self.env_refs {
            plan.lay(environment::items(std::env::vars_os())?);
        }
        plan.lay(self.flags(others, keep_env)?);
        for want in plan.wants_mut() {
            want.ttl = self.ttl.or(want.ttl);
            want.scope.extend(self.scope.iter().cloned());
        }
        Ok(Gathered { plan, project })
    }

    fn project(&self) -> Result<Option<Project>, Failure> {
        if self.no_project {
            return Ok(None);
        }
        let Some(path) = self.project.clone().or_else(project::nearest) else {
            return match &self.profile {
                None => Ok(None),
                Some(_) => Err(Failure::usage("--profile is given, and there is no project file")
                    .advise(format!("name one: --project FILE, or write a {}", project::NAME))),
            };
        };
        let profiles = self.profile.as_deref().map_or(Profiles::None, Profiles::One);
        Project::load(&path, profiles).map(Some)
    }

    fn flags(&self, others: Vec<Item>, keep_env: bool) -> Result<Vec<Item>, Failure> {
        let env = self.env.iter().map(|given| given.item(Mode::Environment, "--env"));
        let mut flags = Vec::<Item>::new();
        for item in env.chain(others.into_iter().map(Ok)) {
            let item = item?;
            let name = &item.name;
            if flags.iter().any(|other| other.name == *name) {
                return Err(Failure::usage(format!("{name} is given twice")));
            }
            if !keep_env && let Some(reason) = scrub::reason(name) {
                return Err(Failure::usage(format!("{name} is not set for a command: {reason}"))
                    .advise("say --keep-env if that is meant"));
            }
            flags.push(item);
        }
        Ok(flags)
    }
}

impl Assignment {
    /// The item that it stands for.
    pub(crate) fn item(&self, mode: Mode, flag: &'static str) -> Result<Item, Failure> {
        let text = text(&self.value).map_err(Failure::usage)?;
        Ok(Item { name: self.name.clone(), mode, text, origin: Origin::Flag(flag) })
    }
}

/// What a project names.
pub(crate) fn of_project(project: &mut Project) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    for layer in project.take_layers() {
        layer.iter().try_for_each(|item| of_a_file(item, false))?;
        plan.lay(layer);
    }
    Ok(plan)
}

/// For clap: `NAME=REF`, or `NAME=` and text with references in it.
pub(crate) fn assignment(given: &str) -> Result<Assignment, String> {
    let (name, value) = given.split_once('=').ok_or("write it as NAME=db/orders#password")?;
    if !is_variable(name) {
        return Err(format!("{name:?} is no name for a variable"));
    }
    text(value)?;
    Ok(Assignment { name: name.to_owned(), value: value.to_owned() })
}

/// For clap: `key=value`.
pub(crate) fn scope(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value"),
    }
}

fn ttl(text: &str) -> Result<Duration, TtlError> {
    parse_ttl(text)
}

/// `db/orders#password`, or text with `${jsi:…}` in it.
fn text(value: &str) -> Result<Text, String> {
    if value.contains("${") || value.starts_with("jsi:") {
        let text = Text::value(value.as_bytes(), Others::Refused, |_| false);
        return text.map_err(|error| error.to_string());
    }
    let reference: Result<Reference, _> = value.parse();
    Ok(Text::field(reference.map_err(|error| error.to_string())?))
}

/// What a file may not set. One that was named on the command line may, where
/// the command line says so.
fn of_a_file(item: &Item, keep_env: bool) -> Result<(), Failure> {
    let Item { name, origin, .. } = item;
    match scrub::reason(name).or_else(|| scrub::reason_in_a_file(name)) {
        Some(reason) if !keep_env => Err(Failure::new(format!(
            "{origin}: {name} is not set by a file: {reason}"
        ))
        .advise("take it out; where it is meant, set it where jsi is called, and say --keep-env")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_a_variable_and_a_reference_or_text_with_references() {
        for good in ["PGPASSWORD=db/orders#password", "A=jsi:a", "A=x${jsi:a|urlencode}y${jsi:a#b}"]
        {
            assert!(assignment(good).is_ok(), "{good}");
        }
        for bad in
            ["X", "=a", "1X=a", "X-Y=a", "X=", "X=A", "X=jsi:A", "X=${jsi:a", "X=${HOME}", "X=a b"]
        {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }
}
