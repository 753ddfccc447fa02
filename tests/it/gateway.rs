//! The gateway before a media server's API: what passes, and what is ours.

mod load;
mod passing;
mod site;
mod smuggling;
mod truth;

use std::io::BufReader;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use storage_guard::domain::media::GatewayResult;
use storage_guard::domain::secret::Secret;
use storage_guard::server::{Limits, serve_gateway};
use storage_guard::zlmediakit::{Answer, Answering, Asked, Deleter, Fronted, Passing, Upstream, gateway_router};
use tokio::sync::watch;

use crate::support::wire::{Caller, Port};

const SECRET: &str = "035c73f7";
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// Remembers what it was to delete, and says that it is gone.
#[derive(Default)]
struct Noted {
    asked: Mutex<Vec<Asked>>,
    results: Mutex<Vec<GatewayResult>>,
}

impl Deleter for Noted {
    fn delete(self: Arc<Self>, asked: Asked, _: Passing) -> Answering {
        self.asked.lock().unwrap().push(asked);
        Box::pin(async { Answer::default() })
    }

    fn counted(&self, result: GatewayResult) {
        self.results.lock().unwrap().push(result);
    }
}

/// A gateway in this process, before a media server at a port.
struct Front {
    noted: Arc<Noted>,
    port: u16,
    _stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Front {
    fn before(media_server: &Port) -> Self {
        Self::with(media_server.number(), Limits { connections: 64, per_peer: 64, ..Limits::default() })
    }

    fn with(media_server: u16, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let noted = Arc::new(Noted::default());
        let upstream = Upstream::new(&format!("http://127.0.0.1:{media_server}")).unwrap();
        let fronted = Fronted { upstream, secret: Secret::new(SECRET) };
        let (stop, stopped) = watch::channel(false);
        let router = gateway_router(Arc::new(ArcSwap::from_pointee(fronted)), noted.clone());
        runtime.spawn(serve_gateway(listener, router, limits, stopped));
        Self { noted, port, _stop: stop, runtime: Some(runtime) }
    }

    fn caller(&self) -> Caller {
        Caller::to(self.port, SOON).unwrap()
    }

    fn stream(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        BufReader::new(stream)
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.noted.asked.lock().unwrap())
    }

    fn results(&self) -> Vec<GatewayResult> {
        std::mem::take(&mut self.noted.results.lock().unwrap())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
