//! Project and dotenv files, against a fake agent.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{Fake, text};

/// A directory with a project in it, and a state directory beside it.
struct Place {
    fake: Fake,
    dir: tempfile::TempDir,
}

impl Place {
    fn with(toml: &str) -> Self {
        let place = Self { fake: Fake::start(), dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.at("src/deep")).unwrap();
        place.write("jsi.toml", toml);
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("project").join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.at(path), content).unwrap();
    }

    fn jsi(&self, arguments: &[&str]) -> Command {
        let mut command = self.fake.jsi(arguments);
        command
            .current_dir(self.at("src/deep"))
            .env("HOME", self.dir.path())
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.jsi(arguments).output().unwrap()
    }

    #[track_caller]
    fn allow(&self) {
        let out = self.run(&["project", "allow"]);
        assert!(out.status.success(), "{}", text(&out.stderr));
    }

    /// What `jsi exec` gives A and B, or what it says.
    fn exec(&self, flags: &[&str]) -> Result<String, String> {
        let print = ["--", "sh", "-c", "printf '%s|%s' \"$A\" \"$B\""];
        let out = self.run(&[&["exec"], flags, &print[..]].concat());
        match out.status.code() {
            Some(0) => Ok(text(&out.stdout)),
            code => {
                assert_eq!((code, text(&out.stdout).as_str()), (Some(125), ""));
                Err(text(&out.stderr))
            }
        }
    }

    fn asked(&self) -> usize {
        self.fake.state.lock().unwrap().requests.len()
    }
}

const SIMPLE: &str = "[env]\nA = 'u:${jsi:db/orders#user}'\nB = 'plain'\n";

#[test]
fn a_project_is_found_from_below_and_its_variables_are_given() {
    let place = Place::with(SIMPLE);
    place.allow();
    assert_eq!(place.exec(&[]).unwrap(), "u:orders|plain");
    // Flags add to it and override it; without it there is nothing.
    assert_eq!(place.exec(&["-e", "B=db/orders#user"]).unwrap(), "u:orders|orders");
    assert_eq!(place.exec(&["--no-project", "-e", "B=db/orders#user"]).unwrap(), "|orders");
    assert!(place.exec(&["--no-project"]).unwrap_err().contains("no credential is asked for"));
}

#[test]
fn a_project_counts_only_once_allowed_and_anew_after_each_change() {
    let place = Place::with(SIMPLE);
    let said = place.exec(&[]).unwrap_err();
    let path = place.at("jsi.toml").display().to_string();
    assert!(said.contains("is new here"), "{said}");
    assert!(said.contains(&format!("jsi project allow {path}")), "{said}");
    assert!(said.contains("--no-project"), "{said}");
    // Naming the file does not allow it, and neither do other flags.
    assert!(place.exec(&["--project", &path]).is_err());
    assert!(place.exec(&["-e", "B=db/orders#user"]).is_err());
    assert_eq!(place.asked(), 0);
    place.allow();
    assert!(place.exec(&[]).is_ok());
    place.write("jsi.toml", &SIMPLE.replace("'plain'", "'${jsi:other/secret}'"));
    let said = place.exec(&[]).unwrap_err();
    assert!(said.contains("was changed since you allowed it"), "{said}");
    assert_eq!(place.asked(), 1);
    // What was allowed once is allowed, until it is taken back.
    place.write("jsi.toml", SIMPLE);
    assert!(place.exec(&[]).is_ok());
    assert!(place.run(&["project", "deny"]).status.success());
    assert!(place.exec(&[]).is_err());
    assert_eq!(place.run(&["project", "deny"]).status.code(), Some(4));
}

#[test]
fn a_dotenv_file_of_a_project_is_allowed_with_it_and_asked_for_again_when_it_changes() {
    let place = Place::with("dotenv = ['.env', { path = 'local.env', optional = true }]\n");
    place.write(".env", "export A=\"${jsi:db/orders#user}@h\" # c\nB=one\n");
    place.allow();
    assert_eq!(place.exec(&[]).unwrap(), "orders@h|one");
    place.write("local.env", "B=jsi:db/orders#password\n");
    assert!(place.exec(&[]).unwrap_err().contains("local.env is new here"));
    place.allow();
    assert_eq!(place.exec(&[]).unwrap(), "orders@h|s3cr'et \"x\"");
    place.write(".env", "A=jsi:other/secret\n");
    assert!(place.exec(&[]).unwrap_err().contains(".env was changed"));
    fs::remove_file(place.at(".env")).unwrap();
    assert!(place.exec(&[]).unwrap_err().contains(".env: No such file"));
}

