//! `jsi` against agents of other versions: older ones lack calls, newer ones
//! say what this one has no word for.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use jsi_proto::v1::agent_server::AgentServer;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::task::{Context, Poll};
use support::{Fake, text};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Status, body::Body};

/// An agent that knows `WhoAmI` and no other call.
struct Older {
    dir: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Clone)]
struct OnlyWhoAmI(AgentServer<support::Service>);

impl Service<http::Request<Body>> for OnlyWhoAmI {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == "/jsi.v1.Agent/WhoAmI" {
            return Box::pin(self.0.call(request));
        }
        let answer: Ready<_> = ready(Ok(Status::unimplemented("").into_http()));
        Box::pin(answer)
    }
}

impl Older {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let within = runtime.enter();
        for name in ["agent.sock", "admin.sock"] {
            let listener = tokio::net::UnixListener::bind(dir.path().join(name)).unwrap();
            let service = OnlyWhoAmI(AgentServer::new(support::Service::default()));
            runtime.spawn(support::serve(listener, service));
        }
        drop(within);
        Self { dir, runtime: Some(runtime) }
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_jsi"))
            .args(words)
            .env("JSI_AUTH_SOCK", self.dir.path().join("agent.sock"))
            .env_remove("JSI_ADMIN_SOCK")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn an_older_agent_is_named_with_its_version_and_what_to_do() {
    let older = Older::start();
    for words in [
        &["leases"][..],
        &["status"],
        &["get", "db/orders"],
        &["watch"],
        &["secret", "ls"],
        &["reload"],
    ] {
        let out = older.run(words);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{words:?}: {said}");
        assert!(said.contains("is older (0) than this jsi"), "{words:?}: {said}");
        assert!(said.contains("restart"), "{words:?}: {said}");
    }
}

#[test]
fn the_doctor_works_with_an_older_agent() {
    let out = Older::start().run(&["doctor", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let of = |name: &str| findings.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(of("reachable")["severity"], "ok");
    assert_eq!(of("version")["severity"], "warn");
    assert_eq!(of("admin socket")["severity"], "warn");
}

#[test]
fn what_a_newer_agent_says_is_shown_as_far_as_it_is_known() {
    let fake = Fake::start();
    fake.state.lock().unwrap().newer = true;
    let out = fake.run(&["leases"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    assert!(shown.contains("db/orders/a") && shown.contains("unknown"), "{shown}");
    let out = fake.run(&["leases", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(told[0]["state"], "unknown");
    // A reason of a later version: the gRPC code decides.
    let out = fake.run(&["get", "no/newer"]);
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("for a reason of tomorrow"));
    // An event of a later version.
    let mut watch = fake.jsi(&["watch", "-o", "json"]);
    let mut child = watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let kinds: Vec<String> = lines
        .take(2)
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            line["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(kinds, ["unknown", "synced"]);
    child.kill().unwrap();
    child.wait().unwrap();
}
