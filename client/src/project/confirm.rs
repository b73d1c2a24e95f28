//! No project file is followed that its user has not read.

use super::{Allowed, Project, ReadFile, Standing};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::{output, terminal};

/// Goes on only where every file of the project is allowed as it is: a person
/// is asked, anybody else is told how to allow it.
pub(crate) fn require_allowed(project: &Project, plan: &Plan) -> Result<(), Failure> {
    let allowed = Allowed::of_user()?;
    let mut open: Vec<(&ReadFile, Standing)> = Vec::new();
    for file in project.files() {
        match allowed.standing(file)? {
            Standing::Allowed => {}
            standing => open.push((file, standing)),
        }
    }
    let Some((first, standing)) = open.first() else {
        return Ok(());
    };
    if terminal::present() && output::stderr_is_terminal() {
        output::note(&question(plan, &open));
        if matches!(terminal::ask("Allow? [y/N]")?.as_str(), "y" | "Y" | "yes") {
            return open.iter().try_for_each(|(file, _)| allowed.allow(file));
        }
    }
    let toml = project.files().first().map(|file| shell_word(&file.path.display().to_string()));
    let state = match standing {
        Standing::Changed => "was changed since you allowed it",
        _ => "is new here: nobody has allowed it yet",
    };
    Err(Failure::new(format!("{} {state}", first.path.display()))
        .code(3)
        .advise(format!("read it, then: jsi project allow {}", toml.unwrap_or_default()))
        .advise("or leave it out: --no-project"))
}

fn question(plan: &Plan, open: &[(&ReadFile, Standing)]) -> String {
    let mut text = String::new();
    for (file, standing) in open {
        let state = if *standing == Standing::Changed { "has changed" } else { "is new here" };
        text.push_str(&format!("{} {state}.\n", plain(&file.path.display().to_string())));
    }
    text.push_str("With it, the command would have:\n");
    for item in plan.items() {
        let wants: Vec<_> = item.text.wants().map(ToString::to_string).collect();
        let what = if wants.is_empty() { "(no credential)".into() } else { wants.join(", ") };
        text.push_str(&format!("  {}  {what}\n", item.name));
    }
    text.push_str(
        "Read the files before you allow them: text round a credential says where it goes.",
    );
    text
}

/// What others wrote must not move the cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if output::moves(c) { '\u{fffd}' } else { c }).collect()
}

/// For a line that a person will copy.
fn shell_word(text: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@%,=".contains(&b);
    if text.bytes().all(harmless) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
