//! `jsi get`.

mod render;

use crate::failure::Failure;
use crate::plan::scope;
use crate::{output, session};
use clap::ValueEnum;
use jsi_client::v1::{Delivery, binding};
use jsi_client::{Leased, Reference, Request};
use std::time::Duration;

/// How the secret is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// The value itself
    #[default]
    Raw,
    /// An object with the lease and the fields
    Json,
    /// Lines for eval: export NAME='value'
    Env,
    /// Lines for a .env file: NAME="value"
    Dotenv,
}

#[derive(clap::Args)]
#[command(after_help = "\
The lease lives as long as the shell that asked, unless --bind says otherwise:
  PGPASSWORD=$(jsi get db/orders#password) psql …
The value is followed by one newline, which $(…) takes off; -n leaves it out.")]
pub(crate) struct Arguments {
    /// The credential and its field: db/orders#password; without a field the default one
    #[arg(value_name = "CREDENTIAL[#FIELD]")]
    reference: Reference,
    /// How to print it: raw, json (with the lease), env (export NAME='value', for eval) or
    /// dotenv; every form but raw prints all fields where none is named
    #[arg(
        short = 'o',
        long = "output",
        value_name = "FORM",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    form: Form,
    /// No newline behind the value
    #[arg(short = 'n', long)]
    no_newline: bool,
    /// How long: 90s, 15m, 1h30m, 2d
    #[arg(long, value_name = "TIME", value_parser = super::renew::ttl, allow_hyphen_values = true)]
    ttl: Option<Duration>,
    /// Narrow it; keys are the issuer's
    #[arg(long, value_name = "KEY=VALUE", value_parser = scope)]
    scope: Vec<(String, String)>,
    /// A lease of its own, even where one is held already
    #[arg(long)]
    new: bool,
    /// What ends the lease: requester, session, parent, caller, pid:N, none
    /// [default: the requester, or what policy demands]
    #[arg(long, value_name = "WHAT", value_parser = bind)]
    bind: Option<binding::Kind>,
    /// What names of variables begin with, for -o env and -o dotenv
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Print even where standard output is a regular file
    #[arg(long)]
    allow_file: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

fn bind(text: &str) -> Result<binding::Kind, &'static str> {
    let unit = binding::Unit {};
    Ok(match text {
        "requester" => binding::Kind::Requester(unit),
        "session" => binding::Kind::Session(unit),
        "parent" => binding::Kind::Parent(unit),
        "caller" => binding::Kind::Caller(unit),
        "none" => binding::Kind::None(unit),
        other => match other.strip_prefix("pid:").and_then(|pid| pid.parse().ok()) {
            Some(pid) if pid > 0 => binding::Kind::Pid(pid),
            _ => return Err("it is one of requester, session, parent, caller, pid:N, none"),
        },
    })
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let into_file = output::stdout_is_regular_file();
    if into_file && !arguments.allow_file {
        return Err(Failure::usage(
            "standard output is a regular file: the secret would stay there",
        )
        .advise("say --allow-file if that is meant")
        .advise("or let a command have it: jsi exec -e NAME=REF -- COMMAND"));
    }
    let leased = session::block_on(async {
        let agent = session::agent().await?;
        agent.request(request(&arguments, into_file)).await
    })?;
    session::hide();
    tell_warnings(&leased);
    let text = render::render(&leased, &arguments)?;
    output::to_stdout(&text)
}

fn request(arguments: &Arguments, into_file: bool) -> Request {
    let mut request = Request::new(&arguments.reference.credential)
        .new_lease(arguments.new)
        .note(&arguments.note)
        .delivery(match arguments.form {
            _ if into_file => Delivery::File,
            Form::Env => Delivery::Environment,
            Form::Raw | Form::Json | Form::Dotenv => Delivery::Caller,
        });
    if let Some(bind) = arguments.bind {
        request = request.bind(bind);
    }
    if let Some(ttl) = arguments.ttl {
        request = request.ttl(ttl);
    }
    if let Some(field) = &arguments.reference.field {
        request = request.field(field);
    }
    arguments.scope.iter().fold(request, |request, (key, value)| request.scope(key, value))
}

/// What the holder should know, once for each lease and only to a person.
fn tell_warnings(leased: &Leased) {
    if leased.lease().reused || !output::stderr_is_terminal() {
        return;
    }
    for warning in &leased.lease().warnings {
        output::note(&format!("note: {warning}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_read_and_others_refused() {
        assert_eq!(bind("pid:7"), Ok(binding::Kind::Pid(7)));
        assert_eq!(bind("none"), Ok(binding::Kind::None(binding::Unit {})));
        for bad in ["", "pid:", "pid:0", "pid:-1", "pid:x", "connection", "Requester"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_has_a_key_and_may_have_an_empty_value() {
        assert_eq!(scope("role=a=b"), Ok(("role".to_owned(), "a=b".to_owned())));
        assert_eq!(scope("role="), Ok(("role".to_owned(), String::new())));
        assert!(scope("role").is_err());
        assert!(scope("=a").is_err());
    }
}
