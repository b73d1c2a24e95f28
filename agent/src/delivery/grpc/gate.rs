//! In front of every service: the challenge must have been answered, and the
//! uid must be within its rate.

use super::failure;
use crate::connection::Connection;
use crate::delivery::Failure;
use crate::mutants::{Check, on};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use jsi_proto::v1::Reason;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::http;
use tower::{Layer, Service};

/// Requests a second for one uid.
pub(super) type UidRate = DefaultKeyedRateLimiter<u32>;

/// Uids beyond which those that are quiet are forgotten.
const MANY_UIDS: usize = 4096;

/// A rate of `per_second` with a burst of as many again.
pub(super) fn uid_rate(per_second: u32) -> UidRate {
    RateLimiter::keyed(Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN)))
}

/// Puts a [`Gate`] in front of a service.
#[derive(Clone)]
pub(super) struct GateLayer {
    rate: Arc<UidRate>,
}

impl GateLayer {
    pub(super) fn new(rate: Arc<UidRate>) -> Self {
        Self { rate }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, rate: Arc::clone(&self.rate) }
    }
}

/// Serves only verified peers within their rate.
#[derive(Clone)]
pub(super) struct Gate<S> {
    inner: S,
    rate: Arc<UidRate>,
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fresh = self.inner.clone();
        // The service that was polled ready is the one that is called.
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let rate = Arc::clone(&self.rate);
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        Box::pin(async move {
            match admit(connection, &rate).await {
                Ok(()) => inner.call(request).await,
                Err(refused) => Ok(failure::status(refused).into_http()),
            }
        })
    }
}

async fn admit(connection: Option<Arc<Connection>>, rate: &UidRate) -> Result<(), Failure> {
    let Some(connection) = connection else {
        return Err(Failure::new(Reason::Internal, "a request without a connection"));
    };
    connection.answered().await.map_err(|refused| failure::refusal(&refused))?;
    let uid = connection.peer.uid;
    if rate.len() > MANY_UIDS {
        rate.retain_recent();
    }
    if on(Check::RequestRate) && rate.check_key(&uid).is_err() {
        return Err(Failure::new(
            Reason::LimitReached,
            format!(
                "uid {uid} asks faster than limits.requests_per_second allows; ask again later"
            ),
        )
        .with("limit", "requests_per_second"));
    }
    Ok(())
}
