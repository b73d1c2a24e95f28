use super::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn file(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn args(dir: &Path, config: &str, policies: Vec<PathBuf>) -> CheckArgs {
    let text = format!(
        "[agent]\npolicy_dir = {:?}\nstore_dir = {:?}\n{config}",
        dir.join("policy.d"),
        dir.join("store")
    );
    let config = Some(file(dir, "agent.toml", text));
    let output = "table".to_owned();
    CheckArgs { config, policies, verbose: true, deny_warnings: false, output }
}

fn report(policies: &[(&str, &str)]) -> (bool, String, Report) {
    let dir = tempfile::tempdir().unwrap();
    let files = policies.iter().map(|(name, text)| file(dir.path(), name, text)).collect();
    let report = check(&args(dir.path(), "", files));
    let failed = report.failed(false);
    (failed, report.found(Style::plain(), failed), report)
}

#[test]
fn valid_policies_are_told_with_their_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let policy = file(
        dir.path(),
        "a.cedar",
        r#"@id("open") permit(principal, action, resource == Credential::"db/orders");"#,
    );
    let credential = "[credentials.\"db/orders\"]\nowner = \"a\"\npurpose = \"b\"\n";
    let args = args(dir.path(), credential, vec![policy]);
    let report = check(&args);
    let found = report.found(Style::plain(), false);
    assert!(!report.failed(false) && report.failed(true), "{found}");
    assert!(found.contains("a.cedar:1:1: open: it says nothing of the requester"), "{found}");
    assert!(found.contains("open: db/orders is a stored secret"), "{found}");
    assert!(report.told.contains("1 policy valid") && report.told.contains("jsi/holders-release"));
    let json = report.json(true);
    assert_eq!((&json["valid"], &json["passed"]), (&json!(true), &json!(false)));
    assert_eq!(json["warnings"][0]["policy"], "open");
}

#[test]
fn what_the_agent_would_refuse_is_not_called_valid() {
    let dir = tempfile::tempdir().unwrap();
    let bad = file(dir.path(), "a.cedar", "permit(principal, action, resource) when { nonsense };");
    let report = check(&args(dir.path(), "", vec![bad]));
    let found = report.found(Style::plain(), true);
    assert!(report.failed(false));
    assert!(found.contains("a.cedar:1:") && found.contains('^'), "{found}");

    let report = check(&args(dir.path(), "colour = 1\n", Vec::new()));
    let found = report.found(Style::plain(), true);
    assert!(report.failed(false) && found.contains("unknown key `colour`"), "{found}");

    let none = dir.path().join("none.cedar");
    let report = check(&args(dir.path(), "", vec![none]));
    let found = report.found(Style::plain(), true);
    assert!(report.failed(false) && found.contains("none.cedar"), "{found}");
}

#[test]
fn what_is_misspelt_is_answered_with_what_was_probably_meant() {
    for (text, says) in [
        (
            "permit(principal, action, resource) when { principal.uidd == 1 };",
            "did you mean `uid`?",
        ),
        (
            "permit(principal, action, resource) when { context.advisori };",
            "did you mean `advisory`?",
        ),
        (
            "permit(principal, action == Action::\"requst\", resource);",
            "did you mean `Action::\"request\"`?",
        ),
        ("permit(principal in Usr::\"1\", action, resource);", "did you mean `User`?"),
        ("@max_tll(\"1m\") permit(principal, action, resource);", "did you mean @max_ttl?"),
    ] {
        let (failed, found, _) = report(&[("a.cedar", text)]);
        assert!(failed && found.contains(says) && found.contains("a.cedar:1:"), "{text}\n{found}");
        assert!(
            found.lines().any(|line| line.trim_start().starts_with("| ") && line.contains('^'))
        );
    }
}

#[test]
fn every_error_of_every_file_is_shown_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = file(dir.path(), "open.cedar", "permit(principal, action, resource);");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
    let binary = file(dir.path(), "binary.cedar", b"permit\n(\xff);");
    let fifo = dir.path().join("fifo.cedar");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let folder = dir.path().join("folder.cedar");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let two = "permit(principal, action, resource) when { principal.a };\n\
               permit(principal, action, resource) when { principal.b };\n";
    let two = file(dir.path(), "two.cedar", two);
    let report = check(&args(dir.path(), "", vec![open, binary, fifo, folder, two]));
    let found = report.found(Style::plain(), true);
    for says in [
        "open.cedar has mode 0666",
        "binary.cedar is not UTF-8 (line 2)",
        "fifo.cedar is not a regular file",
        "folder.cedar is not a regular file",
        "two.cedar:1:",
        "two.cedar:2:",
        "6 errors",
    ] {
        assert!(found.contains(says), "{says:?} is not in\n{found}");
    }
}

