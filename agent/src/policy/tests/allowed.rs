//! What `jsi allow` writes, put before the decision that it is written for. The
//! text is the client's own: the file is included as it stands.

use super::*;
use crate::attestation::Digest;
use proptest::prelude::*;

#[allow(dead_code, reason = "of the client: not all of it is used here")]
#[path = "../../../../client/src/policy_text.rs"]
mod policy_text;

use policy_text::PolicyText;

/// Whatever a path or a unit can be made of, and what Cedar or a shell would take
/// for its own.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "/[a-z/]{1,12}",
        "/(\\PC|[\"'\\\\*\n\r\t{};/]){1,12}",
        Just("/a\" || true || \"".to_owned()),
        Just("/\\u{22}\u{202e}\u{2028}*".to_owned()),
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

prop_compose! {
    fn requester()(
        uid in any::<u32>(), gid in any::<u32>(),
        groups in prop::collection::vec(any::<u32>(), 0..3),
        exe in hostile(), digest in digest(),
        unit in prop::option::of(hostile()), container in prop::option::of(hostile()),
        cgroup in prop::option::of(hostile()), tty in prop::option::of(hostile()),
        pod in prop::option::of(hostile()), lsm in prop::option::of(hostile()),
        level in 1..5_usize,
    ) -> SupposedProcess {
        SupposedProcess {
            uid, gid, groups, exe: Some(exe), digest: Some(digest), unit, container, cgroup, tty,
            pod, lsm,
            assurance: Some(Assurance::ALL[level]),
            ..SupposedProcess::default()
        }
    }
}

prop_compose! {
    fn request()(
        requester in requester(),
        target in prop::option::of((hostile(), digest())),
        delivery in prop::sample::select(Delivery::ALL.to_vec()),
        scope in prop::collection::btree_map("[a-z.]{1,6}", hostile(), 0..3),
        at in 0..4_000_000_000_000_u64,
    ) -> Supposed {
        Supposed {
            target: target.map(|(exe, digest)| Target::measured(&exe, &digest.hex())),
            delivery, scope, at: Some(WallTime(at)),
            ..Supposed::new(requester)
        }
    }
}

/// The minute of the day, and the day of the week, in UTC.
fn clock(at: WallTime) -> (u16, u8) {
    let minutes = at.0 / 60_000;
    let minute = u16::try_from(minutes % 1_440).unwrap();
    (minute, u8::try_from((minutes / 1_440 + 3) % 7 + 1).unwrap())
}

/// The policy that says all of the request.
fn policy(asked: &Supposed, credential: &str) -> PolicyText {
    let who = asked.requester.clone();
    let (minute, weekday) = clock(asked.at.unwrap());
    PolicyText {
        id: PolicyText::name(credential, who.exe.as_deref()),
        comments: vec![format!("Permits {:?}, {}", who.unit, who.exe.clone().unwrap())],
        credential: credential.to_owned(),
        uids: vec![who.uid],
        gids: vec![who.gid],
        unit: who.unit,
        container: who.container,
        pod: who.pod,
        lsm: who.lsm,
        cgroup: who.cgroup,
        tty: who.tty,
        exe: who.exe,
        digest: who.digest.map(|digest| digest.hex()),
        target: asked.target.as_ref().map(|target| target.exe.clone()),
        target_digest: asked.target.as_ref().map(|target| target.digest.clone()),
        assurance: who.assurance.map(Assurance::level),
        delivery: vec![asked.delivery.name().to_owned()],
        scope: asked.scope.clone().into_iter().collect(),
        between: Some((minute, if minute == 1_439 { 1_440 } else { minute + 1 })),
        weekdays: vec![weekday],
        max_ttl: Some(Duration::from_secs(900)),
        max_uses: Some(3),
        bind: Some("process".to_owned()),
        hold_none: true,
        ..PolicyText::default()
    }
}

