//! A service calls another with a token that was minted from its attested
//! identity. The callee is a real HTTP server, and PyJWT decides there, not we.

use jsi_proto::v1::RotateJwtKeysRequest;
use jsi_tests::{Client, Host, PEERS, Setup, needs_root, not_run, permit};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ISS: &str = "https://jsi.example.org";
const ORDERS: &str = "https://orders.example.org";
const STOCK: &str = "https://stock.example.org";

/// python with PyJWT, where tests/peers/prepare has put it.
fn python() -> Option<PathBuf> {
    let place = std::env::var_os("JSI_PEERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"),
        PathBuf::from,
    );
    let python = place.join("python/bin/python");
    let mut has = Command::new(&python);
    has.args(["-c", "import jwt, cryptography"]).stderr(Stdio::null());
    has.status().is_ok_and(|status| status.success()).then_some(python)
}

fn script(name: &str) -> String {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python");
    peers.join(name).display().to_string()
}

/// The directory where verifiers find the keys.
fn public(host: &Host) -> PathBuf {
    host.world.path().join("public")
}

/// A host agent with an issuer of tokens, not started: `issuer` and `credential`
/// are more keys of theirs.
fn installed(issuer: &str, credential: &str) -> Host {
    let host = Setup::host().install();
    let public = public(&host);
    std::fs::create_dir(&public).unwrap();
    host.world.give(&public);
    let text = format!(
        "[issuers.internal]\nkind = \"jwt\"\niss = \"{ISS}\"\nmax_ttl = \"1h\"\n\
         jwks_file = \"{0}/jwks.json\"\ndiscovery_file = \"{0}/openid-configuration\"\n{issuer}\n\
         [credentials.\"svc/orders\"]\nissuer = \"internal\"\nowner = \"tests\"\n\
         purpose = \"calls\"\naudiences = [\"{ORDERS}\", \"{STOCK}\"]\n\
         subject = \"uid:{{{{requester.uid}}}}\"\n{credential}\n",
        public.display()
    );
    append(&host, &text);
    let shell = host.world.bin("shell");
    host.world.write_policy("orders", &permit(PEERS[0].uid, "svc/orders", &shell));
    host
}

fn append(host: &Host, text: &str) {
    let path = host.world.config();
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, before + text).unwrap();
}

fn started(issuer: &str, credential: &str) -> Host {
    let mut host = installed(issuer, credential);
    host.start();
    host
}

/// A callee that accepts tokens for one audience by the keys of one agent.
struct Callee {
    process: Child,
    port: String,
    python: PathBuf,
}

