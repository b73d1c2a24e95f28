//! `jsi.v1.Agent`.

use super::failure::status;
use super::stream::{OneByOne, messages};
use super::{connection, convert, parse};
use crate::config::Limits;
use crate::delivery::{Backend, LeaseFilter, Watch};
use crate::lease::{Change, LeaseView};
use futures_util::{StreamExt, stream};
use jsi_proto::v1::agent_server::Agent;
use jsi_proto::v1::{self, lease_event::Kind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// The service over a backend.
pub(super) struct AgentService<B> {
    backend: Arc<B>,
    longest_ttl: Duration,
    write_timeout: Duration,
}

impl<B> AgentService<B> {
    pub(super) fn new(backend: Arc<B>, limits: &Limits) -> Self {
        let Limits { longest_ttl, write_timeout, .. } = *limits;
        Self { backend, longest_ttl, write_timeout }
    }
}

#[tonic::async_trait]
impl<B: Backend> Agent for AgentService<B> {
    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let on = connection(&request)?;
        let attestation = self.backend.who_am_i(&on).await.map_err(status)?;
        Ok(Response::new(v1::WhoAmIResponse {
            attestation: Some(convert::attestation(&attestation)),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn list_credentials(
        &self,
        request: Request<v1::ListCredentialsRequest>,
    ) -> Result<Response<v1::ListCredentialsResponse>, Status> {
        let on = connection(&request)?;
        let prefix = request.into_inner().prefix;
        let found = self.backend.credentials(&on, &prefix).await.map_err(status)?;
        let credentials = found.into_iter().map(convert::credential).collect();
        Ok(Response::new(v1::ListCredentialsResponse { credentials }))
    }

    type RequestCredentialStream = OneByOne;

    async fn request_credential(
        &self,
        request: Request<v1::RequestCredentialRequest>,
    ) -> Result<Response<OneByOne>, Status> {
        let on = connection(&request)?;
        let ask = parse::ask(request.into_inner(), self.longest_ttl).map_err(status)?;
        let fields = ask.fields.clone();
        let done = self.backend.request(&on, ask).await.map_err(status)?;
        let lease = v1::Lease { reused: done.reused, ..convert::lease(&done.lease) };
        let request_id = done.request.to_string();
        let messages = messages(lease, request_id, &done.secret, &fields);
        let late = move || on.close_soon();
        Ok(Response::new(messages.within(self.write_timeout, late)))
    }

    async fn renew_lease(
        &self,
        request: Request<v1::RenewLeaseRequest>,
    ) -> Result<Response<v1::RenewLeaseResponse>, Status> {
        let on = connection(&request)?;
        let asked = request.into_inner();
        let increment =
            parse::ttl("increment", asked.increment, self.longest_ttl).map_err(status)?;
        let id = parse::lease_id(&asked.lease_id).map_err(status)?;
        let (view, warnings) = self.backend.renew(&on, &id, increment).await.map_err(status)?;
        let lease = v1::Lease { warnings, ..convert::lease(&view) };
        Ok(Response::new(v1::RenewLeaseResponse { lease: Some(lease) }))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::ReleaseLeaseResponse>, Status> {
        let on = connection(&request)?;
        let id = parse::lease_id(&request.into_inner().lease_id).map_err(status)?;
        let view = self.backend.release(&on, &id).await.map_err(status)?;
        Ok(Response::new(v1::ReleaseLeaseResponse { lease: Some(convert::lease(&view)) }))
    }

    async fn get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Result<Response<v1::GetLeaseResponse>, Status> {
        let on = connection(&request)?;
        let id = parse::lease_id(&request.into_inner().lease_id).map_err(status)?;
        let view = self.backend.lease(&on, &id).await.map_err(status)?;
        Ok(Response::new(v1::GetLeaseResponse { lease: Some(convert::lease(&view)) }))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let on = connection(&request)?;
        let asked = request.into_inner();
        let filter = LeaseFilter { all: asked.all, prefix: asked.prefix, ended: asked.ended };
        let found = self.backend.leases(&on, &filter).await.map_err(status)?;
        let leases = found.iter().map(convert::lease).collect();
        Ok(Response::new(v1::ListLeasesResponse { leases }))
    }

    async fn jwt_keys(
        &self,
        request: Request<v1::JwtKeysRequest>,
    ) -> Result<Response<v1::JwtKeysResponse>, Status> {
        let name = request.into_inner().issuer;
        let name = (!name.is_empty()).then_some(name.as_str());
        let sets = self.backend.key_sets(name).await.map_err(status)?;
        let issuers = sets.into_iter().map(convert::key_set).collect();
        Ok(Response::new(v1::JwtKeysResponse { issuers }))
    }

    type WatchLeasesStream = Pin<Box<dyn Stream<Item = Result<v1::LeaseEvent, Status>> + Send>>;

    async fn watch_leases(
        &self,
        request: Request<v1::WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let on = connection(&request)?;
        let asked = request.into_inner();
        let filter = LeaseFilter { all: asked.all, prefix: asked.prefix, ended: false };
        let watch = self.backend.watch(&on, &filter).await.map_err(status)?;
        Ok(Response::new(Box::pin(events(watch))))
    }
}

fn events(watch: Watch) -> impl Stream<Item = Result<v1::LeaseEvent, Status>> + Send {
    let Watch { present, changes, may_see, still } = watch;
    let mut first: Vec<_> = present.iter().map(|view| event(Kind::Present, Some(view))).collect();
    first.push(event(Kind::Synced, None));
    let watching = Some((changes, may_see, still));
    let later = stream::unfold(watching, |watching| async {
        let (mut changes, may_see, still) = watching?;
        loop {
            let change = changes.next().await?;
            if change.lease().is_none_or(|lease| may_see(lease)) {
                // A watch may be older than the program that reads it.
                if let Err(changed) = still().await {
                    return Some((Err(status(changed)), None));
                }
                let kind = match &change {
                    Change::Granted(_) => Kind::Granted,
                    Change::Renewed(_) => Kind::Renewed,
                    Change::Rotated(_) => Kind::Rotated,
                    Change::Ending(_) => Kind::Ending,
                    Change::Ended(_) => Kind::Ended,
                    Change::Stuck(_) => Kind::Stuck,
                    Change::Lost(_) => Kind::Lost,
                };
                let said = event(kind, change.lease().map(|lease| &**lease));
                return Some((Ok(said), Some((changes, may_see, still))));
            }
        }
    });
    stream::iter(first).map(Ok).chain(later)
}

fn event(kind: Kind, lease: Option<&LeaseView>) -> v1::LeaseEvent {
    v1::LeaseEvent { kind: kind.into(), lease: lease.map(convert::lease) }
}