#[test]
fn what_can_hardly_be_meant_is_warned_about() {
    let permit = |condition: &str| {
        format!(
            "@id(\"p\") permit(principal in User::\"1000\", action, resource) when {{ {condition} }};"
        )
    };
    for (text, says) in [
        (permit("principal has exe && principal.exe == \"psql\""), "principal.exe is an absolute path"),
        (permit(&format!("principal has digest && principal.digest == \"{}\"", "AB".repeat(32))), "in lower case"),
        (permit("principal has unit && principal.unit == \"report\""), "did you mean \"report.service\"?"),
        (permit("principal has tty && principal.tty == \"/dev/pts/1\""), "without /dev/"),
        (permit("context.delivery == \"env\""), "did you mean \"environment\"?"),
        (permit("context.time.hour == 24"), "context.time.hour is 0 to 23"),
        (permit("principal.uid == 1 && principal.uid == 2"), "cannot be both 1 and 2"),
        (permit("principal.uid == 7"), "does not have the uid 7"),
        ("permit(principal in User::\"alice\", action, resource);".to_owned(), "see: id -u alice"),
        ("permit(principal in Unit::\"a\", action, resource);".to_owned(), "did you mean Unit::\"a.service\"?"),
        ("permit(principal in User::\"1\", action, resource in Path::\"db/\");".to_owned(), "did you mean Path::\"db\"?"),
        ("permit(principal in User::\"1\", action, resource == Credential::\"db/\");".to_owned(), "resource in Path::\"db\""),
        ("@hold(\"none\") @max_uses(\"2\") permit(principal in User::\"1\", action, resource);".to_owned(), "@max_uses means nothing"),
        ("@approval(\"a\") permit(principal in User::\"1\", action, resource);".to_owned(), "no approver can be asked"),
        ("permit(principal in User::\"1\", action, resource in Path::\"a/b\") when { context.advisory };\n@id(\"f\") forbid(principal, action, resource in Path::\"a\") when { context.advisory };".to_owned(), "the forbid f ("),
        ("@bind(\"process\") permit(principal in User::\"1\", action, resource);\n@bind(\"none\") permit(principal in User::\"1\", action, resource);".to_owned(), "another @bind than"),
        ("permit(principal in User::\"1\", action, resource == Credential::\"db/none\");".to_owned(), "no credential db/none is defined"),
        (permit("principal has exe && principal.exe == \"/no/such/program\""), "/no/such/program is not there"),
    ] {
        let (failed, found, _) = report(&[("a.cedar", &text)]);
        assert!(!failed && found.contains(says), "{text}\n{found}");
    }
}

#[test]
fn what_is_meant_is_not_warned_about() {
    let (_, found, report) = report(&[(
        "a.cedar",
        "permit(principal in User::\"1000\", action, resource in Path::\"db\") \
         when { context.time.hour >= 9 && context.delivery != \"environment\" };\n\
         forbid(principal, action, resource in Path::\"db/prod\");\n\
         forbid(principal in User::\"1000\", action, resource in Path::\"db\") when { context.advisory };",
    )]);
    assert_eq!(report.warnings, [], "{found}");
}

#[test]
fn a_program_that_others_may_write_or_that_was_replaced_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let program = file(dir.path(), "program", "one");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = format!(
        "permit(principal in Unit::\"a.service\", action, resource) when {{ \
         principal has exe && principal.exe == {program:?} && \
         principal has digest && principal.digest == \"{}\" }};",
        "00".repeat(32)
    );
    let policy = file(dir.path(), "a.cedar", text);
    let report = check(&args(dir.path(), "", vec![policy]));
    let found = report.found(Style::plain(), false);
    assert!(found.contains("group or others may write"), "{found}");
    assert!(found.contains("has another digest now"), "{found}");
}

#[test]
fn a_megabyte_of_policies_and_one_of_nonsense_are_checked() {
    let one = "permit(principal in User::\"1000\", action in Action::\"use\", resource == Credential::\"db/N\");\n";
    let many: String = (0..3_000).map(|n| one.replace('N', &n.to_string())).collect();
    let (failed, _, report) = report(&[("many.cedar", &many)]);
    assert!(!failed && report.policies == 3_000);
    let (failed, found, _) = self::report(&[("a.cedar", &"x".repeat(1 << 20))]);
    assert!(failed && found.len() < 2_000, "{}", found.len());
}

#[test]
fn the_published_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/policies");
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        if let Err(error) = Policies::from_texts(&[(name.as_str(), text.as_str())]) {
            panic!("{error}");
        }
    }
}
