//! The bare tonic server that round trips are compared with: grpc health on a
//! Unix socket, in a process of its own, with nothing of ours in it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_stream::wrappers::UnixListenerStream;

/// Serves for ever.
pub(crate) fn serve(socket: &Path) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (_reporter, service) = tonic_health::server::health_reporter();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .unwrap();
    });
}

/// The server's process; killed when dropped.
pub(crate) struct Echo(Child);

impl Echo {
    pub(crate) fn start(socket: &Path) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut server = Command::new(program);
        server.arg("--echo-server").arg(socket).stdin(Stdio::null());
        let echo = Self(server.spawn().unwrap());
        jsi_tests::until("the bare server serves", Duration::from_secs(10), || {
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
        echo
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
