use super::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Home {
    dir: tempfile::TempDir,
    env: Environment,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let env = Environment {
            euid: nix::unistd::geteuid().as_raw(),
            home: Some(dir.path().to_owned()),
            runtime_dir: Some(dir.path().join("run")),
            config_home: None,
            state_home: None,
            data_home: None,
            agent_exe: Some(PathBuf::from("/opt/jsi/jsi-agent")),
            host_file: dir.path().join("etc/agent.toml"),
        };
        Self { dir, env }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.dir.path().join("given.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        load_in(Some(&self.file(text)), None, &self.env)
    }

    fn refusal(&self, text: &str) -> String {
        self.load(text).expect_err("this configuration must be refused").to_string()
    }
}

#[test]
fn nothing_configured_means_a_user_agent_with_built_in_places() {
    let home = Home::new();
    let config = load_in(None, None, &home.env).unwrap();
    let at = |path: &str| home.dir.path().join(path);
    assert_eq!(config.mode, Mode::User);
    assert_eq!(config.source, None);
    assert_eq!(config.socket, at("run/jsi/agent.sock"));
    assert_eq!(config.admin_socket, at("run/jsi/admin.sock"));
    assert_eq!(config.policy_dir, at(".config/jsi/policy.d"));
    assert_eq!(config.identity, at(".config/jsi/identity"));
    assert_eq!(config.store_dir, at(".local/share/jsi/store"));
    assert_eq!(config.log_dir, at(".local/state/jsi/log"));
    assert_eq!(config.enrolled_clients, [Path::new("/opt/jsi/jsi")]);
    assert_eq!(config.limits, Limits::default());
    assert!(!config.dedicated_uid);
}

#[test]
fn without_a_runtime_directory_the_sockets_are_not_below_tmp() {
    let mut home = Home::new();
    home.env.runtime_dir = None;
    let config = load_in(None, None, &home.env).unwrap();
    assert_eq!(config.socket, home.dir.path().join(".local/state/jsi/run/agent.sock"));
    home.env.home = None;
    assert!(matches!(load_in(None, None, &home.env), Err(ConfigError::NoDirectory { .. })));
}

