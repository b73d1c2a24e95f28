//! What is said when something fails: what was wrong, and what to do next.

use crate::output::printable;
use jsi_client::v1::Reason;
use jsi_client::{Error, Kind, Refusal};
use std::error::Error as _;
use std::io::Write;

/// Why a command failed, for the one place that prints it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// clap's own message: help, version, usage.
    Usage(Box<clap::Error>),
    /// A message, and lines that say what to do.
    Told { code: u8, message: String, advice: Vec<String> },
    /// Everything has been said.
    Quiet(u8),
}

impl Failure {
    /// An error with no more to it.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Told { code: Kind::Other.exit_code(), message: message.into(), advice: Vec::new() }
    }

    /// The command line asks for something that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message).code(Kind::Usage.exit_code())
    }

    /// With another exit code.
    pub(crate) fn code(mut self, exit: u8) -> Self {
        match &mut self {
            Self::Told { code, .. } | Self::Quiet(code) => *code = exit,
            Self::Usage(_) => {}
        }
        self
    }

    /// With a line that says what to do.
    pub(crate) fn advise(mut self, line: impl Into<String>) -> Self {
        if let Self::Told { advice, .. } = &mut self {
            advice.push(line.into());
        }
        self
    }

    /// What was wrong, without the advice; empty where everything has been said.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Told { message, .. } => message,
            Self::Usage(_) | Self::Quiet(_) => "",
        }
    }

    /// What the process will end with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Quiet(code) | Self::Told { code, .. } => *code,
            Self::Usage(error) => u8::try_from(error.exit_code()).unwrap_or(2),
        }
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> u8 {
        match self {
            Self::Quiet(code) => *code,
            Self::Usage(error) => {
                let _ = error.print(); // nobody is left to tell
                self.exit_code()
            }
            Self::Told { code, message, advice } => {
                let label = crate::output::paint(&std::io::stderr(), "1;31", "error:");
                let mut text = format!("{label} {}\n", printable(message));
                for line in advice {
                    text.push_str(&format!("  {}\n", printable(line)));
                }
                let _ = std::io::stderr().write_all(text.as_bytes()); // nobody is left to tell
                *code
            }
        }
    }
}

impl std::fmt::Display for Failure {
    /// The message alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{}", error.kind()),
            Self::Told { message, .. } => f.write_str(message),
            Self::Quiet(_) => Ok(()),
        }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Usage(Box::new(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut next = if error.refusal().is_some() { None } else { error.source() };
        while let Some(cause) = next {
            message = format!("{message}: {cause}");
            next = cause.source();
        }
        let failure = Self::new(message).code(error.kind().exit_code());
        match &error {
            Error::Unreachable { socket, source } => unreachable(failure, socket, source),
            Error::Broken(_) => failure
                .advise("the agent may have been stopped, or may have refused this program")
                .advise("see: jsi status"),
            Error::Refused(refusal) if refusal.is_unknown_call() => older(),
            Error::Refused(refusal) => refused(failure, refusal),
            Error::Untrusted(_) => {
                failure.advise("a trusted owner is named by root: owner = \"jsi\" in that file")
            }
            Error::Protocol(_) => failure.advise("jsi and jsi-agent may be of different versions"),
        }
    }
}

/// The agent does not know the call: it was built before there was one.
fn older() -> Failure {
    let version = match agent_version() {
        Some(version) => format!(" ({version})"),
        None => String::new(),
    };
    let own = env!("CARGO_PKG_VERSION");
    Failure::new(format!(
        "the agent is older{version} than this jsi ({own}): it does not know this call"
    ))
    .advise("restart the agent, so that it runs what is installed")
    .advise("how they stand: jsi doctor")
}

/// What the agent says of itself, on a thread of its own: this one may be inside
/// a runtime.
fn agent_version() -> Option<String> {
    let ask = || {
        let patience = std::time::Duration::from_secs(2);
        crate::session::block_within(patience, async {
            crate::session::agent().await?.who_am_i().await
        })
    };
    let answer = std::thread::spawn(ask).join().ok()?.ok()??.ok()?;
    Some(answer.1)
}

fn unreachable(failure: Failure, at: &jsi_client::Socket, source: &std::io::Error) -> Failure {
    if source.kind() == std::io::ErrorKind::PermissionDenied {
        return failure.advise(match at.origin {
            jsi_client::Origin::Beside => {
                "the admin socket is open to the agent's own user and its admin group only"
            }
            _ => "the socket is not open to you",
        });
    }
    failure
        .advise("start one with:        eval \"$(jsi-agent)\"")
        .advise("or name a running one: export JSI_AUTH_SOCK=/path/to/agent.sock")
}

fn refused(mut failure: Failure, refusal: &Refusal) -> Failure {
    if refusal.code == tonic::Code::Unimplemented {
        return Failure::new("this agent does not know the call: it is older than this jsi")
            .advise("their versions: jsi --version, jsi status");
    }
    for (field, description) in &refusal.violations {
        failure = failure.advise(format!("{field}: {description}"));
    }
    if let Some(id) = &refusal.request_id {
        failure = failure
            .advise(format!("request ID: {id}"))
            .advise(format!("an operator sees why with: jsi explain {id}"));
    }
    match refusal.reason {
        Some(Reason::Locked) => failure.advise("open it with: jsi unlock"),
        Some(Reason::UnknownCredential) => failure.advise("what there is: jsi secret ls"),
        Some(Reason::SecretMissing) => failure.advise("store one with: jsi secret put NAME"),
        Some(Reason::UnknownLease) => failure.advise("what you hold: jsi leases"),
        Some(Reason::CallerNotVerified | Reason::RequesterRefused) => {
            failure.advise("what the agent sees: jsi whoami")
        }
        Some(Reason::LimitReached) => {
            let limits: Vec<_> =
                refusal.metadata.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            limits.into_iter().fold(failure, Failure::advise).advise("all limits: jsi status")
        }
        Some(Reason::LogUnavailable | Reason::Reconciling | Reason::Stopping) => {
            failure.advise("how the agent is: jsi status")
        }
        _ => failure,
    }
}
