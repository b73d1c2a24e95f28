//! What programs ask of the agent.

use crate::connect::{self, Connection};
use crate::discovery::{Socket, agent_socket};
use crate::error::Error;
use crate::lease::{Assembly, Leased};
use crate::trust::Trust;
use jsi_proto::v1::agent_client::AgentClient;
use jsi_proto::v1::{
    Attestation, Binding, Credential, Delivery, GetLeaseRequest, JwtIssuer, JwtKeysRequest, Lease,
    LeaseEvent, ListCredentialsRequest, ListLeasesRequest, ReleaseLeaseRequest, RenewLeaseRequest,
    RequestCredentialRequest, TargetClaim, WatchLeasesRequest, WhoAmIRequest, binding,
};
use std::sync::Mutex;
use std::time::Duration;
use tonic::{Response, Status, Streaming};

type Client = AgentClient<Connection>;

/// A connection to the agent. Leases that are bound to the connection end when
/// it is dropped.
pub struct Agent {
    socket: Socket,
    trust: Trust,
    connection: Mutex<Connection>,
}

/// What to ask for. Everything but the credential has a default.
#[derive(Clone, Debug, Default)]
pub struct Request {
    inner: RequestCredentialRequest,
}

/// Changes of leases, as they happen.
pub struct Watch {
    events: Streaming<LeaseEvent>,
}

