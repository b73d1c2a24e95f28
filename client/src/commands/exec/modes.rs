//! Flags of modes that keep a supervisor beside the command.

use crate::plan::{Mode, Plan};
use crate::supervise::{Modes, OnChange};
use clap::ValueEnum;
use nix::sys::signal::Signal;

#[derive(clap::Args)]
pub(super) struct ModeFlags {
    /// Keep the leases alive while the command runs
    #[arg(long)]
    renew: bool,
    /// When a secret or its lease is replaced, fill the files in anew and send the command a
    /// signal, or start it again [default: HUP where it has files, else restart]
    #[arg(
        long,
        value_name = "SIGNAL|restart",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        value_parser = on_change
    )]
    watch: Option<Watch>,
    /// Replace the values in the command's output by their names, also in base64, URL-encoded,
    /// in JSON and in hex
    #[arg(long)]
    redact: bool,
    /// When a lease is revoked, end the command (TERM, then KILL) or leave it [default: end
    /// with --watch, else leave]
    #[arg(long, value_name = "end|leave", value_enum, hide_possible_values = true)]
    on_revoke: Option<OnRevoke>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// What fits the command.
    Auto,
    As(OnChange),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnRevoke {
    End,
    Leave,
}

fn on_change(text: &str) -> Result<Watch, &'static str> {
    match text {
        "auto" => Ok(Watch::Auto),
        "restart" => Ok(Watch::As(OnChange::Restart)),
        name => {
            let name = name.to_ascii_uppercase();
            let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
            let signal =
                name.parse::<Signal>().map_err(|_| "write a signal, as HUP, or restart")?;
            Ok(Watch::As(OnChange::Signal(signal)))
        }
    }
}

impl ModeFlags {
    /// What is asked for, for a command that is to have what the plan says.
    pub(super) fn modes(&self, plan: &Plan) -> Modes {
        let files = plan.items().iter().any(|item| item.mode == Mode::File);
        let watch = self.watch.map(|watch| match watch {
            Watch::As(change) => change,
            Watch::Auto if files => OnChange::Signal(Signal::SIGHUP),
            Watch::Auto => OnChange::Restart,
        });
        let end_on_revoke = match self.on_revoke {
            Some(choice) => choice == OnRevoke::End,
            None => watch.is_some(),
        };
        Modes { renew: self.renew, watch, redact: self.redact, end_on_revoke, files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_in_every_common_way() {
        let hup = Ok(Watch::As(OnChange::Signal(Signal::SIGHUP)));
        for name in ["HUP", "hup", "SIGHUP", "sighup"] {
            assert_eq!(on_change(name), hup, "{name}");
        }
        assert_eq!(on_change("restart"), Ok(Watch::As(OnChange::Restart)));
        assert!(on_change("RESTARTED").is_err() && on_change("").is_err());
    }
}
