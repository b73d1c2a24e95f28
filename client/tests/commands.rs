//! The `jsi` command against a fake agent.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
use support::{Fake, text};

fn with_input(fake: &Fake, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = fake.jsi(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn get_prints_the_value_and_one_newline() {
    let fake = Fake::start();
    let out = fake.run(&["get", "db/orders#password"]);
    assert_eq!(text(&out.stdout), "s3cr'et \"x\"\n", "{}", text(&out.stderr));
    assert_eq!(text(&fake.run(&["get", "-n", "db/orders"]).stdout), "s3cr'et \"x\"");
    assert_eq!(text(&fake.run(&["get", "db/orders#user"]).stdout), "orders\n");
    let state = fake.state.lock().unwrap();
    assert_eq!(state.requests[0].fields, ["password"]);
    // Nothing was said of it, so that policy's own demand can hold.
    assert!(state.requests[0].binding.is_none());
}

#[test]
fn a_secret_of_many_pieces_arrives_whole() {
    let fake = Fake::start();
    let long: Vec<u8> = (0..1_000_000u32).map(|i| (i % 253) as u8).collect();
    fake.state.lock().unwrap().fields = vec![("key".into(), long.clone(), true)];
    assert!(fake.run(&["get", "-n", "db/orders"]).stdout == long);
}

#[test]
fn get_prints_json_env_and_dotenv() {
    let fake = Fake::start();
    let out = fake.run(&["get", "-o", "json", "db/orders"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["fields"]["password"], "s3cr'et \"x\"");
    assert_eq!(json["default"], "password");
    assert_eq!(json["lease"]["state"], "active");
    let out = fake.run(&["get", "-o", "env", "--prefix", "PG", "db/orders"]);
    assert_eq!(
        text(&out.stdout),
        "export PGUSER='orders'\nexport PGPASSWORD='s3cr'\\''et \"x\"'\n"
    );
    let out = fake.run(&["get", "-o", "dotenv", "db/orders"]);
    assert_eq!(text(&out.stdout), "USER=\"orders\"\nPASSWORD=\"s3cr'et \\\"x\\\"\"\n");
}

#[test]
fn json_carries_bytes_that_are_no_text() {
    let fake = Fake::start();
    fake.state.lock().unwrap().fields =
        vec![("key".into(), vec![0xff, 0], true), ("t".into(), b"\x01\n\x7f{}".to_vec(), false)];
    let out = fake.run(&["get", "-o", "json", "db/orders"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["fields_base64"]["key"], "/wA=");
    assert_eq!(json["fields"]["t"], "\u{1}\n\u{7f}{}");
}

#[test]
fn a_secret_is_not_written_into_a_file_unasked() {
    let fake = Fake::start();
    let path = fake.dir.path().join("out");
    let into = |arguments: &[&str]| {
        let file = std::fs::File::create(&path).unwrap();
        fake.jsi(arguments).stdout(file).output().unwrap().status.code()
    };
    assert_eq!(into(&["get", "db/orders"]), Some(2));
    assert!(std::fs::read(&path).unwrap().is_empty());
    assert!(fake.state.lock().unwrap().requests.is_empty());
    assert_eq!(into(&["get", "--allow-file", "db/orders"]), Some(0));
    assert_eq!(text(&std::fs::read(&path).unwrap()), "s3cr'et \"x\"\n");
    assert_eq!(into(&["get", "--help"]), Some(0));
}

#[test]
fn refusals_have_their_exit_codes_and_say_what_to_do() {
    let fake = Fake::start();
    for (credential, code, advice) in [
        ("no/denied", 3, "jsi explain abcdefghijklm"),
        ("no/such", 4, "jsi secret ls"),
        ("no/locked", 6, "jsi unlock"),
        ("no/limit", 7, "jsi status"),
    ] {
        let out = fake.run(&["get", credential]);
        assert_eq!(out.status.code(), Some(code), "{credential}");
        assert!(out.stdout.is_empty());
        assert!(text(&out.stderr).contains(advice), "{}", text(&out.stderr));
    }
}

#[test]
fn malformed_arguments_are_usage_errors() {
    let fake = Fake::start();
    for arguments in [
        &["get", "DB"][..],
        &["get", "a#"],
        &["get", "--ttl", "0s", "a"],
        &["get", "--ttl", "-5m", "a"],
        &["get", "--ttl", "99999d", "a"],
        &["get", "--ttl", "soon", "a"],
        &["get", "--bind", "pid:0", "a"],
        &["revoke"],
        &["revoke", "--prefix", ""],
        &["secret", "put", "a", "--owner", "o", "--purpose", "p", "--field", "x=hunter2"],
        &["secret", "put", "a"],
        &["allow", "a"],
        &["nonsense"],
    ] {
        let out = fake.run(arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {}", text(&out.stderr));
        assert!(out.stdout.is_empty(), "{arguments:?}");
    }
    assert!(fake.state.lock().unwrap().requests.is_empty());
}

#[test]
fn exec_becomes_the_command_with_the_secret_in_its_environment() {
    let fake = Fake::start();
    let arguments =
        ["exec", "-e", "PW=db/orders#password", "-e", "U=db/orders#user", "--", "sh", "-c"];
    let script = "printf '%s|%s|%s|%s' \"$PW\" \"$U\" \"$LD_PRELOAD$PYTHONPATH\" \"$$\"; exit 42";
    let mut command = fake.jsi(&[&arguments[..], &[script]].concat());
    command.env("PYTHONPATH", "/x").stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id();
    let out = child.wait_with_output().unwrap();
    assert_eq!(text(&out.stdout), format!("s3cr'et \"x\"|orders||{pid}"));
    assert_eq!(out.status.code(), Some(42));
    let state = fake.state.lock().unwrap();
    let [request] = state.requests.as_slice() else { panic!("{:?}", state.requests) };
    assert_eq!(request.fields, ["password", "user"]);
    assert_eq!(request.delivery(), jsi_proto::v1::Delivery::Environment);
    let target = request.target.as_ref().unwrap();
    assert_eq!(target.exe, std::fs::canonicalize("/bin/sh").unwrap().to_str().unwrap());
    assert_eq!(target.digest.len(), 64);
}

#[test]
fn exec_hands_a_sealed_file_over_and_nothing_else() {
    let fake = Fake::start();
    let script = "cat \"$PW\"; (echo x >\"$PW\") 2>/dev/null && echo written; ls -l /proc/$$/fd | grep -c socket:";
    let out = fake.run(&["exec", "--fd", "PW=db/orders", "--", "sh", "-c", script]);
    assert_eq!(text(&out.stdout), "s3cr'et \"x\"0\n", "{}", text(&out.stderr));
}

#[test]
fn exec_leaves_signals_as_they_are() {
    let fake = Fake::start();
    let read = ["-E", "^Sig(Ign|Blk)", "/proc/self/status"];
    let plain = std::process::Command::new("grep").args(read).output().unwrap();
    let out = fake.run(&[&["exec", "-e", "X=db/orders", "--", "grep"][..], &read].concat());
    assert_eq!(text(&out.stdout), text(&plain.stdout));
}

#[test]
fn exec_fails_with_125_126_and_127() {
    let fake = Fake::start();
    let plain = fake.dir.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    let plain = plain.to_str().unwrap();
    for (arguments, code) in [
        (&["exec", "-e", "X=a", "--", "no-such-command"][..], 127),
        (&["exec", "-e", "X=a", "--", plain], 126),
        (&["exec", "--", "true"], 125),
        (&["exec", "-e", "X=A", "--", "true"], 125),
        (&["exec", "-e", "LD_PRELOAD=a", "--", "true"], 125),
    ] {
        let out = fake.run(arguments);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {}", text(&out.stderr));
    }
    assert!(fake.state.lock().unwrap().requests.is_empty(), "nothing is asked for in vain");
}

#[test]
fn exec_gives_back_what_was_granted_when_the_rest_is_denied() {
    let fake = Fake::start();
    let out = fake.run(&["exec", "-e", "A=db/orders", "-e", "B=no/denied", "--", "true"]);
    assert_eq!(out.status.code(), Some(125));
    assert!(text(&out.stderr).contains("jsi explain"), "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().released.len(), 1);
}

#[test]
fn exec_gives_back_what_the_command_could_not_be_given() {
    let fake = Fake::start();
    fake.state.lock().unwrap().fields = vec![("k".into(), b"a\0b".to_vec(), true)];
    let out = fake.run(&["exec", "-e", "A=db/orders", "--", "true"]);
    assert_eq!(out.status.code(), Some(125));
    assert_eq!(fake.state.lock().unwrap().released.len(), 1);
    // Executable, and yet no program: exec itself fails.
    fake.state.lock().unwrap().fields = vec![("k".into(), b"x".to_vec(), true)];
    let odd = fake.dir.path().join("odd");
    std::fs::write(&odd, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o755)).unwrap();
    let out = fake.run(&["exec", "-e", "A=db/orders", "--", odd.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(127), "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().released.len(), 2);
}

#[test]
fn a_secret_is_put_from_standard_input_with_one_newline_less() {
    let fake = Fake::start();
    let put = ["secret", "put", "db/orders", "--owner", "dba", "--purpose", "orders"];
    let stored = |more: &[&str], input: &[u8]| {
        let out = with_input(&fake, &[&put[..], more].concat(), input);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let state = fake.state.lock().unwrap();
        assert_eq!((state.put[0].owner.as_str(), state.put[0].purpose.as_str()), ("dba", "orders"));
        let pieces = state.put.iter().flat_map(|message| &message.pieces);
        pieces
            .map(|piece| (piece.name.clone(), text(&piece.value), piece.is_default))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        stored(&["--field", "password"], b"pw\n\n"),
        [("password".into(), "pw\n".into(), true)]
    );
    assert_eq!(stored(&["--exact"], b"pw\n"), [("value".into(), "pw\n".into(), true)]);
    let json = br#"{"user":"u","password":"p\n"}"#;
    assert_eq!(
        stored(&["--fields-from", "json", "--plain", "user"], json),
        [("password".into(), "p\n".into(), true), ("user".into(), "u".into(), false)]
    );
}

#[test]
fn unlock_reads_the_passphrase_from_standard_input() {
    let fake = Fake::start();
    let out = with_input(&fake, &["unlock"], b"correct horse\n");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().passphrase, b"correct horse");
}

#[test]
fn tables_are_for_people_and_json_for_programs() {
    let fake = Fake::start();
    let out = text(&fake.run(&["leases"]).stdout);
    assert!(out.contains("db/orders/a  active  14m50s"), "{out}");
    for arguments in [
        &["leases", "-o", "json"][..],
        &["whoami", "-o", "json"],
        &["status", "-o", "json"],
        &["explain", "x", "-o", "json"],
        &["reload", "-o", "json"],
        &["renew", "a", "-o", "json"],
        &["release", "a", "-o", "json"],
        &["revoke", "--all", "-o", "json"],
        &["secret", "ls", "-o", "json"],
        &["secret", "rm", "a", "-o", "json"],
    ] {
        let out = fake.run(arguments);
        let json = serde_json::from_slice::<serde_json::Value>(&out.stdout);
        assert!(json.is_ok(), "{arguments:?}: {}", text(&out.stdout));
    }
}

#[test]
fn release_tries_all_and_fails_for_those_that_are_not_there() {
    let fake = Fake::start();
    let out = fake.run(&["release", "a", "unknown", "b"]);
    assert_eq!(out.status.code(), Some(4));
    assert_eq!(fake.state.lock().unwrap().released, ["a", "b"]);
}

#[test]
fn whoami_prints_a_ready_policy() {
    let fake = Fake::start();
    let out = text(&fake.run(&["whoami", "--policy", "db/orders"]).stdout);
    assert!(out.contains("principal in User::\"1000\""), "{out}");
    assert!(out.contains("principal.exe == \"/usr/bin/bash\""), "{out}");
    assert!(out.contains("// Not 2 (image): not looked at"), "{out}");
}

#[test]
fn allow_keeps_a_policy_only_where_the_agent_takes_it() {
    let fake = Fake::start();
    let dir = fake.dir.path().join("policies");
    std::fs::create_dir(&dir).unwrap();
    fake.state.lock().unwrap().policy_dir = dir.to_str().unwrap().to_owned();
    let allow = ["allow", "db/orders", "--exe", "/bin/sh", "--digest", "--ttl", "15m"];
    fake.state.lock().unwrap().refuse_reload = true;
    let out = fake.run(&allow);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    fake.state.lock().unwrap().refuse_reload = false;
    let out = fake.run(&allow);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let path = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    assert!(path.file_name().unwrap().to_str().unwrap().starts_with("allow-db-orders-"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(std::fs::read_to_string(&path).unwrap().contains("@max_ttl(\"900s\")"));
    assert_eq!(fake.run(&allow).status.code(), Some(1), "it is there already");
    assert!(fake.run(&[&allow[..], &["--replace"]].concat()).status.success());
}

#[test]
fn an_agent_that_is_not_there_is_named_with_its_origin() {
    let fake = Fake::start();
    let out = fake.jsi(&["get", "a"]).env("JSI_AUTH_SOCK", "/nonexistent/s").output().unwrap();
    assert_eq!(out.status.code(), Some(5));
    let said = text(&out.stderr);
    assert!(said.contains("/nonexistent/s (from $JSI_AUTH_SOCK)"), "{said}");
    assert!(said.contains("eval \"$(jsi-agent)\""), "{said}");
}

#[test]
fn a_socket_in_a_world_writable_directory_is_not_spoken_to() {
    let fake = Fake::start();
    std::fs::set_permissions(fake.dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let out = fake.run(&["get", "a"]);
    assert_eq!(out.status.code(), Some(5));
    assert!(text(&out.stderr).contains("written by everybody"), "{}", text(&out.stderr));
    assert!(fake.state.lock().unwrap().requests.is_empty());
}

#[test]
fn without_a_subcommand_help_is_given() {
    let fake = Fake::start();
    assert_eq!(fake.run(&[]).status.code(), Some(2));
    let out = fake.run(&["--help"]);
    assert!(out.status.success());
    assert!(text(&out.stdout).contains("whoami"));
    assert!(text(&fake.run(&["exec", "--help"]).stdout).contains("--fd"));
}

#[test]
fn a_first_connection_that_is_refused_is_tried_once_more() {
    let fake = Fake::start();
    let path = fake.dir.path().join("door.sock");
    let door = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let inner = fake.socket();
    std::thread::spawn(move || {
        drop(door.accept().unwrap()); // as an agent does whose listener had no SO_PASSCRED yet
        let (outside, _) = door.accept().unwrap();
        let inside = std::os::unix::net::UnixStream::connect(inner).unwrap();
        let (mut from, mut to) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (inside, outside);
        let _ = std::io::copy(&mut from, &mut to);
    });
    let out = fake.jsi(&["get", "db/orders#user"]).env("JSI_AUTH_SOCK", &path).output().unwrap();
    assert_eq!(text(&out.stdout), "orders\n", "{}", text(&out.stderr));
}

#[test]
fn an_agent_that_is_older_than_a_call_is_said_to_be() {
    let fake = Fake::start();
    for arguments in [
        &["secret", "rotate", "db/orders"][..],
        &["secret", "export", "db/orders"],
        &["secret", "import", "--format", "dotenv", "--owner", "o", "-"],
        &["backup", "/nonexistent-directory/jsi-backup.tar"],
        &["restore", "/dev/null"],
    ] {
        let out = with_input(&fake, arguments, b"NEW_NAME=x");
        assert_eq!(out.status.code(), Some(1), "{arguments:?}: {}", text(&out.stderr));
        let expected = if arguments[0] == "backup" { "nonexistent" } else { "the agent is older" };
        assert!(text(&out.stderr).contains(expected), "{arguments:?}: {}", text(&out.stderr));
    }
}
