//! What the wrapping costs a round trip.

use super::*;

/// Run by hand, in the release profile: `-- --ignored --nocapture round_trips`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn round_trips_plain_and_wrapped() {
    let place = Place::new(Limits::default());
    let _file = place.serve();
    let plain = place.dir.path().join("plain");
    let listener = tokio::net::UnixListener::bind(&plain).unwrap();
    let service = HealthServer::new(Plain);
    let incoming = tokio_stream::StreamExt::map(
        tokio_stream::wrappers::ReceiverStream::new({
            let (send, receive) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = send.send(stream).await;
                }
            });
            receive
        }),
        Ok::<_, std::io::Error>,
    );
    tokio::spawn(Server::builder().serve_with_incoming(service, incoming));
    let (mut a, mut b) = (connect(&plain).await, connect(&place.path()).await);
    let mut spent = [Duration::ZERO; 2];
    for turn in 0..10_000 {
        for (client, spent) in [&mut a, &mut b].into_iter().zip(&mut spent) {
            let start = Instant::now();
            check(client, "").await.unwrap();
            if turn > 500 {
                *spent += start.elapsed();
            }
        }
    }
    println!("plain {:?}, wrapped {:?}", spent[0] / 9_499, spent[1] / 9_499);
}

struct Plain;

#[tonic::async_trait]
impl Health for Plain {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}