#[test]
fn profiles_lie_over_the_rest() {
    let place = Place::with(&format!("{SIMPLE}[profile.ci.env]\nB = 'ci'\n"));
    place.allow();
    assert_eq!(place.exec(&["--profile", "ci"]).unwrap(), "u:orders|ci");
    let said = place.exec(&["--profile", "co"]).unwrap_err();
    assert!(said.contains("did you mean ci?"), "{said}");
}

#[test]
fn ttl_and_scope_are_those_of_each_variable_and_flags_override_them() {
    let place = Place::with(
        "[env]\nA = { ref = 'db/orders', ttl = '15m', scope = { role = 'reader', a = 'b' } }\n\
         B = 'jsi:db/orders'\n",
    );
    place.allow();
    place.exec(&[]).unwrap();
    place.exec(&["--ttl", "1m", "--scope", "role=writer"]).unwrap();
    let state = place.fake.state.lock().unwrap();
    let seen: Vec<_> = state
        .requests
        .iter()
        .map(|r| (r.ttl.map(|ttl| ttl.seconds), r.scope.get("role").map(String::as_str)))
        .collect();
    // Different terms are different leases.
    assert_eq!(
        seen,
        [
            (Some(900), Some("reader")),
            (None, None),
            (Some(60), Some("writer")),
            (Some(60), Some("writer"))
        ]
    );
}

#[test]
fn what_others_could_have_written_is_refused_and_says_who() {
    let set = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let place = Place::with(SIMPLE);
    place.allow();
    set(&place.at("jsi.toml"), 0o666);
    assert!(place.exec(&[]).unwrap_err().contains("can be written by others (mode 0666"));
    set(&place.at("jsi.toml"), 0o644);
    set(&place.at("."), 0o777);
    // Seen from below it is not even looked at; where one stands it is refused.
    assert!(place.exec(&[]).unwrap_err().contains("no credential is asked for"));
    let path = place.at("jsi.toml").display().to_string();
    assert!(place.exec(&["--project", &path]).unwrap_err().contains("can be written by others"));
    set(&place.at("."), 0o755);
    if nix::unistd::geteuid().is_root() {
        chown(place.at("jsi.toml"), Some(20_001), None).unwrap();
        let said = place.exec(&[]).unwrap_err();
        assert!(said.contains("belongs to uid 20001"), "{said}");
    }
    assert_eq!(place.asked(), 0);
}

#[test]
fn a_file_never_sets_what_steers_programs() {
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "JSI_AUTH_SOCK", "NODE_OPTIONS"] {
        let place = Place::with(&format!("[env]\n{name} = '/tmp/x'\n"));
        assert_eq!(place.run(&["project", "allow"]).status.code(), Some(1), "{name}");
        for flags in [&[][..], &["--keep-env"]] {
            let said = place.exec(flags).unwrap_err();
            assert!(said.contains(&format!("jsi.toml:2: {name} is not set by a file")), "{said}");
        }
        place.write("x.env", &format!("{name}=/tmp/x\nA=1\n"));
        let file = place.at("x.env").display().to_string();
        let said = place.exec(&["--no-project", "--env-file", &file]).unwrap_err();
        assert!(said.contains("x.env:1:"), "{said}");
    }
}

#[test]
fn an_env_file_on_the_command_line_needs_no_allowing_and_no_agent_where_it_has_no_reference() {
    let place = Place::with(SIMPLE);
    fs::remove_file(place.at("jsi.toml")).unwrap();
    place.write(".env", "A='x y'\nB=${jsi:db/orders#user}\n");
    place.write("more.env", "B=two\n");
    let (env, more) = (place.at(".env"), place.at("more.env"));
    let (env, more) = (env.to_str().unwrap(), more.to_str().unwrap());
    assert_eq!(place.exec(&["--env-file", env]).unwrap(), "x y|orders");
    assert_eq!(place.exec(&["--env-file", env, "--env-file", more]).unwrap(), "x y|two");
    let mut command = place.jsi(&["exec", "--env-file", more, "--", "sh", "-c", "echo $B"]);
    let out = command.env("JSI_AUTH_SOCK", "/nothing/here").output().unwrap();
    assert_eq!(text(&out.stdout), "two\n", "{}", text(&out.stderr));
}