/// The request with one fact changed, for every fact.
fn changed(asked: &Supposed) -> Vec<(&'static str, Supposed)> {
    let mut all = Vec::new();
    let mut add = |what, change: &dyn Fn(&mut Supposed)| {
        let mut other = asked.clone();
        change(&mut other);
        all.push((what, other));
    };
    add("uid", &|it| it.requester.uid = it.requester.uid.wrapping_add(1));
    add("gid", &|it| {
        it.requester.gid = it.requester.gid.wrapping_add(1);
        it.requester.groups.clear();
    });
    add("exe", &|it| it.requester.exe.as_mut().unwrap().push('x'));
    add("no exe", &|it| it.requester.exe = None);
    add("digest", &|it| it.requester.digest = it.requester.digest.map(|d| Digest([!d.0[0]; 32])));
    add("exe unreadable", &|it| it.requester.unreadable.extend(["exe".to_owned()]));
    type Fact = for<'a> fn(&'a mut SupposedProcess) -> &'a mut Option<String>;
    let facts: [(&str, Fact); 6] = [
        ("pod", |who| &mut who.pod),
        ("lsm", |who| &mut who.lsm),
        ("unit", |who| &mut who.unit),
        ("container", |who| &mut who.container),
        ("cgroup", |who| &mut who.cgroup),
        ("tty", |who| &mut who.tty),
    ];
    for (name, fact) in facts {
        if fact(&mut asked.requester.clone()).is_some() {
            add(name, &|it| fact(&mut it.requester).as_mut().unwrap().push('x'));
            add("fact gone", &|it| *fact(&mut it.requester) = None);
            add("fact unreadable", &|it| it.requester.unreadable.extend([name.to_owned()]));
        }
    }
    add("assurance", &|it| {
        let level = it.requester.assurance.unwrap().level() - 1;
        it.requester.assurance = Assurance::of_level(level);
    });
    if asked.target.is_some() {
        add("target", &|it| it.target.as_mut().unwrap().exe.push('x'));
        add("target's digest", &|it| it.target.as_mut().unwrap().digest = "00".repeat(32));
        add("no target", &|it| it.target = None);
    }
    for key in asked.scope.keys() {
        add("scope", &|it| it.scope.get_mut(key).unwrap().push('x'));
        add("no scope", &|it| drop(it.scope.remove(key)));
    }
    for other in Delivery::ALL.into_iter().filter(|other| *other != asked.delivery) {
        add("delivery", &|it| it.delivery = other);
    }
    let at = |by: u64| Some(WallTime(asked.at.unwrap().0 + by));
    add("minute", &|it| it.at = at(120_000));
    add("day", &|it| it.at = at(86_400_000));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_from_facts_permits_exactly_these_facts(asked in request(), prefix in any::<bool>()) {
        let facts = CredentialFacts::supposed(CredentialName::new("db/eu/orders").unwrap());
        let text = policy(&asked, if prefix { "db/eu/" } else { "db/eu/orders" }).render();
        let policies = Policies::from_texts(&[("allow.cedar", text.as_str())]);
        let policies = match policies {
            Ok(policies) => policies,
            Err(error) => panic!("jsi allow wrote what the agent refuses:\n{text}\n{error}"),
        };
        let verdict = policies.suppose(&asked, &facts, WallTime(0));
        prop_assert!(verdict.limits.is_some(), "{}\n{}\n{:?}", verdict.reason, text, asked);
        let limits = verdict.limits.unwrap();
        prop_assert_eq!(limits.max_ttl, Duration::from_secs(900));
        prop_assert_eq!((limits.max_uses, limits.hold_none), (Some(3), true));
        for (what, other) in changed(&asked) {
            let verdict = policies.suppose(&other, &facts, WallTime(0));
            prop_assert!(verdict.limits.is_none(), "another {what} was permitted:\n{text}");
            let nearest = verdict.steps.iter().find(|step| step.nearest);
            prop_assert!(nearest.is_some(), "{}", verdict.reason);
        }
        for name in ["db/eux/orders", "db/other"] {
            let other = CredentialFacts::supposed(CredentialName::new(name).unwrap());
            prop_assert!(policies.suppose(&asked, &other, WallTime(0)).limits.is_none());
        }
    }

    #[test]
    fn a_window_holds_from_its_first_minute_to_its_last(
        from in 0..1_440_u16, until in 0..1_441_u16, minute in 0..1_440_u16,
    ) {
        prop_assume!(from != until);
        let text = PolicyText {
            id: "a".to_owned(),
            credential: "a".to_owned(),
            between: Some((from, until)),
            ..PolicyText::default()
        };
        let policies = policies(&text.render());
        let facts = CredentialFacts::supposed(CredentialName::new("a").unwrap());
        let asked = Supposed {
            at: Some(WallTime(u64::from(minute) * 60_000)),
            ..Supposed::new(SupposedProcess::default())
        };
        let inside = if from < until {
            (from..until).contains(&minute)
        } else {
            minute >= from || minute < until
        };
        prop_assert_eq!(policies.suppose(&asked, &facts, WallTime(0)).limits.is_some(), inside);
    }
}
