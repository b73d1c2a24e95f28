//! From a plan to leases: the step between what is wanted and its delivery.

use crate::failure::Failure;
use crate::output;
use crate::plan::{Item, Mode, Part, Plan, Want};
use jsi_client::v1::{Delivery, Lease, TargetClaim, binding};
use jsi_client::{Agent, Leased, Request, SecretField};
use std::collections::BTreeMap;
use std::time::Duration;
use zeroize::Zeroizing;

/// What is the same for every request of a plan.
#[derive(Default)]
pub(crate) struct Terms {
    /// What ends the leases besides time; `None`: the requester, or what policy demands.
    pub(crate) binding: Option<binding::Kind>,
    /// The program that this process will become.
    pub(crate) target: Option<TargetClaim>,
    /// How the secrets will be handed over, where that is not as each item says.
    pub(crate) delivery: Option<Delivery>,
    /// Why, for the log.
    pub(crate) note: String,
}

/// What was granted: one lease for each credential, mode, scope and TTL.
#[derive(Default)]
pub(crate) struct Obtained {
    leases: Vec<(Key, Leased)>,
}

/// What makes two wants one request.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    credential: String,
    mode: Mode,
    scope: BTreeMap<String, String>,
    ttl: Option<Duration>,
}

/// Asks for everything; on a failure gives back what was granted before it.
pub(crate) async fn obtain(agent: &Agent, plan: &Plan, terms: &Terms) -> Result<Obtained, Failure> {
    let mut obtained = Obtained::default();
    for (mode, want) in plan.wants() {
        let key = Key::of(mode, want);
        if obtained.leases.iter().any(|(other, _)| *other == key) {
            continue;
        }
        match agent.request(request(&key, plan, terms)).await {
            Ok(leased) => obtained.leases.push((key, leased)),
            Err(error) => {
                obtained.give_back(agent).await;
                return Err(error.into());
            }
        }
    }
    Ok(obtained)
}

impl Obtained {
    /// The bytes that an item stands for. An exact buffer, so that no growth
    /// leaves copies behind.
    pub(crate) fn value(&self, item: &Item) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let pieces: Vec<Piece<'_>> = item
            .text
            .parts()
            .iter()
            .map(|part| match part {
                Part::Literal(bytes) => Ok(Piece::Plain(bytes)),
                Part::Field(want) => filtered(want, self.field(item.mode, want)?.value()),
            })
            .collect::<Result<_, _>>()?;
        let length = pieces.iter().map(|piece| piece.bytes().len()).sum();
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        pieces.iter().for_each(|piece| value.extend_from_slice(piece.bytes()));
        Ok(value)
    }

    /// Every lease, in the order of the requests.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Leased> {
        self.leases.iter().map(|(_, leased)| leased)
    }

    /// An item has something of that lease.
    pub(crate) fn depends(&self, item: &Item, lease: &Lease) -> bool {
        let found = self.leases.iter().find(|(_, leased)| leased.lease().id == lease.id);
        found.is_some_and(|(key, _)| item.text.wants().any(|want| Key::of(item.mode, want) == *key))
    }

    /// Leases that this command brought about. Others were there before it.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = &str> {
        let fresh = self.leases().filter(|leased| !leased.lease().reused);
        fresh.map(|leased| leased.lease().id.as_str())
    }

    /// Gives back what nobody will use.
    pub(crate) async fn give_back(&self, agent: &Agent) {
        for id in self.fresh() {
            if let Err(error) = agent.release(id).await {
                output::note(&format!("note: {id} could not be given back: {error}"));
            }
        }
    }

    fn field(&self, mode: Mode, want: &Want) -> Result<&SecretField, Failure> {
        let key = Key::of(mode, want);
        let leased = self.leases.iter().find(|(other, _)| *other == key).map(|(_, leased)| leased);
        let field = leased.and_then(|leased| match &want.reference.field {
            Some(name) => leased.field(name),
            None => leased.default_field(),
        });
        field.ok_or_else(|| {
            let names: Vec<_> = leased
                .map(|leased| leased.fields().iter().map(SecretField::name).collect())
                .unwrap_or_default();
            Failure::new(format!("{} has no such field", want.reference))
                .advise(format!("it has: {}", names.join(", ")))
        })
    }
}

/// A part of a value.
enum Piece<'a> {
    Plain(&'a [u8]),
    Made(Zeroizing<Vec<u8>>),
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

fn filtered<'a>(want: &Want, value: &'a [u8]) -> Result<Piece<'a>, Failure> {
    let mut piece = Piece::Plain(value);
    for filter in &want.filters {
        let made = filter.apply(piece.bytes()).map_err(|why| {
            Failure::new(format!("the value of {want} {why}"))
                .advise("leave the filter out, or use base64")
        })?;
        piece = Piece::Made(made);
    }
    Ok(piece)
}

impl Key {
    fn of(mode: Mode, want: &Want) -> Self {
        let Want { reference, ttl, scope, .. } = want;
        Self { credential: reference.credential.clone(), mode, scope: scope.clone(), ttl: *ttl }
    }
}

fn request(key: &Key, plan: &Plan, terms: &Terms) -> Request {
    let mut request = Request::new(&key.credential)
        .note(&terms.note)
        .delivery(terms.delivery.unwrap_or_else(|| delivery(key.mode)));
    if let Some(binding) = terms.binding {
        request = request.bind(binding);
    }
    if let Some(target) = &terms.target {
        request = request.target(target.clone());
    }
    if let Some(ttl) = key.ttl {
        request = request.ttl(ttl);
    }
    for (name, value) in &key.scope {
        request = request.scope(name, value);
    }
    let same = plan.wants().filter(|(mode, want)| Key::of(*mode, want) == *key);
    let fields: Option<Vec<&String>> =
        same.map(|(_, want)| want.reference.field.as_ref()).collect();
    // One that asks for the default field needs all, since only the agent
    // knows which that is.
    fields.unwrap_or_default().into_iter().fold(request, |request, field| request.field(field))
}

/// What the agent records, and policy sees.
fn delivery(mode: Mode) -> Delivery {
    match mode {
        Mode::Environment => Delivery::Environment,
        Mode::Descriptor => Delivery::Descriptor,
        Mode::File => Delivery::File,
    }
}
