//! An attack, told once: the tests show it refused, and the table of mutants
//! shows that it is refused by the checks that it names.

use jsi_tests::{Setup, Stage, not_run};
use std::panic::Location;

/// How a scene is set up: the table has it with another build of the agent.
pub(crate) type Alter<'a> = &'a dyn Fn(Setup) -> Setup;

/// What somebody does to get what is not theirs, and why they do not get it.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    /// The test that shows it refused.
    pub(crate) test: &'static str,
    /// The checks that stand in its way. Several: each of them does so alone.
    pub(crate) checks: &'static [&'static str],
    /// What the log says of it; empty: the kernel or the client refuses, or the
    /// agent leaves it out of the log on purpose.
    pub(crate) reason: &'static str,
    scene: fn(Alter<'_>) -> Stage,
    act: fn(&Stage) -> String,
    twin: fn(&Stage),
    /// Why this machine cannot try it.
    pub(crate) hindrance: fn() -> Option<&'static str>,
}

/// What came of it.
pub(crate) enum Came {
    /// It got what it wanted.
    Succeeded,
    /// It did not; its words.
    Failed(String),
}

/// Said by an attack that wants something else than the secret, and got it.
pub(crate) const SUCCEEDED: &str = "SUCCEEDED";

/// The words, and [`SUCCEEDED`] where it did.
pub(crate) fn told(said: &str, succeeded: bool) -> String {
    if succeeded { format!("{said}\n{SUCCEEDED}\n") } else { said.to_owned() }
}

impl Came {
    /// It could not be tried; the test's own words say why.
    pub(crate) fn panicked() -> Self {
        Self::Failed("it could not be tried: see above".to_owned())
    }
}

impl Attack {
    /// On a host agent that gives the secret to the trusted program; its twin
    /// is that program, which asks for itself.
    pub(crate) const fn new(
        test: &'static str,
        checks: &'static [&'static str],
        reason: &'static str,
        act: fn(&Stage) -> String,
    ) -> Self {
        let scene = |alter: Alter<'_>| Stage::with(alter(Setup::host()));
        let twin = Stage::serves_the_twin;
        Self { test, checks, reason, scene, act, twin, hindrance: || None }
    }

    /// In another scene.
    pub(crate) const fn on(self, scene: fn(Alter<'_>) -> Stage) -> Self {
        Self { scene, ..self }
    }

    /// With another twin.
    pub(crate) const fn twin(self, twin: fn(&Stage)) -> Self {
        Self { twin, ..self }
    }

    /// Only where nothing hinders it.
    pub(crate) const fn where_possible(self, hindrance: fn() -> Option<&'static str>) -> Self {
        Self { hindrance, ..self }
    }

    /// Tries it there; what was said.
    pub(crate) fn act_on(&self, stage: &Stage) -> String {
        (self.act)(stage)
    }

    /// Tries it on the agent that is shipped: it is refused, for its reason, and
    /// its twin is served.
    #[track_caller]
    pub(crate) fn is_refused(&self) {
        let here = Location::caller();
        if let Some(why) = (self.hindrance)() {
            return not_run(here.file(), here.line(), why);
        }
        let stage = (self.scene)(&|setup| setup);
        let said = (self.act)(&stage);
        assert!(!said.contains(SUCCEEDED), "{here}: {} succeeded:\n{said}", self.test);
        if self.reason.is_empty() {
            assert!(!said.contains(&stage.secret), "{here}: delivered:\n{said}");
            assert!(!said.contains("FAILED"), "{here}: the attack itself failed:\n{said}");
        } else {
            stage.refuses_because(&said, self.reason);
        }
        (self.twin)(&stage);
    }

    /// Tries it with these checks left out.
    pub(crate) fn without(&self, agent: &std::path::Path, checks: &[&str]) -> Came {
        let stage = (self.scene)(&|setup| setup.mutant(agent.to_owned(), checks));
        let said = (self.act)(&stage);
        assert!(!said.contains("FAILED"), "{}: the attack itself failed:\n{said}", self.test);
        if said.contains(&stage.secret) || said.contains(SUCCEEDED) {
            Came::Succeeded
        } else {
            let records = stage.host.records();
            let reasons =
                records.iter().filter(|r| r["kind"] == "refused" || r["kind"] == "denied");
            Came::Failed(reasons.fold(said, |text, record| format!("{text}\n{record}")))
        }
    }
}