#[test]
fn the_commented_example_is_a_valid_configuration_with_the_built_in_limits() {
    let home = Home::new();
    let text = include_str!("../../../contrib/examples/agent.toml");
    let config = home.load(text).unwrap();
    assert_eq!(config.limits, Limits::default());
    let (_, orders) = config.credentials.first_key_value().unwrap();
    assert_eq!(orders.owner, "orders team");
    assert_eq!(orders.lifetimes.max_ttl, Duration::from_secs(8 * 3600));

    // What is commented out is valid too, but for what needs root or accounts.
    let skip =
        ["user =", "admin_group", "isolated_uids", "listed_libraries", "enforced_", "rsa_bits"];
    let mut all = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").filter(|bare| bare.contains(" = "));
        match bare {
            Some(bare) if !skip.iter().any(|key| bare.starts_with(key)) => all.push_str(bare),
            _ => all.push_str(line),
        }
        all.push('\n');
    }
    let config = home.load(&all).unwrap();
    assert_eq!(config.socket, Path::new("/run/jsi/agent.sock"));
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_key_that_was_meant() {
    let home = Home::new();
    let error = home.refusal("[agent]\nmode = \"user\"\nsokcet = \"/run/x\"\n");
    assert!(
        error.contains("given.toml:3:1: unknown key `sokcet`; did you mean `socket`?"),
        "{error}"
    );
    assert!(error.contains("3 | sokcet = \"/run/x\"\n    | ^"), "{error}");
    for text in [
        "[agnet]\n",
        "[limits]\nconections = 3\n",
        "[credentials.\"a/b\"]\nowner = \"a\"\npurpose = \"b\"\nttl = \"1h\"\n",
        "colour = 1\n",
    ] {
        assert!(home.refusal(text).contains("unknown key"), "{text}");
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused_with_its_line() {
    let home = Home::new();
    for (text, line, says) in [
        ("[agent]\nsocket = \"run/x\"\n", 2, "relative path"),
        ("[agent]\n\nmode = \"hots\"\n", 3, "did you mean `host`?"),
        ("[agent]\nstop_timeout = \"20\"\n", 2, "no unit"),
        ("[agent]\nstop_timeout = \"0s\"\n", 2, "zero"),
        ("[agent]\nmax_ttl = 3600\n", 2, "string"),
        ("[agent]\ndefault_ttl = \"2h\"\nmax_ttl = \"1h\"\n", 2, "longer than max_ttl"),
        ("[agent]\ndefault_ttl = \"2d\"\n", 2, "longer than the max_ttl"),
        ("[limits]\nconnections = 0\n", 2, "not within 1"),
        ("[limits]\nleases = -1\n", 2, "invalid value"),
        ("[limits]\nsecret_bytes = 100000000\n", 2, "not within 1"),
        ("[credentials.\"DB\"]\nowner=\"a\"\npurpose=\"b\"\n", 1, "not a credential name"),
        ("[credentials.\"db\"]\nowner=\" \"\npurpose=\"b\"\n", 2, "owner is empty"),
        ("[credentials.\"db\"]\nowner=\"a\"\n", 1, "missing field `purpose`"),
        ("[credentials.\"db\"]\nissuer=\"vault\"\nowner=\"a\"\npurpose=\"b\"\n", 2, "no issuer"),
        ("[agent]\nadmin_group = \"no such group here\"\n", 2, "groupadd"),
        ("[agent\n", 1, ""),
    ] {
        let error = home.refusal(text);
        assert!(error.contains(&format!("given.toml:{line}:")), "{text}: {error}");
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// An issuer of tokens and a credential of it, with more keys of each.
fn tokens(issuer: &str, credential: &str) -> String {
    format!(
        "[issuers.internal]\nkind = \"jwt\"\niss = \"https://jsi.example.org\"\n{issuer}\n\
         [credentials.\"svc/api\"]\nissuer = \"internal\"\nowner = \"a\"\npurpose = \"b\"\n\
         audiences = [\"https://api\"]\nsubject = \"uid:{{{{requester.uid}}}}\"\n{credential}"
    )
}

#[test]
fn an_issuer_is_named_and_its_credentials_say_what_it_needs() {
    let home = Home::new();
    let text = tokens(
        "algorithm = \"RS256\"\nrsa_bits = 3072\nrotate_after = \"30d\"\nmax_ttl = \"10m\"",
        "scope = [\"role\"]\nclaims = { role = \"{{scope.role}}\", n = 3, list = [\"{{host}}\"] }",
    );
    let config = home.load(&text).unwrap();
    let (name, issuer) = config.issuers.first_key_value().unwrap();
    assert_eq!((name.as_str(), issuer.kind()), ("internal", "jwt"));
    let IssuerConfig::Jwt(jwt) = issuer;
    assert_eq!((jwt.algorithm, jwt.rsa_bits), (Algorithm::Rs256, 3072));
    assert_eq!(jwt.jwks_uri, "https://jsi.example.org/.well-known/jwks.json");
    assert_eq!(jwt.publish_ahead, Duration::from_secs(24 * 3600));
    let (_, credential) = config.credentials.first_key_value().unwrap();
    assert_eq!(credential.issuer.as_str(), "internal");
    // What is said nowhere is cut to what the issuer grants.
    assert_eq!(credential.lifetimes.max_ttl, Duration::from_secs(600));
    assert_eq!(credential.lifetimes.default_ttl, Duration::from_secs(600));
    let CredentialSettings::Jwt(settings) = &credential.settings else { panic!() };
    assert_eq!(settings.audiences, ["https://api"]);
    assert_eq!(settings.claims.len(), 3);
    let IssuerConfig::Jwt(jwt) = &home.load(&tokens("", "")).unwrap().issuers[name];
    assert_eq!((jwt.algorithm, jwt.rotate_after), (Algorithm::Es256, None));
}

#[test]
fn an_issuer_or_credential_that_cannot_be_meant_is_refused_with_its_line() {
    let home = Home::new();
    let bare = |text: &str| format!("[issuers.x]\n{text}\n");
    let cases = [
        (bare(""), 1, "kind is missing; it is one of jwt"),
        (bare("kind = \"jwtt\""), 2, "did you mean jwt?"),
        (bare("kind = \"vault\""), 2, "known: jwt"),
        (bare("kind = \"jwt\""), 1, "missing field `iss`"),
        ("[issuers.store]\nkind = \"jwt\"\n".into(), 1, "store is built in"),
        ("[issuers.\"A b\"]\nkind = \"jwt\"\n".into(), 1, "not an issuer's name"),
        ("issuers = 3\n".into(), 1, "to be a table"),
        (tokens("algorith = \"ES256\"", ""), 4, "did you mean `algorithm`?"),
        (tokens("algorithm = \"HS256\"", ""), 4, "did you mean `ES256`?"),
        (tokens("algorithm = \"none\"", ""), 4, "EdDSA, ES256, RS256"),
        (tokens("rsa_bits = 2048", ""), 4, "RS256"),
        (tokens("algorithm = \"RS256\"\nrsa_bits = 1024", ""), 5, "2048, 3072 or 4096"),
        (tokens("token_type = \"a b\"", ""), 4, "media type"),
        (tokens("max_ttl = \"10ms\"", ""), 4, "1s or more"),
        (tokens("backdate = \"1h\"", ""), 4, "at most 5m"),
        (tokens("rotate_after = \"1h\"", ""), 4, "longer than publish_ahead"),
        (tokens("jwks_file = \"keys.json\"", ""), 4, "relative path"),
        (tokens("jwks_file = \"/a\"\ndiscovery_file = \"/a\"", ""), 1, "two settings name"),
        (tokens("jwks_uri = \"http://x.org/k\"", ""), 4, "https://"),
        (tokens("", "claims = { sub = \"root\" }"), 11, "the claim sub is the agent's own"),
        (tokens("", "claims = { exp = 1 }"), 11, "the agent's own"),
        (tokens("", "claims = { a = \"{{requester.uidd}}\" }"), 11, "{{requester.uid}}?"),
        (tokens("", "claims = { a = \"{{scope.role}}\" }"), 11, "scope = "),
        (tokens("", "claims = { a = 1.5 }"), 11, "as a text"),
        (tokens("", "claims = { a = [[[[[1]]]]] }"), 11, "nested"),
        (tokens("", "claims = \"a\""), 11, "invalid type"),
        (tokens("", "scope = [\"audience\"]"), 11, "taken anyway"),
        (tokens("", "scope = [\"a b\"]"), 11, "scope key"),
        (tokens("", "audience = \"x\""), 11, "did you mean `audiences`?"),
        (tokens("", "max_ttl = \"2h\""), 11, "longer than that of its issuer internal (1h)"),
        (tokens("", "").replace("[\"https://api\"]", "[]"), 9, "audiences is empty"),
        (tokens("", "").replace("[\"https://api\"]", "[\"\"]"), 9, "an audience is"),
        (tokens("", "").replace("audiences = [\"https://api\"]\n", ""), 5, "`audiences`"),
        (tokens("", "").replace("uid:{{requester.uid}}", ""), 10, "subject is empty"),
        (tokens("", "").replace("issuer = \"internal\"", "issuer = \"store\""), 9, "unknown key"),
        (
            tokens("", "").replace("issuer = \"internal\"", "issuer = \"other\""),
            6,
            "known: store, internal",
        ),
        (tokens("", "").replace("https://jsi.example.org", "jsi"), 3, "URL"),
        (tokens("", "").replace("https://jsi.example.org", "http://jsi.org"), 3, "https://"),
        (tokens("", "").replace("https://jsi.example.org", "https://a?b"), 3, "no user, query"),
        (tokens("", "").replace("https://jsi.example.org", "https://"), 3, "a host"),
    ];
    for (text, line, says) in cases {
        let error = home.refusal(&text);
        assert!(error.contains(&format!("given.toml:{line}:")), "{text}\n{error}");
        assert!(error.contains(says), "{says}: {text}\n{error}");
    }
}

#[test]
fn a_file_that_others_may_write_is_refused_and_not_warned_about() {
    let home = Home::new();
    let path = home.file("[agent]\n");
    for mode in [0o666, 0o622, 0o660] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = load_in(Some(&path), None, &home.env).unwrap_err();
        assert!(matches!(error, ConfigError::Trust(TrustError::Writable { .. })), "{error}");
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }
}

#[test]
fn a_named_file_that_is_missing_is_an_error_and_never_the_defaults() {
    let home = Home::new();
    let path = home.dir.path().join("none.toml");
    assert!(matches!(load_in(Some(&path), None, &home.env), Err(ConfigError::Missing(_))));
}

#[test]
fn a_default_file_that_cannot_be_read_is_an_error_and_never_the_defaults() {
    let home = Home::new();
    std::fs::create_dir_all(home.dir.path().join(".config/jsi/agent.toml")).unwrap();
    assert!(matches!(load_in(None, None, &home.env), Err(ConfigError::Trust(_))));
}

#[test]
fn listed_libraries_are_digests_in_a_file_that_root_owns() {
    let home = Home::new();
    let hex = "ab".repeat(32);
    let path = home.file(&format!("[agent]\nlisted_libraries = [\"{hex}\"]\n"));
    if nix::unistd::geteuid().is_root() {
        let config = load_in(Some(&path), None, &home.env).unwrap();
        assert!(config.listed_libraries.contains(&[0xab; 32]));
        let wrong = home.file("[agent]\nlisted_libraries = [\"/usr/lib/libc.so.6\"]\n");
        let error = load_in(Some(&wrong), None, &home.env).unwrap_err().to_string();
        assert!(error.contains("is not a SHA-256"), "{error}");
        let path = home.file(&format!("[agent]\nlisted_libraries = [\"{hex}\"]\n"));
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        std::os::unix::fs::chown(home.dir.path(), Some(4711), None).unwrap();
    }
    let euid = std::fs::metadata(&path).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    let env = Environment { euid, ..home.env.clone() };
    let error = load_in(Some(&path), None, &env).unwrap_err().to_string();
    assert!(error.contains("only in a file that root owns"), "{error}");
}

#[test]
fn what_gives_level_4_counts_only_in_a_file_that_root_owns() {
    for text in ["enforced_labels = [\"psql_t\"]", "enforced_ima = true"] {
        let home = Home::new();
        let path = home.file(&format!("[agent]\n{text}\n"));
        if nix::unistd::geteuid().is_root() {
            let config = load_in(Some(&path), None, &home.env).unwrap();
            assert!(config.enforced_ima != config.enforced_labels.contains("psql_t"));
            std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
            std::os::unix::fs::chown(home.dir.path(), Some(4711), None).unwrap();
        }
        let owner = std::fs::metadata(&path).unwrap();
        let euid = std::os::unix::fs::MetadataExt::uid(&owner);
        let env = Environment { euid, ..home.env.clone() };
        let error = load_in(Some(&path), None, &env).unwrap_err().to_string();
        assert!(error.contains("only in a file that root owns"), "{error}");
    }
    let home = Home::new();
    let path = home.file("[agent]\nenforced_labels = [\" psql_t\"]\n");
    if nix::unistd::geteuid().is_root() {
        let error = load_in(Some(&path), None, &home.env).unwrap_err().to_string();
        assert!(error.contains("is no label"), "{error}");
    }
}

#[test]
fn isolated_uids_do_not_count_in_a_file_that_root_does_not_own() {
    let home = Home::new();
    let path = home.file("[agent]\nisolated_uids = [991]\n");
    if nix::unistd::geteuid().is_root() {
        let config = load_in(Some(&path), None, &home.env).unwrap();
        assert!(config.isolated_uids.contains(&991));
        std::os::unix::fs::chown(&path, Some(4711), None).unwrap();
        std::os::unix::fs::chown(home.dir.path(), Some(4711), None).unwrap();
    }
    let euid = std::fs::metadata(&path).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    let env = Environment { euid, ..home.env.clone() };
    let error = load_in(Some(&path), None, &env).unwrap_err().to_string();
    assert!(error.contains("only in a file that root owns"), "{error}");
}

#[test]
fn a_mode_that_was_asked_for_and_one_that_the_file_says_do_not_differ() {
    let home = Home::new();
    let path = home.file("[agent]\nmode = \"user\"\n");
    let error = load_in(Some(&path), Some(Mode::Host), &home.env).unwrap_err().to_string();
    assert!(error.contains("mode = \"user\", but a host agent was asked for"), "{error}");
}

#[test]
fn a_host_agent_does_not_run_as_root_or_as_nobody_it_knows() {
    let mut home = Home::new();
    home.env.euid = 0;
    if !nix::unistd::geteuid().is_root() {
        return; // the file must be root's to be read in this test
    }
    let refused =
        |user: &str| home.refusal(&format!("[agent]\nmode = \"host\"\nuser = \"{user}\"\n"));
    assert!(refused("root").contains("uid 0"));
    assert!(refused("no-such-user-here").contains("useradd --system"));
}

#[test]
fn a_host_agent_has_the_places_of_a_host() {
    let mut home = Home::new();
    home.env.euid = 4711;
    let config = load_in(None, Some(Mode::Host), &home.env).unwrap();
    assert_eq!(config.socket, Path::new("/run/jsi/agent.sock"));
    assert_eq!(config.log_dir, Path::new("/var/lib/jsi/log"));
    assert_eq!(config.genuine_clients.len(), 2);
    assert!(config.enrolled_clients.is_empty());
    assert!(config.run_as.is_none() && !config.dedicated_uid);
    assert!(advisory(&config).iter().any(|reason| reason.contains("not a uid of its own")));
}

#[test]
fn a_user_agent_is_advisory_and_says_concretely_why() {
    let home = Home::new();
    let mut config = load_in(None, None, &home.env).unwrap();
    std::fs::create_dir_all(config.policy_dir.clone()).unwrap();
    std::fs::write(&config.identity, "AGE-SECRET-KEY-1…").unwrap();
    let reasons = advisory(&config);
    for says in ["identity key file", "policy directory", "not authenticated"] {
        assert!(reasons.iter().any(|reason| reason.contains(says)), "{says}: {reasons:?}");
    }
    std::fs::write(&config.identity, "age-encryption.org/v1\n-> scrypt").unwrap();
    assert!(!advisory(&config).iter().any(|reason| reason.contains("identity key file")));
    config.dedicated_uid = true;
    assert!(advisory(&config).is_empty());
}
