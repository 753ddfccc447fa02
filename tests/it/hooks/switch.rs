//! Streams that are not to be recorded now: the platform's answer to `on_publish` says so, and nothing else of it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;
use storage_guard::domain::media::HookSettings;
use storage_guard::domain::names::MediaServerId;
use storage_guard::server::{Limits, serve_tcp};
use storage_guard::store::Database;
use storage_guard::system::SystemClock;
use storage_guard::zlmediakit::{HookApp, HookStore, Outlet, Relayed, hook_router};
use tokio::sync::watch;

use super::{captures, send};
use crate::support::platform::{Platform, Reply};

#[test]
fn a_stream_that_is_not_to_be_recorded_is_published_and_only_its_recording_is_switched_off() {
    let platform = Platform::start();
    let settings = HookSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        relay: Some(platform.url()),
        relay_timeout: Duration::from_secs(1),
        relay_default: BTreeMap::new(),
    };
    let (database, clock) = (Arc::new(Database::memory().unwrap()), Arc::new(SystemClock));
    let outlet: Arc<Outlet> = Arc::default();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = told.clone();
    let app = HookApp {
        media_server: MediaServerId::new("zlm-1"),
        relayed: Arc::new(ArcSwap::from_pointee(Relayed::new(settings).unwrap())),
        outlet,
        store: HookStore::start(database, clock.clone(), Arc::new(|_| ()), BTreeMap::new()).unwrap(),
        told: Arc::new(move |server, event, body| {
            hears.lock().unwrap().push(format!("{server} {event} {}", body["hook_index"]));
        }),
        may_record: Arc::new(|server, stream| {
            let names = [server.as_str(), &stream.vhost, &stream.app, &stream.stream];
            names != ["zlm-1", "__defaultVhost__", "live", "test"]
        }),
        events: Arc::new(|_| ()),
        clock,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (end, shutdown) = watch::channel(false);
    let serving = runtime.spawn(serve_tcp(listener, hook_router(app), Limits::for_hooks(4096, 1), shutdown));
    let bodies = captures();
    let publish = |name: &str| send(port, "/index/hook/on_publish", &bodies[name]).unwrap();
    let (test, other) = ("hook_on_publish_rtmp", "hook_on_publish_rtsp");

    let answer = "{ \"code\": 0, \"enable_mp4\":true, \"mp4_max_second\": 300 }";
    platform.answers("on_publish", Reply::json(answer));
    assert_eq!(publish(other).body, answer);
    assert_eq!(publish(test).json(), json!({"code": 0, "enable_mp4": false, "mp4_max_second": 300}));
    let refused = "{ \"code\": 403, \"msg\":\"no\" }";
    platform.answers("on_publish", Reply::json(refused));
    assert_eq!((publish(other).body, publish(test).body), (refused.to_owned(), refused.to_owned()));
    platform.down();
    assert_eq!(publish(test).json(), json!({"code": 0, "msg": "success", "enable_mp4": false}));
    assert_eq!(publish(other).json(), json!({"code": 0, "msg": "success"}));
    // Only `on_publish` is about recording.
    platform.up();
    platform.answers("on_play", Reply::json(answer));
    assert_eq!(send(port, "/index/hook/on_play", &bodies[test]).unwrap().body, answer);
    // The store has no disk: what tells is refused, and heard all the same.
    let alive = send(port, "/index/hook/on_server_keepalive", &bodies["hook_on_server_keepalive"]).unwrap();
    assert_eq!((alive.status, alive.code()), (503, -1), "{alive:?}");
    assert_eq!(*told.lock().unwrap(), ["zlm-1 on_server_keepalive 1"]);
    end.send(true).unwrap();
    runtime.block_on(serving).unwrap();
}
