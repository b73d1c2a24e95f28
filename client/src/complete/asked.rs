//! What the agent knows: names of credentials, leases.

use super::{Answer, Candidate, walk};
use crate::session;
use clap::Arg;
use jsi_client::{Agent, Error};
use std::collections::BTreeSet;
use std::time::Duration;

/// A person waits for the next character.
const PATIENCE: Duration = Duration::from_millis(700);

/// More than that nobody reads.
const MOST: usize = 1000;

/// What an argument names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A credential that the caller may request, and perhaps a field of it.
    Credential,
    /// Any credential, where an operator is at work.
    AnyCredential,
    /// A variable, and a credential for it.
    Assignment,
    /// A stored secret.
    Stored,
    /// A lease of one's own.
    Lease,
    /// Any lease, and what IDs begin with.
    AnyLease,
    /// A duration.
    Time,
    /// What a lease is bound to.
    Binding,
    /// A file.
    Files,
    /// A directory.
    Directories,
}

impl Kind {
    /// By the command, else by what the value is called in its help.
    pub(super) fn of(path: &[String], arg: &Arg) -> Option<Self> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let names = arg.get_value_names().unwrap_or_default();
        let called = names.first().map(|name| name.as_str()).unwrap_or_default();
        match (path.as_slice(), arg.get_id().as_str()) {
            (["renew", ..], "id") | (["release", ..], "ids") => return Some(Self::Lease),
            (["revoke", ..], "prefix") => return Some(Self::AnyLease),
            (["leases" | "watch", ..], "prefix") => return Some(Self::AnyLease),
            (["secret", ..], "name" | "names" | "prefix") => return Some(Self::Stored),
            (["allow", ..], "credential") => return Some(Self::AnyCredential),
            (["get", ..], "bind") => return Some(Self::Binding),
            _ => {}
        }
        let word = called.trim_end_matches("[#FIELD]");
        match word {
            "CREDENTIAL" | "REF" => Some(Self::Credential),
            "NAME=REF" => Some(Self::Assignment),
            "TIME" => Some(Self::Time),
            "DIR" | "DIRECTORY" => Some(Self::Directories),
            "FILE" | "FILES" | "PATH" | "PROGRAM" | "EXE" | "SOCKET" => Some(Self::Files),
            _ => walk::hinted(arg),
        }
    }
}

/// Asks the agent, if one answers soon.
pub(super) fn ask(kind: Kind, typed: &str) -> Answer {
    let found = match kind {
        Kind::Time => ["5m", "15m", "1h", "8h", "1d"].map(Candidate::bare).to_vec(),
        Kind::Binding => ["requester", "session", "parent", "caller", "none", "pid:"]
            .map(Candidate::bare)
            .to_vec(),
        Kind::Files => return Answer::Files,
        Kind::Directories => return Answer::Directories,
        _ => soon(kind, typed),
    };
    Answer::Words(found)
}

fn soon(kind: Kind, typed: &str) -> Vec<Candidate> {
    let asked = session::block_within(PATIENCE, async {
        match kind {
            Kind::Lease => leases(&session::agent().await?, typed, false).await,
            Kind::AnyLease => match session::agent_of_operators().await {
                Ok(agent) => Ok(with_beginnings(leases(&agent, typed, true).await?)),
                Err(_) => leases(&session::agent().await?, typed, false).await,
            },
            Kind::Stored => stored(typed).await,
            Kind::AnyCredential => match session::agent_of_operators().await {
                Ok(agent) => credentials(&agent, typed).await,
                Err(_) => credentials(&session::agent().await?, typed).await,
            },
            _ => match typed.split_once('#') {
                Some((name, _)) => fields(name).await,
                None => credentials(&session::agent().await?, typed).await,
            },
        }
    });
    let mut found = match asked {
        Ok(Some(Ok(found))) => found,
        _ => Vec::new(),
    };
    found.truncate(MOST);
    found
}

async fn credentials(agent: &Agent, typed: &str) -> Result<Vec<Candidate>, Error> {
    let found = agent.credentials(typed).await?;
    Ok(found.into_iter().map(|one| Candidate::new(one.name, one.purpose)).collect())
}

async fn leases(agent: &Agent, typed: &str, all: bool) -> Result<Vec<Candidate>, Error> {
    let found = agent.leases(typed, all, false).await?;
    let about = |lease: &jsi_client::v1::Lease| {
        format!("{} left, {}", crate::view::remaining(lease), lease.binding)
    };
    Ok(found.iter().map(|lease| Candidate::new(lease.id.clone(), about(lease))).collect())
}

/// What several IDs begin with names all of them.
fn with_beginnings(leases: Vec<Candidate>) -> Vec<Candidate> {
    let mut beginnings = BTreeSet::new();
    for lease in &leases {
        let parts = lease.word.match_indices('/').map(|(at, _)| lease.word[..=at].to_owned());
        beginnings.extend(parts);
    }
    beginnings.into_iter().map(|word| Candidate::new(word, "all of them")).chain(leases).collect()
}

async fn stored(typed: &str) -> Result<Vec<Candidate>, Error> {
    let found = session::admin().await?.secrets(typed).await?;
    Ok(found.into_iter().map(|one| Candidate::new(one.name, one.purpose)).collect())
}

/// Fields are for operators to know.
async fn fields(name: &str) -> Result<Vec<Candidate>, Error> {
    let found = session::admin().await?.secrets(name).await?;
    let own = found.into_iter().filter(|one| one.name == name);
    Ok(own
        .flat_map(|one| one.fields)
        .map(|field| Candidate::bare(format!("{name}#{field}")))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ids_begin_with_is_offered_once() {
        let leases = ["db/orders/x", "db/orders/y", "ci/z"].map(Candidate::bare).to_vec();
        let words: Vec<String> = with_beginnings(leases).into_iter().map(|c| c.word).collect();
        assert_eq!(words, ["ci/", "db/", "db/orders/", "db/orders/x", "db/orders/y", "ci/z"]);
    }
}