impl Callee {
    fn of(host: &Host, python: &Path, audience: &str) -> Self {
        let mut process = Command::new(python)
            .args([script("callee.py"), public(host).join("jwks.json").display().to_string()])
            .args([ISS, audience])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().to_owned(), python: python.to_owned() }
    }

    /// Peer 0's shell asks for a token and a program of it calls with that.
    fn called_with(&self, host: &Host, get: &str) -> (u16, Value) {
        let call = format!("{} {} {}", self.python.display(), script("caller.py"), self.port);
        let said = host.shell(PEERS[0], &format!("{get} | {call}")).run().succeeded();
        let (code, body) = said.stdout.split_once(' ').unwrap();
        (code.parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    /// A call with that token.
    fn called(&self, host: &Host, token: &str) -> (u16, Value) {
        let call = host.program(PEERS[0], &self.python).args([&script("caller.py"), &self.port]);
        let said = call.input(token).run().succeeded();
        let (code, body) = said.stdout.split_once(' ').unwrap();
        (code.parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

const GET: &str = "jsi get svc/orders --scope audience=https://orders.example.org";

fn token(host: &Host, more: &str) -> String {
    let got = host.shell(PEERS[0], &format!("{GET} {more}")).run().succeeded();
    got.stdout.trim().to_owned()
}

fn refused(answer: (u16, Value), why: &str) {
    assert_eq!((answer.0, &answer.1["refused"]), (401, &Value::from(why)), "{}", answer.1);
}

/// Everything between two services, by one algorithm.
fn exchange(algorithm: &str) {
    let Some(python) = python() else {
        return not_run(module_path!(), line!(), "PyJWT is not installed (tests/peers/prepare)");
    };
    let claims = "claims = { exe = \"{{requester.exe}}\", uid = \"{{requester.uid}}\", \
                  level = \"{{assurance}}\", lease = \"{{lease}}\" }";
    let issuer = format!("algorithm = \"{algorithm}\"\ntoken_type = \"at+jwt\"");
    let host = started(&issuer, claims);
    let (orders, stock) = (Callee::of(&host, &python, ORDERS), Callee::of(&host, &python, STOCK));

    let (code, said) = orders.called_with(&host, GET);
    assert_eq!(code, 200, "{said}");
    let claims = &said["claims"];
    assert_eq!(claims["sub"], format!("uid:{}", PEERS[0].uid));
    assert_eq!(claims["uid"], PEERS[0].uid, "a number stays one");
    assert_eq!(claims["exe"], host.world.bin("shell").display().to_string());
    assert_eq!(claims["level"], 1);
    assert_eq!(claims["jti"], claims["lease"]);
    assert_eq!(
        (&said["header"]["alg"], &said["header"]["typ"]),
        (&algorithm.into(), &"at+jwt".into())
    );
    let granted = host.await_record("granted", claims["jti"].as_str().unwrap());
    assert_eq!(granted["lease"]["handle"]["kid"], said["header"]["kid"]);
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert!(life * 1_000 <= granted["lease"]["ttl_ms"].as_u64().unwrap());

    // Another audience, another key, a changed claim, no token.
    let good = token(&host, "");
    refused(stock.called(&host, &good), "InvalidAudienceError");
    let other = started(&issuer, "");
    refused(orders.called(&host, &token(&other, "")), "KeyError");
    let another = token(&host, "--new");
    let signature = another.rsplit_once('.').unwrap().1;
    let mixed = format!("{}.{signature}", good.rsplit_once('.').unwrap().0);
    refused(orders.called(&host, &mixed), "InvalidSignatureError");
    assert_eq!(orders.called(&host, "x.y.z").0, 401);
    let none = good.replacen(good.split('.').next().unwrap(), "eyJhbGciOiJub25lIn0", 1);
    assert_eq!(orders.called(&host, &none).0, 401);

    // What has expired.
    let brief = token(&host, "--new --ttl 1s");
    std::thread::sleep(Duration::from_millis(2_100));
    refused(orders.called(&host, &brief), "ExpiredSignatureError");

    // The next key is published and does not sign yet; then it does, and what the
    // earlier one signed is still believed; until an operator takes that back.
    host.admin(["jwt", "rotate"]).run().succeeded();
    let kid = |token: &str| orders.called(&host, token).1["header"]["kid"].clone();
    let old = token(&host, "--new");
    assert_eq!(kid(&old), kid(&good));
    host.admin(["jwt", "rotate", "internal", "--now"]).run().succeeded();
    let new = token(&host, "--new");
    assert_ne!(kid(&new), kid(&old));
    for token in [&old, &new] {
        assert_eq!(orders.called(&host, token).0, 200);
    }
    host.admin(["jwt", "rotate", "--now", "--withdraw"]).run().succeeded();
    for token in [&old, &new] {
        refused(orders.called(&host, token), "KeyError");
    }
    assert_eq!(orders.called_with(&host, GET).0, 200, "what was held is not handed out again");
    host.admin(["audit", "verify"]).run().succeeded().without(&good);
    let made = host.records().iter().filter(|r| r["kind"] == "signing_key").count();
    assert_eq!(made, 3 + 4 + 2, "made, scheduled (one of them twice), withdrawn");
}

#[test]
fn workload_identity_exchange_by_eddsa() {
    needs_root!();
    exchange("EdDSA");
}

#[test]
fn workload_identity_exchange_by_es256() {
    needs_root!();
    exchange("ES256");
}

#[test]
fn workload_identity_exchange_by_rs256() {
    needs_root!();
    exchange("RS256");
}

#[test]
fn who_is_not_permitted_learns_nothing_of_audiences_and_who_is_learns_which() {
    needs_root!();
    let host = started("", "scope = [\"role\"]\nclaims = { role = \"{{scope.role}}\" }");
    let evil = "jsi get svc/orders --scope audience=https://evil.example.org --scope role=a";
    let denied = host.shell(PEERS[1], evil).run().coded(3).says("jsi explain");
    assert!(!denied.stderr.contains(ORDERS), "{denied}");
    host.shell(PEERS[0], evil).run().coded(2).says(ORDERS).says(STOCK);
    host.shell(PEERS[0], "jsi get svc/orders --scope role=a")
        .run()
        .coded(2)
        .says("--scope audience=");
    // A fact that a claim needs and that is not there.
    host.shell(PEERS[0], GET).run().coded(3).says("--scope role=");
    let record = host.await_record("denied", "FACT_MISSING");
    assert_eq!(record["credential"], "svc/orders");
    host.shell(PEERS[0], &format!("{GET} --scope team=a")).run().coded(2).says("audience, role");
    // What a requester says is data.
    let hostile = format!("{GET} --scope 'role={{{{requester.uid}}}}\",\"uid\":\"0'");
    let got = host.shell(PEERS[0], &hostile).run().succeeded().stdout;
    assert_eq!(claims(&got)["role"], "{{requester.uid}}\",\"uid\":\"0");
    assert!(claims(&got).get("uid").is_none());
}

/// What a token says, not verified.
fn claims(token: &str) -> Value {
    let payload = token.trim().split('.').nth(1).unwrap();
    let out = Command::new("/usr/bin/python3")
        .args(["-c", "import base64,sys; p=sys.argv[1]; sys.stdout.write(base64.urlsafe_b64decode(p+'='*(-len(p)%4)).decode())", payload])
        .output()
        .unwrap();
    serde_json::from_slice(&out.stdout).unwrap()
}

#[test]
fn a_lease_on_a_token_says_that_it_cannot_be_revoked_or_renewed() {
    needs_root!();
    let host = started("", "");
    let script = format!(
        "{GET} >/dev/null; jsi leases; jsi leases -o json >&2; \
         id=$(jsi leases -o json | grep -o 'svc/orders/[a-z2-7]*' | head -1); \
         jsi renew $id; echo renew $?; {GET} -o json | cat; {GET} -o json | cat"
    );
    let got = host.shell(PEERS[0], &script).run();
    assert!(got.stdout.contains("dynamic, not revocable"), "{got}");
    assert!(got.stderr.contains("\"revocation\": \"none\""), "{got}");
    assert!(got.stderr.contains("it cannot be revoked"), "{got}");
    assert!(got.stderr.contains("cannot be renewed; ask for a new one"), "{got}");
    assert!(got.stdout.contains("renew 1"), "{got}");
    assert!(
        got.stdout.contains("\"reused\": true") || got.stdout.contains("\"reused\":true"),
        "{got}"
    );
    let ended = host.await_record("ended", "svc/orders/");
    assert!(
        ended["outcome"].as_str().unwrap().starts_with("not revocable: valid until 2"),
        "{ended}"
    );
    // The other fields are open; explain goes on working.
    let open = host.shell(
        PEERS[0],
        "jsi get 'svc/orders#audience' --scope audience=https://stock.example.org",
    );
    open.run().succeeded().printed(STOCK);
    let request = host.await_record("granted", "svc/orders/")["lease"]["request"].clone();
    let explained = host.admin(["explain", request.as_str().unwrap()]).run().succeeded();
    assert!(explained.stdout.contains("permitted"), "{explained}");
}

#[test]
fn a_command_gets_a_token_that_names_it() {
    needs_root!();
    let host = started("", "claims = { target = \"{{target.exe}}\" }");
    let exec = "jsi exec --scope audience=https://orders.example.org -e TOKEN=svc/orders -- /usr/bin/printenv TOKEN";
    let got = host.shell(PEERS[0], exec).run().succeeded();
    assert_eq!(claims(&got.stdout)["target"], "/usr/bin/printenv");
    // Another target is another token, though the same shell holds one already.
    let two = format!(
        "{exec} >/dev/null; jsi exec --scope audience=https://orders.example.org -e TOKEN=svc/orders -- /usr/bin/env"
    );
    let got = host.shell(PEERS[0], &two).run().succeeded();
    let line = got.stdout.lines().find_map(|line| line.strip_prefix("TOKEN=")).unwrap();
    assert_eq!(claims(line)["target"], "/usr/bin/env");
    host.shell(PEERS[0], GET).run().coded(3).says("jsi exec");
}

#[test]
fn a_locked_agent_mints_nothing_and_still_publishes() {
    needs_root!();
    let host = started("", "");
    let before = host.shell(PEERS[1], "jsi jwt jwks").run().succeeded().stdout;
    token(&host, "");
    host.admin(["lock"]).run().succeeded();
    host.shell(PEERS[0], GET).run().coded(6);
    host.admin(["jwt", "rotate"]).run().coded(6);
    // Public keys are for everybody who may connect.
    let locked = host.shell(PEERS[1], "jsi jwt jwks").run().succeeded().stdout;
    assert_eq!(locked, before);
    assert_eq!(std::fs::read_to_string(public(&host).join("jwks.json")).unwrap(), before);
    host.shell(PEERS[1], "jsi jwt rotate").run().coded(5);
    let discovery = host.shell(PEERS[1], "jsi jwt discovery internal").run().succeeded().json();
    assert_eq!(discovery["issuer"], ISS);
    host.shell(PEERS[1], "jsi jwt jwks none").run().coded(4).says("known: internal");
    host.admin(["unlock", "--no-passphrase"]).run().succeeded();
    token(&host, "");
}

#[test]
fn a_tampered_key_file_signs_nothing_and_is_named() {
    needs_root!();
    let mut host = started("", "");
    token(&host, "");
    let kid =
        host.admin(["jwt", "keys", "-o", "json"]).run().succeeded().json()[0]["keys"][0]["kid"]
            .clone();
    host.stop();
    let dir = host.world.store_dir().join("_jwt/internal");
    let file = dir.join(format!("{}.age", kid.as_str().unwrap()));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    host.start();
    host.shell(PEERS[0], GET).run().coded(1).says(".age").says("jsi jwt rotate internal --now");
    host.admin(["jwt", "rotate", "--now"]).run().succeeded();
    token(&host, "");
    // The list of keys itself.
    host.stop();
    std::fs::write(dir.join("keys.json"), "{").unwrap();
    host.start();
    host.shell(PEERS[0], GET).run().coded(1).says("keys.json").says("backup");
    let status = host.admin(["status"]).run().succeeded();
    assert!(status.stdout.contains("keys.json is malformed"), "{status}");
    host.admin(["secret", "ls"]).run().succeeded();
}

#[test]
fn what_cannot_be_published_does_not_sign_and_the_status_says_so() {
    needs_root!();
    let host = installed("", "");
    let mut host = host;
    // The agent's uid may not write there.
    std::os::unix::fs::chown(public(&host), Some(0), Some(0)).unwrap();
    host.start();
    host.shell(PEERS[0], GET).run().coded(1).says("jwks.json: cannot be written");
    let status = host.admin(["status"]).run().succeeded();
    assert!(status.stdout.contains("jwks.json: cannot be written"), "{status}");
    host.world.give(&public(&host));
    token(&host, "");
    let status = host.admin(["status"]).run().succeeded();
    assert!(!status.stdout.contains("jwks.json"), "{status}");

    // A full file system: what signed goes on, the next key does not.
    let kid =
        |host: &Host| host.admin(["jwt", "keys", "-o", "json"]).run().json()[0]["keys"].clone();
    let before = kid(&host);
    std::os::unix::fs::chown(public(&host), Some(0), Some(0)).unwrap();
    host.admin(["jwt", "rotate", "--now"]).run().coded(1).says("jwks.json");
    token(&host, "--new");
    let keys = kid(&host);
    assert_eq!((&keys[0]["kid"], &keys[0]["state"]), (&before[0]["kid"], &"signing".into()));
    assert_eq!(keys[1]["state"], "waiting");
}

#[test]
fn a_restart_keeps_the_key_and_a_reload_takes_a_new_issuer() {
    needs_root!();
    let mut host = started("", "");
    let mut holder = host
        .shell(
            PEERS[0],
            &format!("{GET} >/dev/null; echo HELD; read x; {GET} >/dev/null; echo got $?; read x"),
        )
        .talk();
    holder.expect("HELD");
    let before = host.admin(["jwt", "jwks"]).run().succeeded().stdout;
    host.crash();
    host.start();
    assert_eq!(host.admin(["jwt", "jwks"]).run().succeeded().stdout, before);
    // The token of before is in nobody's memory: another is minted.
    holder.say("");
    holder.expect("got 0");
    append(&host, "[issuers.second]\nkind = \"jwt\"\niss = \"https://second.example.org\"\n");
    host.admin(["reload"]).run().succeeded();
    let keys = host.admin(["jwt", "keys", "-o", "json"]).run().succeeded().json();
    assert_eq!((&keys[0]["issuer"], &keys[1]["issuer"]), (&"internal".into(), &"second".into()));
    assert_eq!(keys[1]["keys"][0]["state"], "signing");
    host.admin(["jwt", "jwks"]).run().coded(2).says("internal, second");
    append(&host, "[issuers.third]\nkind = \"jwt\"\niss = \"third\"\n");
    host.admin(["reload"]).run().coded(1).says("iss: it is to be a URL").says("nothing changed");
    holder.kill();
}

/// SIGKILL while keys are being replaced: whenever it comes, the next start signs
/// with a key that is published.
#[test]
fn a_kill_during_rotation_leaves_keys_that_sign_and_verify() {
    needs_root!();
    let Some(python) = python() else {
        return not_run(module_path!(), line!(), "PyJWT is not installed (tests/peers/prepare)");
    };
    let mut host = started("", "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for round in 0..16_u64 {
        let operator = runtime.block_on(Client::connect(&host.world.admin_socket())).unwrap();
        let rotation = runtime.spawn(async move {
            let issuer = "internal".to_owned();
            let request = RotateJwtKeysRequest { issuer, now: true, withdraw: false };
            operator.admin().rotate_jwt_keys(request).await
        });
        std::thread::sleep(Duration::from_millis(round));
        host.crash();
        // Whether it was done in time is not asked.
        let _ = runtime.block_on(rotation);
        host.start();
        let orders = Callee::of(&host, &python, ORDERS);
        let (code, said) = orders.called_with(&host, GET);
        assert_eq!(code, 200, "round {round}: {said}");
    }
    host.admin(["jwt", "rotate", "--now", "--withdraw"]).run().succeeded();
    let keys = host.admin(["jwt", "keys", "-o", "json"]).run().succeeded().json();
    assert_eq!(keys[0]["keys"].as_array().unwrap().len(), 1, "{keys}");
    let left = std::fs::read_dir(host.world.store_dir().join("_jwt/internal")).unwrap().count();
    assert_eq!(left, 2, "keys.json and one key");
    host.admin(["audit", "verify"]).run().succeeded();
}
