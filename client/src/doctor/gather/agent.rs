//! What the agent says: to everybody, and to operators.

use crate::doctor::facts::{Agent, Facts, Operator, Socket, SocketState};
use crate::failure::Failure;
use crate::session;
use jsi_client::{Error, Origin, agent_socket};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the agent may take to answer all questions. One that is stopped
/// answers never.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fills in socket, agent, status and credentials.
pub(super) fn gather(facts: &mut Facts) -> Result<(), Failure> {
    let at = agent_socket();
    facts.socket = Socket {
        path: at.path.clone(),
        origin: at.origin.to_string(),
        variable: match at.origin {
            Origin::Variable(name) => name.to_owned(),
            _ => String::new(),
        },
        ..Socket::default()
    };
    let asked = session::block_within(PATIENCE, async {
        let agent = session::agent().await?;
        let (attestation, version) = agent.who_am_i().await?;
        Ok::<_, Error>(Agent {
            version,
            uid: agent.server_uid(),
            via: attestation.via,
            assurance: attestation.assurance,
            advisory: attestation.advisory,
            reasons: attestation.advisory_reasons,
        })
    })?;
    match asked {
        None => {
            let text = format!("it has not answered for {} seconds", PATIENCE.as_secs());
            facts.socket.state = SocketState::Broken(text);
        }
        Some(Ok(agent)) => {
            facts.socket.state = SocketState::Answers;
            facts.agent = Some(agent);
            operator(facts)?;
        }
        Some(Err(error)) => facts.socket.state = state(&at.path, &error),
    }
    if facts.agent.is_none() {
        facts.socket.others = others(&at.path);
    }
    Ok(())
}

/// What only operators are told.
fn operator(facts: &mut Facts) -> Result<(), Failure> {
    let status = session::block_within(PATIENCE, async { session::admin().await?.status().await })?;
    facts.status = answer(status);
    let credentials = session::block_within(PATIENCE, async {
        session::agent_of_operators().await?.credentials("").await
    })?;
    facts.credentials = answer(credentials);
    Ok(())
}

fn answer<T>(asked: Option<Result<T, Error>>) -> Operator<T> {
    match asked {
        None => Operator::Refused("no answer in time".to_owned()),
        Some(Ok(answer)) => Operator::Answered(answer),
        Some(Err(Error::Unreachable { source, .. }))
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            Operator::NotOpen
        }
        Some(Err(error)) => Operator::Refused(words(&error)),
    }
}

fn state(path: &Path, error: &Error) -> SocketState {
    match error {
        Error::Untrusted(why) => SocketState::Untrusted(why.to_string()),
        Error::Unreachable { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => SocketState::NotOpen,
            ErrorKind::ConnectionRefused if is_socket(path) => SocketState::Stale,
            ErrorKind::ConnectionRefused => SocketState::NoSocket,
            ErrorKind::NotFound => SocketState::Missing,
            _ => SocketState::Broken(source.to_string()),
        },
        error => SocketState::Broken(words(error)),
    }
}

fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Where somebody else listens: nothing is sent there.
fn others(but: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let user = runtime.map(|dir| Path::new(&dir).join("jsi/agent.sock"));
    let host = PathBuf::from("/run/jsi/agent.sock");
    let places = user.into_iter().chain([host]);
    places.filter(|path| path != but && UnixStream::connect(path).is_ok()).collect()
}
