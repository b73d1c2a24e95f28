//! `jsi jwt`: the keys by which tokens of this agent are verified.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::{JwtIssuer, JwtKey};
use serde_json::{Value, json};

#[derive(clap::Args)]
#[command(after_help = "\
Public keys are for everybody who may connect; a verifier fetches them from where
they are published (jwks_file in agent.toml). ISSUER may be left out where there is
one. A token cannot be taken back; `rotate --withdraw` voids all of an issuer.
  jsi jwt jwks > /srv/www/.well-known/jwks.json
  jsi jwt keys
  jsi jwt rotate internal")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print the key set (RFC 7517)
    Jwks {
        /// The issuer, as agent.toml names it
        issuer: Option<String>,
    },
    /// Print the discovery document (OpenID Connect)
    Discovery {
        /// The issuer, as agent.toml names it
        issuer: Option<String>,
    },
    /// List signing keys: which signs, which is next, which still verifies
    Keys {
        /// Only of this issuer
        issuer: Option<String>,
        #[command(flatten)]
        output: OutputFlag,
    },
    /// Bring the next signing key into use, by the admin socket
    #[command(after_help = "\
The next key is published at once and signs after publish_ahead; the earlier one
stays published until its last token has expired. Asked twice, it happens once.
  jsi jwt rotate internal
  jsi jwt rotate internal --now --withdraw   # the key may be in wrong hands")]
    Rotate {
        /// The issuer, as agent.toml names it
        issuer: Option<String>,
        /// The next key signs at once: verifiers refuse until they have fetched it
        #[arg(long)]
        now: bool,
        /// Also publish no earlier key any more: all tokens signed until now are void
        /// once verifiers have fetched the new key set
        #[arg(long)]
        withdraw: bool,
        #[command(flatten)]
        output: OutputFlag,
    },
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.action {
        Action::Jwks { issuer } => document(issuer, |issuer| &issuer.jwks),
        Action::Discovery { issuer } => document(issuer, |issuer| &issuer.discovery),
        Action::Keys { issuer, output } => {
            let issuers = asked(issuer.as_deref().unwrap_or_default())?;
            print(output, &issuers)
        }
        Action::Rotate { issuer, now, withdraw, output } => {
            let issuer = match issuer {
                Some(issuer) => issuer,
                None => only(asked("")?)?.name,
            };
            let rotated = session::block_on(async {
                session::admin().await?.rotate_jwt_keys(&issuer, now, withdraw).await
            })?;
            print(output, &[rotated])
        }
    }
}

fn asked(issuer: &str) -> Result<Vec<JwtIssuer>, Failure> {
    session::block_on(async { session::agent().await?.jwt_keys(issuer).await })
}

/// The one that is meant where none was named.
fn only(mut issuers: Vec<JwtIssuer>) -> Result<JwtIssuer, Failure> {
    match (issuers.pop(), issuers.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => Err(Failure::new("no issuer of kind jwt is configured".to_owned())
            .advise("define one in agent.toml: [issuers.NAME] with kind = \"jwt\"")),
        (Some(last), others) => {
            let names: Vec<_> = others.iter().chain([&last]).map(|i| i.name.as_str()).collect();
            Err(Failure::usage(format!("name the issuer: {}", names.join(", "))))
        }
    }
}

fn document(issuer: Option<String>, of: fn(&JwtIssuer) -> &String) -> Result<(), Failure> {
    let issuer = only(asked(issuer.as_deref().unwrap_or_default())?)?;
    output::to_stdout(format!("{}\n", of(&issuer)).as_bytes())
}

fn print(output: OutputFlag, issuers: &[JwtIssuer]) -> Result<(), Failure> {
    output::print(output, || as_json(issuers), || as_table(issuers))
}

fn as_json(issuers: &[JwtIssuer]) -> Value {
    let key = |key: &JwtKey| {
        json!({
            "kid": key.kid,
            "algorithm": key.algorithm,
            "state": key.state,
            "created_at": view::at(key.created_at.as_ref()),
            "signs_from": view::at(key.signs_from.as_ref()),
            "signs_until": view::at(key.signs_until.as_ref()),
            "published_until": view::at(key.published_until.as_ref()),
        })
    };
    let issuer = |issuer: &JwtIssuer| {
        json!({
            "issuer": issuer.name,
            "iss": issuer.iss,
            "keys": issuer.keys.iter().map(key).collect::<Vec<_>>(),
        })
    };
    Value::Array(issuers.iter().map(issuer).collect())
}

fn as_table(issuers: &[JwtIssuer]) -> String {
    let rows = issuers.iter().flat_map(|issuer| {
        issuer.keys.iter().map(|key| {
            vec![
                issuer.name.clone(),
                key.kid.clone(),
                key.algorithm.clone(),
                key.state.clone(),
                view::at(key.signs_from.as_ref()),
                view::at(key.published_until.as_ref()),
            ]
        })
    });
    let heading = ["ISSUER", "KEY", "ALGORITHM", "STATE", "SIGNS FROM", "PUBLISHED UNTIL"];
    output::table(&heading, &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str) -> JwtIssuer {
        JwtIssuer { name: name.to_owned(), ..JwtIssuer::default() }
    }

    #[test]
    fn an_issuer_is_left_out_only_where_there_is_one() {
        assert_eq!(only(vec![issuer("a")]).map(|one| one.name).ok().as_deref(), Some("a"));
        assert!(only(vec![]).is_err());
        assert!(only(vec![issuer("a"), issuer("b")]).is_err());
    }
}
