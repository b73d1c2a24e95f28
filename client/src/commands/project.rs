//! `jsi project`: looks at project files, and allows them.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::plan::{of_project, table};
use crate::project::{self, Allowed, NAME, Profiles, Project, Standing, standings};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "\
A jsi.toml says what a project needs; jsi exec and jsi env find it upwards from
the working directory:
  dotenv = [\".env\"]
  [env]
  PGPASSWORD = \"jsi:db/orders#password\"
  DATABASE_URL = \"postgres://app:${jsi:db/orders#password|urlencode}@localhost/orders\"
It counts only once you have allowed it, and again after every change, since it
says where credentials go. Policy decides about each of them all the same.
  jsi project show && jsi project allow
  jsi exec -- make test")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show what a project file names, and whether it is allowed
    Show {
        /// The project file [default: the nearest jsi.toml, upwards from here]
        file: Option<PathBuf>,
        /// Also what it has under [profile.NAME]
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Allow a project file and the files that it names (dotenv, templates), as they are now
    Allow {
        /// The project file [default: the nearest jsi.toml, upwards from here]
        file: Option<PathBuf>,
    },
    /// Forget that a project file and the files that it names were allowed
    Deny {
        /// The project file [default: the nearest jsi.toml, upwards from here]
        file: Option<PathBuf>,
    },
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Show { file, profile, output } => show(file, profile.as_deref(), output),
        Action::Allow { file } => allow(file),
        Action::Deny { file } => deny(file),
    }
}

fn show(file: Option<PathBuf>, profile: Option<&str>, flag: OutputFlag) -> Result<(), Failure> {
    let profiles = profile.map_or(Profiles::None, Profiles::One);
    let mut project = Project::load(&chosen(file)?, profiles)?;
    let plan = of_project(&mut project)?;
    let files = standings(&project)?;
    let state = |standing: &Standing| match standing {
        Standing::Allowed => "allowed",
        Standing::Changed => "changed since it was allowed",
        Standing::New => "not allowed yet",
    };
    output::print(
        flag,
        || {
            json!({
                "files": files.iter().map(|(path, standing)| json!({
                    "path": path.display().to_string(),
                    "state": state(standing),
                    "allowed": *standing == Standing::Allowed,
                })).collect::<Vec<_>>(),
                "profiles": project.profiles(),
                "items": table::json(&plan, None),
            })
        },
        || {
            let rows: Vec<_> = files
                .iter()
                .map(|(path, standing)| vec![path.display().to_string(), state(standing).into()])
                .collect();
            let mut text = output::table(&["FILE", "STATE"], &rows);
            if !project.profiles().is_empty() {
                text.push_str(&format!("\nprofiles: {}\n", project.profiles().join(", ")));
            }
            if !plan.items().is_empty() {
                text.push('\n');
                text.push_str(&table::table(&plan, None));
            }
            text
        },
    )
}

fn allow(file: Option<PathBuf>) -> Result<(), Failure> {
    let mut project = Project::load(&chosen(file)?, Profiles::All)?;
    // What could not be followed is not allowed either.
    of_project(&mut project)?;
    let allowed = Allowed::of_user()?;
    for file in project.files() {
        let known = allowed.standing(file)? == Standing::Allowed;
        allowed.allow(file)?;
        let state = if known { "was allowed already" } else { "allowed" };
        output::note(&format!("{state}: {}", file.path.display()));
    }
    Ok(())
}

/// Also of a file that can no longer be read, or says nothing sensible.
fn deny(file: Option<PathBuf>) -> Result<(), Failure> {
    let path = project::placed(&chosen(file)?)?;
    let mut paths = vec![path.clone()];
    if let Ok(project) = Project::load(&path, Profiles::All) {
        paths.extend(project.files().iter().skip(1).map(|file| file.path.clone()));
    }
    let allowed = Allowed::of_user()?;
    let mut forgotten = 0;
    for path in &paths {
        forgotten += allowed.deny(path)?;
    }
    if forgotten == 0 {
        return Err(Failure::new(format!("{} was not allowed", path.display())).code(4));
    }
    output::note(&format!("forgotten: {}", path.display()));
    Ok(())
}

fn chosen(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    file.or_else(project::nearest).ok_or_else(|| {
        Failure::new(format!("there is no {NAME} here or above"))
            .code(4)
            .advise(format!("name a file, or write a {NAME}: jsi project --help"))
    })
}
