//! Loading: what is refused, and what is warned about.

use super::*;

#[test]
fn invalid_cedar_is_refused_with_its_line_and_a_caret() {
    let error =
        faults("// a comment\npermit(principal, action, resource) when { principal.uid = 1 };\n");
    assert!(error.starts_with("test.cedar:2:44: "), "{error}");
    assert!(error.contains("\n  2 | permit(principal"), "{error}");
    let caret = error.lines().last().unwrap();
    assert_eq!(caret.find('^'), Some("  2 | ".len() + 43), "{error}");
}

#[test]
fn a_policy_that_names_what_the_schema_does_not_know_is_refused() {
    for (text, says) in [
        ("permit(principal, action, resource) when { principal.exec == \"a\" };", "exec"),
        ("permit(principal, action, resource) when { context.colour == 1 };", "colour"),
        // Without `has`, an optional fact may not be used.
        ("permit(principal, action, resource) when { principal.exe == \"a\" };", "exe"),
        ("permit(principal, action == Action::\"read\", resource);", "read"),
        ("permit(principal in Role::\"a\", action, resource);", "Role"),
        ("permit(principal, action, resource == Credentials::\"a\");", "Credentials"),
        ("permit(principal, action, resource) when { principal.uid == \"1000\" };", "String"),
        ("permit(principal == ?principal, action, resource);", "template"),
    ] {
        let error = faults(text);
        assert!(error.starts_with("test.cedar:1:"), "{text}: {error}");
        assert!(error.contains(says) && error.contains('^'), "{text}: {error}");
    }
}

#[test]
fn unknown_annotations_and_limits_on_a_forbid_are_refused() {
    let error = faults("\n@max_tll(\"15m\")\npermit(principal, action, resource);");
    assert!(
        error.starts_with("test.cedar:2:1: unknown annotation @max_tll; did you mean @max_ttl?"),
        "{error}"
    );
    assert!(error.contains("^^^^^^^^"), "{error}");
    let error = faults("@id(\"a\") @max_ttl(\"15m\") forbid(principal, action, resource);");
    assert!(error.contains("limits a permit"), "{error}");
    assert!(faults("@max_uses(\"0\") permit(principal, action, resource);").contains("above zero"));
}

#[test]
fn two_policies_do_not_share_an_id() {
    let text = "@id(\"a\") permit(principal, action, resource);";
    let error = Policies::from_texts(&[("a.cedar", text), ("b.cedar", text)]).err().unwrap();
    let error = error.to_string();
    assert!(error.contains("b.cedar:1:1") && error.contains("the policy at a.cedar:1"), "{error}");
    assert!(
        faults("@id(\"jsi/holders-release\") permit(principal, action, resource);")
            .contains("taken")
    );
}

#[test]
fn every_fault_of_every_file_is_named_at_once() {
    let error = Policies::from_texts(&[
        ("a.cedar", "permit("),
        ("b.cedar", "permit(principal, action, resource);"),
        (
            "c.cedar",
            "@x(\"\") permit(principal, action, resource); @y(\"\") permit(principal, action, resource);",
        ),
    ]);
    let Err(LoadError::Invalid(faults)) = error else { panic!("it was taken") };
    let files: Vec<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    assert_eq!(files, ["a.cedar", "c.cedar", "c.cedar"]);
}

#[test]
fn policies_without_an_id_are_named_by_their_place() {
    let same = "permit(principal, action, resource);";
    let text = format!("{same}\n{same} {same}\n");
    let (permit, _) = permit(Ask::psql("db/orders").of(&policies(&text)));
    assert_eq!(permit.policies(), ["test.cedar:1", "test.cedar:2", "test.cedar:2"]);
}

#[test]
fn a_policy_that_others_may_write_is_refused_and_not_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.cedar");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&file, "permit(principal, action, resource);").unwrap();
    mode(&file, 0o644);
    assert_eq!(Policies::load(dir.path()).unwrap().len(), 1);
    mode(&file, 0o666);
    let error = Policies::load(dir.path()).err().unwrap().to_string();
    assert!(error.contains("a.cedar has mode 0666") && error.contains("chmod go-w"), "{error}");
    mode(&file, 0o644);
    mode(dir.path(), 0o777);
    assert!(matches!(Policies::load(dir.path()), Err(LoadError::Trust(_))));
    mode(dir.path(), 0o700);
}

#[test]
fn a_directory_that_does_not_exist_denies_and_warns() {
    let dir = tempfile::tempdir().unwrap();
    let none = Policies::load(&dir.path().join("none")).unwrap();
    assert!(none.is_empty() && none.warnings()[0].contains("does not exist"));
    denial(Ask::psql("db/orders").of(&none));
    assert!(Policies::load(dir.path()).unwrap().warnings()[0].contains("holds no policy"));
}

#[test]
fn what_is_valid_and_doubtful_is_warned_about_and_nothing_else_is() {
    let psql = r#"principal has exe && principal.exe == "/usr/bin/psql""#;
    for (scope, condition, says) in [
        ("principal", "true".to_owned(), Some("nothing of the requester")),
        ("principal == Requester::\"a\"", "true".to_owned(), Some("never applies")),
        ("principal", psql.to_owned(), Some("whoever can start this program")),
        ("principal in User::\"1000\"", psql.to_owned(), Some("whoever can start this program")),
        ("principal in User::\"1000\"", "true".to_owned(), None),
        ("principal in Unit::\"a.service\"", psql.to_owned(), None),
        ("principal", format!("{psql} && principal in Unit::\"a.service\""), None),
        ("principal", format!("{psql} && context has tty && context.tty == \"tty1\""), None),
        (
            "principal",
            "principal has exe && principal.exe == \"/usr/bin/python3.12\"".to_owned(),
            Some("python3.12 runs whatever"),
        ),
        (
            "principal",
            "context has target && context.target has exe && context.target.exe == \"/bin/bash\""
                .to_owned(),
            Some("bash runs whatever"),
        ),
        (
            "principal",
            "context has target && context.target has script_digest && context.target.script_digest == \"ab\""
                .to_owned(),
            Some("and not what reads it"),
        ),
        (
            "principal in Unit::\"a.service\"",
            "context has target && context.target has script_digest && context.target.script_digest == \"ab\" && \
             context.target has interpreter && context.target.interpreter == \"/bin/bash\""
                .to_owned(),
            None,
        ),
    ] {
        let text = format!("permit({scope}, action, resource) when {{ {condition} }};");
        let policies = policies(&text);
        match says {
            Some(says) => assert!(
                policies.warnings().iter().any(|warning| warning.contains(says)),
                "{text}: {:?}",
                policies.warnings()
            ),
            None => assert_eq!(policies.warnings(), [""; 0], "{text}"),
        }
    }
}