impl Agent {
    /// Connects to the agent that the environment names; see [`agent_socket`].
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::Untrusted`] where the server is not
    /// one's own, root's or the host's.
    pub async fn connect() -> Result<Self, Error> {
        Self::connect_to(agent_socket(), Trust::host()).await
    }

    /// Connects to the agent at a socket, by a rule of trust.
    ///
    /// # Errors
    /// As [`Agent::connect`].
    pub async fn connect_to(socket: Socket, trust: Trust) -> Result<Self, Error> {
        let connection = connect::open(&socket, &trust).await?;
        Ok(Self { socket, trust, connection: Mutex::new(connection) })
    }

    /// The server's uid.
    #[must_use]
    pub fn server_uid(&self) -> u32 {
        self.current().server_uid()
    }

    /// Who the agent thinks is asking, and the agent's version.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn who_am_i(&self) -> Result<(Attestation, String), Error> {
        let call = |mut agent: Client, it| async move { agent.who_am_i(it).await };
        let answer = self.call(WhoAmIRequest {}, call).await?;
        let attestation =
            answer.attestation.ok_or(Error::Protocol("the answer has no attestation"))?;
        Ok((attestation, answer.agent_version))
    }

    /// The credentials that the requester may list.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn credentials(&self, prefix: &str) -> Result<Vec<Credential>, Error> {
        let request = ListCredentialsRequest { prefix: prefix.to_owned() };
        let call = |mut agent: Client, it| async move { agent.list_credentials(it).await };
        Ok(self.call(request, call).await?.credentials)
    }

    /// Asks for a credential. May take as long as an approval takes.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn request(&self, request: Request) -> Result<Leased, Error> {
        let call = |mut agent: Client, it| async move { agent.request_credential(it).await };
        let mut answer = self.call(request.inner, call).await?;
        let mut assembly = Assembly::default();
        while let Some(message) = answer.message().await? {
            assembly.take(message)?;
        }
        assembly.finish()
    }

    /// Lengthens a lease, counted from now; `None`: by the TTL it was granted
    /// with. The agent clamps; the answer has the real expiry.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn renew(&self, id: &str, increment: Option<Duration>) -> Result<Lease, Error> {
        let request =
            RenewLeaseRequest { lease_id: id.to_owned(), increment: increment.map(to_proto) };
        let call = |mut agent: Client, it| async move { agent.renew_lease(it).await };
        let answer = self.call(request, call).await?;
        present(answer.lease)
    }

    /// Gives a lease up. Releasing one that has ended is no error.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn release(&self, id: &str) -> Result<Lease, Error> {
        let request = ReleaseLeaseRequest { lease_id: id.to_owned() };
        let call = |mut agent: Client, it| async move { agent.release_lease(it).await };
        let answer = self.call(request, call).await?;
        present(answer.lease)
    }

    /// One lease of the requester, without its secret.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn lease(&self, id: &str) -> Result<Lease, Error> {
        let request = GetLeaseRequest { lease_id: id.to_owned() };
        let call = |mut agent: Client, it| async move { agent.get_lease(it).await };
        let answer = self.call(request, call).await?;
        present(answer.lease)
    }

    /// The requester's leases. `all` (everybody's) is for the admin socket.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn leases(&self, prefix: &str, all: bool, ended: bool) -> Result<Vec<Lease>, Error> {
        let request = ListLeasesRequest { all, prefix: prefix.to_owned(), ended };
        let call = |mut agent: Client, it| async move { agent.list_leases(it).await };
        let answer = self.call(request, call).await?;
        Ok(answer.leases)
    }

    /// The leases as they are now, then each change.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn watch(&self, prefix: &str, all: bool) -> Result<Watch, Error> {
        let request = WatchLeasesRequest { all, prefix: prefix.to_owned() };
        let call = |mut agent: Client, it| async move { agent.watch_leases(it).await };
        let answer = self.call(request, call).await?;
        Ok(Watch { events: answer })
    }

    /// The public keys by which tokens of the agent are verified: of one issuer,
    /// or (with `""`) of all.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn jwt_keys(&self, issuer: &str) -> Result<Vec<JwtIssuer>, Error> {
        let request = JwtKeysRequest { issuer: issuer.to_owned() };
        let call = |mut agent: Client, it| async move { agent.jwt_keys(it).await };
        Ok(self.call(request, call).await?.issuers)
    }

    /// Calls once more, over a new connection, where the first one broke: an
    /// agent that systemd started refuses the bytes that came in before it
    /// could ask for their sender, and each of these calls may be repeated.
    async fn call<I, O, F>(&self, input: I, call: impl Fn(Client, I) -> F) -> Result<O, Error>
    where
        I: Clone,
        F: Future<Output = Result<Response<O>, Status>>,
    {
        let mut again = true;
        loop {
            let client = Client::with_origin(self.current(), connect::origin());
            match call(client, input.clone()).await.map_err(Error::from) {
                Err(Error::Broken(_)) if again => self.reconnect().await?,
                answer => return Ok(answer?.into_inner()),
            }
            again = false;
        }
    }

    async fn reconnect(&self) -> Result<(), Error> {
        let fresh = connect::open(&self.socket, &self.trust).await?;
        *self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn current(&self) -> Connection {
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Request {
    /// Asks for that credential, for the calling process, bound to the requester.
    #[must_use]
    pub fn new(credential: &str) -> Self {
        let inner = RequestCredentialRequest {
            credential: credential.to_owned(),
            delivery: Delivery::Caller.into(),
            ..Default::default()
        };
        Self { inner }
    }

    /// Narrows it; keys are the issuer's.
    #[must_use]
    pub fn scope(mut self, key: &str, value: &str) -> Self {
        self.inner.scope.insert(key.to_owned(), value.to_owned());
        self
    }

    /// How long; the agent clamps it.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.inner.ttl = Some(to_proto(ttl));
        self
    }

    /// What ends the lease besides time.
    #[must_use]
    pub fn bind(mut self, kind: binding::Kind) -> Self {
        self.inner.binding = Some(Binding { kind: Some(kind) });
        self
    }

    /// How the secret will reach the program.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.inner.delivery = delivery.into();
        self
    }

    /// A lease of its own, even where the requester holds one already.
    #[must_use]
    pub fn new_lease(mut self, new: bool) -> Self {
        self.inner.new_lease = new;
        self
    }

    /// The program that the caller is about to become.
    #[must_use]
    pub fn target(mut self, target: TargetClaim) -> Self {
        self.inner.target = Some(target);
        self
    }

    /// Only this field (and others named so); none named: all.
    #[must_use]
    pub fn field(mut self, name: &str) -> Self {
        if !self.inner.fields.iter().any(|field| field == name) {
            self.inner.fields.push(name.to_owned());
        }
        self
    }

    /// Why, for the log.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        note.clone_into(&mut self.inner.note);
        self
    }
}

impl Watch {
    /// The next change; `None`: the agent closed the watch.
    ///
    /// # Errors
    /// As the agent answers.
    pub async fn next(&mut self) -> Result<Option<LeaseEvent>, Error> {
        Ok(self.events.message().await?)
    }
}

fn present(lease: Option<Lease>) -> Result<Lease, Error> {
    lease.ok_or(Error::Protocol("the answer has no lease"))
}

fn to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_can_be_spawned_on_any_runtime() {
        fn check(agent: &Agent) -> impl Future<Output = Result<Leased, Error>> + Send {
            agent.request(Request::new("a"))
        }
        let _ = check;
    }
}
