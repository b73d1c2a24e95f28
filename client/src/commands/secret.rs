//! `jsi secret put|import|rotate|export|rm|ls`.

mod export;
mod import;
mod input;
mod rotate;

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, terminal, view};
use jsi_client::{NewSecret, credential_name, field_name};

#[derive(clap::Args)]
#[command(after_help = "\
For example:
  jsi secret put db/orders --owner dba --purpose 'orders database'
  jsi secret import .env --owner you --prefix app --dry-run
  jsi secret ls db/
  jsi secret rm db/orders")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Store a secret
    Put(Put),
    /// Store many: from dotenv and JSON files, pass, passage, systemd credentials
    Import(import::Arguments),
    /// Give a stored secret new values, while leases on it live
    Rotate(rotate::Arguments),
    /// Write age files as they lie in the store: ciphertext
    Export(export::Arguments),
    /// Remove a secret and end its leases
    Rm {
        /// The credential
        #[arg(value_parser = credential_name)]
        name: String,
        #[command(flatten)]
        output: OutputFlag,
    },
    /// List the stored secrets, without their values
    Ls {
        /// Only names that begin with this
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
        #[command(flatten)]
        output: OutputFlag,
    },
}

/// How several fields stand on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// {"NAME": "value"} or {"NAME": {"value"|"base64": "…", "sensitive": true, "default": false}}
    Json,
}

#[derive(clap::Args)]
#[command(after_help = "\
Values come from standard input or, without echo, from the terminal; never from
the command line. From a pipe exactly one trailing newline is taken off, unless
--exact is given.
  printf %s \"$PW\" | jsi secret put db/orders --field password --owner dba --purpose orders
  jsi secret put db/orders --field user --field password=- --plain user <password-file
  jq -n '{user: \"orders\", password: $ENV.PW}' | jsi secret put db/orders --fields-from json \\
      --default password --plain user --owner dba --purpose 'order service'")]
struct Put {
    /// The credential
    #[arg(value_parser = credential_name)]
    name: String,
    /// Who answers for it; asked for on a terminal
    #[arg(long)]
    owner: Option<String>,
    /// What it is for; asked for on a terminal
    #[arg(long)]
    purpose: Option<String>,
    /// A field; NAME=- takes its value from standard input [default: value]
    #[arg(long = "field", value_name = "NAME[=-]", value_parser = input::field)]
    fields: Vec<input::Field>,
    /// Read all fields from standard input, as json: {"NAME": "value"}, or for each
    /// {"value" or "base64": "…", "sensitive": true, "default": false}
    #[arg(
        long,
        value_name = "json",
        value_enum,
        hide_possible_values = true,
        conflicts_with = "fields"
    )]
    fields_from: Option<From>,
    /// The field that `jsi get NAME` prints [default: the only one, or the only sensitive one]
    #[arg(long, value_name = "FIELD", value_parser = field_name)]
    default: Option<String>,
    /// A field that need not be kept secret, like a user name
    #[arg(long, value_name = "FIELD", value_parser = field_name)]
    plain: Vec<String>,
    /// Replace one that exists
    #[arg(long)]
    replace: bool,
    /// Keep a trailing newline
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Put(put) => store(put),
        Action::Import(import) => import::run(import),
        Action::Rotate(rotate) => rotate::run(rotate),
        Action::Export(export) => export::run(export),
        Action::Rm { name, output } => remove(&name, output),
        Action::Ls { prefix, output } => list(&prefix, output),
    }
}

fn store(put: Put) -> Result<(), Failure> {
    let owner = required(put.owner, "owner", "Who answers for it")?;
    let purpose = required(put.purpose, "purpose", "What it is for")?;
    let fields = match put.fields_from {
        Some(From::Json) => input::from_json(&terminal::all_input()?)?,
        None => input::from_flags(put.fields, put.exact)?,
    };
    let fields = input::settle(fields, put.default.as_deref(), &put.plain)?;
    let mut secret = NewSecret::new(&put.name, &owner, &purpose);
    secret.replace = put.replace;
    for field in fields {
        secret.field(&field.name, field.value, field.sensitive, field.is_default);
    }
    let answer = session::block_on(async { session::admin().await?.put_secret(secret).await })?;
    let stored = answer.secret.unwrap_or_default();
    let done = if answer.replaced { "replaced" } else { "stored" };
    output::note(&format!("{done} {} ({})", stored.name, stored.fields.join(", ")));
    if put.output.format == output::Format::Json {
        return output::print(put.output, || view::secret(&stored), String::new);
    }
    Ok(())
}

fn required(given: Option<String>, flag: &str, question: &str) -> Result<String, Failure> {
    let missing = || {
        Failure::usage(format!("a secret needs its {flag}"))
            .advise(format!("give it with --{flag}"))
    };
    let text = match given {
        Some(text) => text,
        None if terminal::present() => terminal::ask(question)?,
        None => return Err(missing()),
    };
    if text.trim().is_empty() { Err(missing()) } else { Ok(text) }
}

fn remove(name: &str, output: OutputFlag) -> Result<(), Failure> {
    let ended = session::block_on(async { session::admin().await?.remove_secret(name).await })?;
    output::note(&format!("removed {name}; {ended} of its leases ended"));
    if output.format == output::Format::Json {
        let json = || serde_json::json!({ "name": name, "leases_ended": ended });
        return output::print(output, json, String::new);
    }
    Ok(())
}

fn list(prefix: &str, output: OutputFlag) -> Result<(), Failure> {
    let secrets = session::block_on(async { session::admin().await?.secrets(prefix).await })?;
    output::print(
        output,
        || secrets.iter().map(view::secret).collect(),
        || {
            let rows: Vec<_> = secrets
                .iter()
                .map(|secret| {
                    vec![
                        secret.name.clone(),
                        secret.owner.clone(),
                        secret.purpose.clone(),
                        view::at(secret.stored_at.as_ref()),
                        secret.fields.join(", "),
                    ]
                })
                .collect();
            output::table(&["NAME", "OWNER", "PURPOSE", "STORED", "FIELDS"], &rows)
        },
    )
}
