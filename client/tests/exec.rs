//! `jsi exec` against a fake agent: what becomes of flags.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use support::{Fake, text};

const PRINT: [&str; 4] = ["--", "sh", "-c", "printf '%s|' \"$A\" \"$B\""];

#[test]
fn a_variable_is_put_together_from_text_and_several_fields() {
    let fake = Fake::start();
    let url = "A=postgres://${jsi:db/orders#user}:${jsi:db/orders#password|urlencode}@h/$${x}$";
    let out = fake.run(&[&["exec", "-e", url], &PRINT[..]].concat());
    assert_eq!(
        text(&out.stdout),
        "postgres://orders:s3cr%27et%20%22x%22@h/${x}$||",
        "{}",
        text(&out.stderr)
    );
    // One lease for both fields, and no more of the secret than was asked for.
    let state = fake.state.lock().unwrap();
    let [request] = state.requests.as_slice() else { panic!("{:?}", state.requests) };
    assert_eq!(request.fields, ["user", "password"]);
}

#[test]
fn each_way_of_delivery_has_a_lease_of_its_own() {
    let fake = Fake::start();
    let script = "printf '%s|' \"$A\" \"$(cat $B)\"";
    let flags = ["exec", "-e", "A=a#user", "--fd", "B=${jsi:a#user|base64}", "--", "sh", "-c"];
    let out = fake.run(&[&flags[..], &[script]].concat());
    assert_eq!(text(&out.stdout), "orders|b3JkZXJz|", "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().requests.len(), 2);
}

#[test]
fn references_in_the_environment_are_resolved_only_when_asked_for() {
    let fake = Fake::start();
    let run = |flags: &[&str]| {
        let mut command = fake.jsi(&[&["exec", "-e", "X=db/orders"], flags, &PRINT[..]].concat());
        command.env("A", "jsi:db/orders#user").env("B", "u=${jsi:db/orders#user} ${HOME}");
        text(&command.output().unwrap().stdout)
    };
    assert_eq!(run(&[]), "jsi:db/orders#user|u=${jsi:db/orders#user} ${HOME}|");
    assert_eq!(run(&["--env-refs"]), "orders|u=orders ${HOME}|");
    // What a flag names is the flag's.
    assert_eq!(run(&["--env-refs", "-e", "A=db/orders"]), "s3cr'et \"x\"|u=orders ${HOME}|");
}

#[test]
fn what_a_variable_cannot_hold_is_given_back_and_said() {
    let fake = Fake::start();
    let run = || fake.run(&["exec", "-e", "A=db/orders#key", "--", "true"]);
    for (value, said) in [(vec![b'x', 0], "zero byte"), (vec![b'x'; 128 * 1024], "128 KiB")] {
        fake.state.lock().unwrap().fields = vec![("key".into(), value, true)];
        let out = run();
        assert_eq!(out.status.code(), Some(125));
        let stderr = text(&out.stderr);
        assert!(stderr.contains(said) && stderr.contains("--fd"), "{stderr}");
        assert_eq!(fake.state.lock().unwrap().released.len(), 1);
        fake.state.lock().unwrap().released.clear();
    }
    // Bytes that are no text go through; so does the longest value there can be.
    for value in [b"\xff\n\x01'\"".to_vec(), vec![b'x'; 128 * 1024 - 3]] {
        fake.state.lock().unwrap().fields = vec![("key".into(), value.clone(), true)];
        let print = ["--", "sh", "-c", "printf '%s' \"$A\""];
        let out = fake.run(&[&["exec", "-e", "A=db/orders#key"], &print[..]].concat());
        assert!(out.stdout == value, "{}", text(&out.stderr));
    }
}

#[test]
fn hundreds_of_variables_need_one_lease_of_one_credential() {
    let fake = Fake::start();
    let mut arguments = vec!["exec".to_owned()];
    for number in 0..300 {
        arguments.extend(["-e".to_owned(), format!("V{number}=db/orders#user")]);
    }
    arguments.extend(["--", "sh", "-c", "env | grep -c '^V[0-9]*=orders$'"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = fake.run(&arguments);
    assert_eq!(text(&out.stdout), "300\n", "{}", text(&out.stderr));
    assert_eq!(fake.state.lock().unwrap().requests.len(), 1);
}

#[test]
fn variables_that_are_too_long_together_are_said_and_given_back() {
    let fake = Fake::start();
    fake.state.lock().unwrap().fields = vec![("key".into(), vec![b'x'; 127 * 1024], true)];
    let mut arguments = vec!["exec".to_owned()];
    for number in 0..80 {
        arguments.extend(["-e".to_owned(), format!("V{number}=db/orders")]);
    }
    arguments.extend(["--", "true"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = fake.run(&arguments);
    assert_eq!(out.status.code(), Some(126));
    let stderr = text(&out.stderr);
    assert!(stderr.contains("too long") && stderr.contains("--fd"), "{stderr}");
    assert_eq!(fake.state.lock().unwrap().released.len(), 1);
}
