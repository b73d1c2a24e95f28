//! `jsi completions`.

use crate::complete::SCRIPTS;
use crate::failure::Failure;
use crate::output;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(clap::Args)]
#[command(after_help = "\
It also completes the names of credentials that you may request, and your leases.
  source <(jsi completions bash)
  jsi completions zsh > ~/.zfunc/_jsi
  jsi completions fish > ~/.config/fish/completions/jsi.fish")]
pub(crate) struct Arguments {
    /// The shell: bash, zsh or fish
    #[arg(value_enum, hide_possible_values = true)]
    shell: Shell,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let name = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let script = SCRIPTS.iter().find(|(shell, _)| *shell == name);
    output::to_stdout(script.map(|(_, text)| text.as_bytes()).unwrap_or_default())
}