#[test]
fn a_dry_run_shows_names_and_places_and_asks_for_nothing() {
    let place = Place::with(&format!("{SIMPLE}[fd]\nC = 'jsi:ci/deploy|base64'\n"));
    place.fake.state.lock().unwrap().listed = vec!["db/orders".into()];
    let dry = |more: &[&str]| {
        let flags = ["exec", "--dry-run", "-e", "D=db/orders#password", "--ttl", "5m"];
        place.run(&[&flags[..], more, &["--", "sh"]].concat())
    };
    let out = dry(&[]);
    let shown = text(&out.stdout);
    assert_eq!(out.status.code(), Some(3), "{shown}{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("is not allowed yet"), "{}", text(&out.stderr));
    for part in ["db/orders#user", "ci/deploy|base64", "descriptor", "jsi.toml:2", "--env", "5m"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("s3cr") && !shown.contains("plain"), "{shown}");
    place.allow();
    place.fake.state.lock().unwrap().listed.push("ci/deploy".into());
    let out = dry(&["-o", "json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["items"][0]["name"], "A");
    assert_eq!(json["items"][0]["from"]["line"], 2);
    assert_eq!(json["items"][0]["references"][0]["permitted"], true);
    assert_eq!(json["items"][0]["references"][0]["ttl_s"], 300);
    assert_eq!(json["items"][3]["from"]["flag"], "--env");
    assert_eq!(json["files"][0]["allowed"], true);
    // Without an agent it shows the same, and says what it could not ask.
    let mut command = place.jsi(&["exec", "--dry-run", "--", "sh"]);
    let out = command.env("JSI_AUTH_SOCK", "/nothing/here").output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stderr).contains("could not be asked"), "{}", text(&out.stderr));
    assert_eq!(place.asked(), 0);
}

#[test]
fn project_show_names_files_states_and_profiles() {
    let place = Place::with(&format!("{SIMPLE}[profile.ci.env]\nC = 'jsi:a'\n"));
    let out = place.run(&["project", "show"]);
    let shown = text(&out.stdout);
    assert!(shown.contains("not allowed yet") && shown.contains("profiles: ci"), "{shown}");
    place.allow();
    let out = place.run(&["project", "show", "--profile", "ci", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json["files"][0]["allowed"], true);
    assert_eq!(json["items"][2]["name"], "C");
    let out = place.jsi(&["project", "show"]).current_dir("/").output().unwrap();
    assert_eq!(out.status.code(), Some(4));
}

#[test]
fn a_home_that_cannot_be_written_says_so_and_allows_nothing() {
    let place = Place::with(SIMPLE);
    fs::write(place.dir.path().join(".local"), "in the way").unwrap();
    let out = place.run(&["project", "allow"]);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.contains("cannot") && said.contains(".local/state/jsi/allowed"), "{said}");
    let out = place.jsi(&["exec", "--", "true"]).env_remove("HOME").output().unwrap();
    assert_eq!(out.status.code(), Some(125));
    assert!(text(&out.stderr).contains("neither HOME nor XDG_STATE_HOME"));
}

#[test]
fn mistakes_are_named_by_file_line_and_column() {
    let place = Place::with("[env]\nA = 'jsi:DB'\n");
    let said = place.exec(&[]).unwrap_err();
    assert!(said.contains("jsi.toml:2:5: this is no reference"), "{said}");
    place.write("jsi.toml", "dotenv = ['.env']\n");
    place.write(".env", "A=1\nB=\"x${jsi:db/orders\"\n");
    let said = place.exec(&[]).unwrap_err();
    assert!(said.contains(".env:2:5: a reference is not closed"), "{said}");
}

#[test]
fn files_and_templates_of_a_project_are_given_as_paths_and_allowed_with_it() {
    let place = Place::with(
        "[file]\nA = 'x ${jsi:db/orders#user} y'\n[template]\nB = 'conf/app.yaml.tmpl'\n",
    );
    fs::create_dir(place.at("conf")).unwrap();
    place.write("conf/app.yaml.tmpl", "user: ${jsi:db/orders#user} ${HOME}\n");
    place.allow();
    let print = ["exec", "--", "sh", "-c", "cat $A $B; basename $B"];
    let out = place.run(&print);
    assert_eq!(
        text(&out.stdout),
        "x orders yuser: orders ${HOME}\napp.yaml\n",
        "{}",
        text(&out.stderr)
    );
    // A template says where a secret goes, as the rest does.
    place.write("conf/app.yaml.tmpl", "url: https://evil/${jsi:db/orders}\n");
    let said = place.exec(&[]).unwrap_err();
    assert!(said.contains("app.yaml.tmpl was changed since you allowed it"), "{said}");
    place.write("conf/app.yaml.tmpl", "ok\n  ${jsi:DB}\n");
    assert!(place.exec(&[]).unwrap_err().contains("app.yaml.tmpl:2:9: this is no reference"));
}
