//! `jsi revoke`.

use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::{session, view};
use jsi_client::v1::LeaseSelector;

#[derive(clap::Args)]
#[command(after_help = "All that are given must match; at least one must be given.
  jsi revoke --prefix db/orders/ --note 'password leaked'
  jsi revoke --uid 1000")]
pub(crate) struct Arguments {
    /// Leases whose ID begins with this: a whole ID, or db/ for a subtree
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Holders whose executable has this SHA-256
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    digest: Option<String>,
    /// Holders of this uid
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
    /// Holders in this systemd unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Holders in this container
    #[arg(long, value_name = "ID")]
    container: Option<String>,
    /// Every lease
    #[arg(long)]
    all: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    #[command(flatten)]
    output: OutputFlag,
}

/// For clap: 64 hex digits, in lower case.
pub(super) fn digest(text: &str) -> Result<String, &'static str> {
    let text = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err("a SHA-256 has 64 hex digits")
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { prefix, digest, uid, unit, container, all, note, output } = arguments;
    let empty =
        [&prefix, &digest, &unit, &container].into_iter().flatten().find(|value| value.is_empty());
    if empty.is_some() {
        return Err(Failure::usage("an empty selector would match everything; say --all"));
    }
    let selector = LeaseSelector {
        prefix: prefix.unwrap_or_default(),
        digest: digest.unwrap_or_default(),
        uid,
        unit: unit.unwrap_or_default(),
        container: container.unwrap_or_default(),
        all,
    };
    if selector == LeaseSelector::default() {
        return Err(Failure::usage("no selector is given")
            .advise("one lease: --prefix ID; a subtree: --prefix db/; everything: --all"));
    }
    let leases =
        session::block_on(async { session::admin().await?.revoke(selector, &note).await })?;
    output::note(&format!("{} revoked", leases.len()));
    output::print(output, || view::leases(&leases), || view::lease_table(&leases))
}
