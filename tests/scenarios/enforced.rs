//! Level 4, where the kernel has what gives it: not run elsewhere, and the
//! reason is told. What is decided is held by the agent's own tests anyway.

use jsi_tests::{Host, PEERS, Setup, needs_root, not_run, random_secret};
use std::path::Path;
use std::process::Command;

/// A host agent that gives its secret at level 4 only, and the first peer's own
/// shell that asks.
fn host(setup: Setup) -> (Host, String) {
    let uid = PEERS[0].uid;
    let setup = setup.agent("isolated_uids", &format!("[{uid}]"));
    let host = setup.start(|world| {
        let at = world.bin("asks");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("adversary/programs/trusted.c");
        let cc = ["-O1", "-std=gnu11", "-static", "-o"];
        let made = Command::new("cc").args(cc).arg(&at).arg(source).status();
        assert!(made.unwrap().success(), "cc -static refused trusted.c");
        let policy = format!(
            r#"permit(principal in User::"{uid}", action in Action::"use",
                      resource == Credential::"db/orders") when {{ context.assurance >= 4 }};"#
        );
        vec![("orders", policy)]
    });
    let secret = random_secret();
    host.put("db/orders", &secret);
    (host, secret)
}

fn asks(host: &Host) -> String {
    let program = host.program(PEERS[0], host.world.bin("asks"));
    let socket = host.world.socket().display().to_string();
    program.args(["get", &socket, "db/orders"]).run().stdout
}

#[test]
fn a_label_that_root_has_listed_gives_level_4() {
    needs_root!();
    let label = std::fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let label = label.trim_end_matches(['\0', '\n']);
    if label.is_empty() {
        return not_run(module_path!(), line!(), "the kernel lacks an LSM that gives labels");
    }
    let (host, secret) = host(Setup::host().agent("enforced_labels", &format!("[{label:?}]")));
    let said = asks(&host);
    let confined = std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|on| on == "1");
    assert_eq!(said.contains(&secret), confined, "{said}");
}

#[test]
fn a_program_that_fs_verity_keeps_reaches_level_4() {
    needs_root!();
    let (host, secret) = host(Setup::host());
    assert!(!asks(&host).contains(&secret), "given before anything enforced it");
    let enable = Command::new("fsverity").arg("enable").arg(host.world.bin("asks")).output();
    let why = match enable {
        Err(_) => Some("install fsverity, for fsverity enable".to_owned()),
        Ok(out) if !out.status.success() => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            Some(format!("the kernel lacks fs-verity where programs are installed: {said}"))
        }
        Ok(_) => None,
    };
    if let Some(why) = why {
        return not_run(module_path!(), line!(), &why);
    }
    let said = asks(&host);
    assert!(said.contains(&secret), "{said}");
}

#[test]
fn a_level_that_the_kernel_cannot_give_is_told_with_its_reasons() {
    needs_root!();
    let (host, secret) = host(Setup::host());
    assert!(!asks(&host).contains(&secret));
    let denied = host.await_record("denied", "db/orders");
    assert!(denied["reason"].to_string().contains("assurance"), "{denied}");
    let explained = host.admin(["explain", denied["request"].as_str().unwrap(), "-o", "json"]);
    let explained = explained.run().succeeded().json();
    let missed = explained["attestation"]["requester"]["shortfalls"].as_array().unwrap().clone();
    let fourth: Vec<_> = missed.iter().filter(|one| one["level"] == 4).collect();
    assert!(!fourth.is_empty(), "{missed:?}");
    let reason = fourth[0]["reason"].to_string();
    for part in ["fs-verity", "IMA", "LSM"] {
        assert!(reason.contains(part) || reason.contains("label"), "{part}: {reason}");
    }
    let doctor = host.admin(["doctor"]).run();
    assert!(doctor.stdout.contains("level 4"), "{doctor}");
}
