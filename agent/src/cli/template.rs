//! What `init` writes and says.

use super::places::Places;
use std::path::Path;

/// A new `agent.toml`: what the agent would do by itself, commented.
pub(super) fn config(places: &Places, host: bool, spelled_out: bool) -> String {
    let mode = if host { "host" } else { "user" };
    let path = |key: &str, path: &Path, meaning: &str| {
        let comment = if spelled_out { "" } else { "#" };
        let value = toml_string(&path.to_string_lossy());
        format!("# {meaning}\n{comment}{key} = {value}\n")
    };
    let mut text = format!(
        "# Configuration of the jsi agent. What is commented out shows what holds anyway.\n\
         # Check a change with: jsi policy check; take it over with: jsi reload\n\n\
         [agent]\n\
         # \"host\": every uid of the host, with a user of its own. \"user\": only its own uid, advisory.\n\
         mode = \"{mode}\"\n"
    );
    text += &path("policy_dir", &places.policy, "Cedar policies: every *.cedar in it.");
    text += &path("store_dir", &places.store, "The secret store: age files.");
    text += &path("log_dir", &places.log, "The log: audit and journal at once.");
    text += &path(
        "identity",
        &places.identity,
        "The age identity that opens the store: a key file, an SSH key, a plugin's, systemd's.",
    );
    text += "\
# How long a lease lasts where the request says nothing, and at most.
#default_ttl = \"1h\"
#max_ttl = \"24h\"

# A stored secret needs no entry. One gives it lifetimes of its own:
#[credentials.\"db/orders\"]
#owner = \"orders-team@example.org\"
#purpose = \"the order service's database\"
#max_ttl = \"1h\"
";
    text
}

/// What a key file means, plainly.
pub(super) fn key_file_warning(places: &Places, host: bool) -> String {
    let identity = places.identity.display();
    if host {
        return format!(
            "\nThe identity {identity} has no passphrase: whoever can read it, as the user jsi \
             or as root,\ncan open every stored secret. In return the agent starts unattended.\n"
        );
    }
    let uid = nix::unistd::geteuid();
    format!(
        "\nThe identity {identity} has no passphrase: whoever can read it, as uid {uid} or as \
         root,\ncan open every stored secret without asking the agent. So the agent is advisory: \
         it guides and\nrecords, and does not confine programs of this uid. On a terminal, \
         jsi-agent init makes one\nwith a passphrase instead.\n"
    )
}

/// What to do next.
pub(super) fn next_steps(places: &Places, host: bool, spelled_out: bool) -> String {
    let flag = if spelled_out {
        format!(" --config {}", shell_word(&places.config.to_string_lossy()))
    } else {
        String::new()
    };
    let start = if host {
        "jsi-agent                      # or, for a service manager: jsi-agent -D".to_owned()
    } else {
        format!("eval \"$(jsi-agent{flag})\"")
    };
    format!(
        "\nNext:\n  {start}\n  \
         jsi secret put db/orders --owner YOU --purpose WHY    # the value from standard input\n  \
         jsi allow db/orders --from whoami --ttl 15m           # this shell; read what it wrote\n  \
         jsi get db/orders\n"
    )
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
