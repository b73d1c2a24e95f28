//! `jsi env`: a project's variables for the shell that asks, until it ends.

mod fish;
mod posix;
mod quote;
mod shell;

use crate::failure::Failure;
use crate::obtain::{Obtained, Terms, obtain};
use crate::output;
use crate::plan::{Gathered, Mode, Plan, Sources, scrub};
use crate::project::require_allowed;
use crate::session;
use jsi_client::v1::Delivery;
use shell::Shell;
use std::io::IsTerminal;
use zeroize::Zeroizing;

#[derive(clap::Args)]
#[command(after_help = "\
For bash, zsh and sh:  eval \"$(jsi env)\"            and  eval \"$(jsi env --unset)\"
For fish:              jsi env | source             and  jsi env --unset | source
The leases are the shell's: they end when it does, however it does, and by
--unset, which also puts earlier values back. What each variable is comes from
jsi.toml and from flags, as for jsi exec; every process of the shell can read
them, so prefer jsi exec for a single command.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    sources: Sources,
    /// The shell that will read it: sh, bash, zsh or fish [default: the one that asks]
    #[arg(long, value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Option<Shell>,
    /// Print what undoes it: earlier values come back, the leases are given up
    #[arg(long)]
    unset: bool,
    /// Print even where standard output is a terminal
    #[arg(long)]
    show: bool,
    /// Print even where standard output is a regular file
    #[arg(long)]
    allow_file: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

/// What a shell is told.
struct Script<'a> {
    /// Names and values.
    variables: Vec<(&'a str, Zeroizing<Vec<u8>>)>,
    /// Leases that this call brought about.
    leases: Vec<&'a str>,
    /// This very program, for the shell to call again.
    jsi: Vec<u8>,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let printed = printed(&arguments);
    if let Err(failure) = &printed {
        // `eval "$(…)"` forgets the exit code of what it reads, but ends with
        // that of the last thing that it runs.
        if !std::io::stdout().is_terminal() && !output::stdout_is_regular_file() {
            let code = failure.exit_code();
            output::to_stdout(format!("sh -c 'exit {code}'\n").as_bytes())?;
        }
    }
    printed
}

fn printed(arguments: &Arguments) -> Result<(), Failure> {
    let shell = match arguments.shell {
        Some(shell) => shell,
        None => Shell::that_asks()?,
    };
    if arguments.unset {
        let undo = if shell == Shell::Fish { fish::UNDO } else { posix::UNDO };
        return output::to_stdout(undo.as_bytes());
    }
    let into_file = output::stdout_is_regular_file();
    if into_file && !arguments.allow_file {
        return Err(Failure::usage(
            "standard output is a regular file: the secrets would stay there",
        )
        .advise("say --allow-file if that is meant")
        .advise("or let a command have them: jsi exec -- COMMAND"));
    }
    if std::io::stdout().is_terminal() && !arguments.show {
        return Err(Failure::usage("standard output is a terminal: the secrets would be shown")
            .advise(format!("let your shell read it: {}", shell.reads_it()))
            .advise("or say --show; what it would be, without values: jsi project show"));
    }
    let Gathered { plan, project } = arguments.sources.gather(Vec::new(), false)?;
    if let Some(project) = &project {
        require_allowed(project, &plan)?;
    }
    let plan = for_a_shell(plan)?;
    let terms = Terms {
        note: arguments.note.clone(),
        delivery: into_file.then_some(Delivery::File),
        ..Terms::default()
    };
    if plan.wants().next().is_none() {
        return print(shell, &plan, &Obtained::default());
    }
    session::block_on(async {
        let agent = session::agent().await?;
        let obtained = obtain(&agent, &plan, &terms).await?;
        session::hide();
        let printed = print(shell, &plan, &obtained);
        if printed.is_err() {
            obtained.give_back(&agent).await; // nobody has read it
        }
        printed
    })
}

/// The variables of a plan. What needs a descriptor only a command can have.
fn for_a_shell(plan: Plan) -> Result<Plan, Failure> {
    let (variables, others) = plan.split(|item| item.mode == Mode::Environment);
    for item in others.items() {
        let (name, mode) = (&item.name, item.mode.word());
        output::note(&format!(
            "note: {name} is a {mode}, which jsi exec gives and a shell cannot have"
        ));
    }
    for item in variables.items() {
        if let Some(reason) = scrub::reason_in_a_shell(&item.name) {
            return Err(Failure::new(format!(
                "{}: {} cannot be set in a shell: {reason}",
                item.origin, item.name
            ))
            .advise("a command can have it: jsi exec -- COMMAND"));
        }
    }
    if variables.items().is_empty() {
        return Err(Failure::usage("no variable is asked for")
            .advise("name some: jsi env -e PGPASSWORD=db/orders#password")
            .advise("or write a jsi.toml: jsi project --help"));
    }
    Ok(variables)
}

fn print(shell: Shell, plan: &Plan, obtained: &Obtained) -> Result<(), Failure> {
    let mut variables = Vec::new();
    for item in plan.items() {
        let value = obtained.value(item)?;
        item.fits_a_variable(&value)?;
        variables.push((item.name.as_str(), value));
    }
    // It stands in the script: nothing but what an ID is made of.
    let plain = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let leases = obtained.fresh().filter(plain).collect();
    let script = Script { variables, leases, jsi: shell::own_path() };
    let text =
        if shell == Shell::Fish { fish::script(&script) } else { posix::script(&script, shell) };
    output::to_stdout(&text)
}

impl Script<'_> {
    /// Room for everything that a dialect makes of it, so that no growth
    /// leaves copies behind.
    fn room(&self) -> usize {
        const LONGEST_ESCAPE: usize = 4;
        const ROUND_A_NAME: usize = 1024;
        const ROUND_IT: usize = 8 * 1024;
        let each = |(name, value): &(&str, Zeroizing<Vec<u8>>)| {
            LONGEST_ESCAPE * value.len() + 12 * name.len() + ROUND_A_NAME
        };
        let leases: usize = self.leases.iter().map(|id| id.len() + 1).sum();
        self.variables.iter().map(each).sum::<usize>() + leases + 32 * self.jsi.len() + ROUND_IT
    }
}
