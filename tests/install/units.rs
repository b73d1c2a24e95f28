//! The units, as systemd itself reads and rates them.

use crate::machine::Machine;
use jsi_tests::{needs_root, not_run};

/// `systemd-analyze security`, worst 10.0: without a private network, /tmp and
/// user namespace, and with three capabilities, for which the unit says why.
const EXPOSURE: f64 = 3.0;

fn installed() -> Option<Machine> {
    if !std::path::Path::new("/usr/bin/systemd-analyze").exists() {
        not_run(module_path!(), line!(), "install systemd, for systemd-analyze");
        return None;
    }
    let machine = Machine::plain();
    machine.does("/mnt/contrib/install --bin-dir /mnt/bin --prefix /usr --no-start");
    Some(machine)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    needs_root!();
    let Some(machine) = installed() else { return };
    for scope in ["system", "user"] {
        let said = machine.does(&format!(
            "export XDG_RUNTIME_DIR=/run/user/0; mkdir -p $XDG_RUNTIME_DIR
             systemd-analyze verify --{scope} --man=no --recursive-errors=no \
             /usr/lib/systemd/{scope}/jsi-agent.service /usr/lib/systemd/{scope}/jsi-agent.socket \
             /usr/lib/systemd/{scope}/jsi-agent-admin.socket"
        ));
        let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("jsi")).collect();
        assert_eq!(about_ours, [""; 0], "{scope}");
    }
    // The account files as systemd reads them make what contrib/install made.
    machine.does(
        "userdel jsi; groupdel _jsi; systemd-sysusers jsi.conf; getent passwd jsi; getent group _jsi
         rm -rf /var/lib/jsi; systemd-tmpfiles --create jsi.conf
         test $(stat -c %a:%U /var/lib/jsi/store) = 700:jsi",
    );
}

#[test]
fn the_host_unit_is_confined_as_far_as_attestation_allows() {
    needs_root!();
    let Some(machine) = installed() else { return };
    let said = machine.does(
        "systemd-analyze security --offline=true --no-pager /usr/lib/systemd/system/jsi-agent.service",
    );
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let level = line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap();
    println!("figure: systemd-analyze security, jsi-agent.service: {level} (at most {EXPOSURE})");
    assert!(level <= EXPOSURE, "{said}");
}
