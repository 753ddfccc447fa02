//! An event that the platform refuses for good must not hold up those behind it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use storage_guard::domain::event::Event;
use storage_guard::domain::media::{HookEvent, HookSettings};
use storage_guard::domain::names::MediaServerId;
use storage_guard::domain::units::Timestamp;
use storage_guard::store::{Database, Outgoing, ToldHook};
use storage_guard::system::Clock as _;
use storage_guard::testkit::{FakeClock, Power};
use storage_guard::zlmediakit::{Courier, Outlet, Relayed};
use tokio::sync::watch;

use crate::support::platform::{Platform, Reply};
use crate::support::wait_for;

#[test]
fn an_event_that_the_platform_refuses_for_good_holds_up_the_others_once_and_is_never_lost() {
    let platform = Platform::start();
    platform.answers("on_flow_report", Reply::Bytes(404, b"{}".to_vec()));
    let (server, database) = (MediaServerId::new("zlm-1"), Arc::new(Database::memory().unwrap()));
    let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Power::new(BTreeMap::new())));
    let outlet: Arc<Outlet> = Arc::default();
    let tell = |event: HookEvent, body: &str| {
        let (media_server, headers, body) = (server.clone(), String::new(), body.as_bytes().to_vec());
        let outgoing = Some(Outgoing { media_server, event, stream: None, headers, body });
        database.take_hooks(&[ToldHook { record: None, outgoing }], clock.now()).unwrap();
        outlet.changed();
    };
    for (event, body) in
        [(HookEvent::FlowReport, "{\"n\":1}"), (HookEvent::RecordMp4, "{\"n\":2}"), (HookEvent::RecordMp4, "{\"n\":3}")]
    {
        tell(event, body);
    }
    let settings = HookSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        relay: Some(platform.url()),
        relay_timeout: Duration::from_secs(1),
        relay_default: BTreeMap::new(),
    };
    let remarks: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = remarks.clone();
    let courier = Courier {
        media_server: server.clone(),
        relayed: Arc::new(ArcSwap::from_pointee(Relayed::new(settings).unwrap())),
        database: database.clone(),
        outlet: outlet.clone(),
        events: Arc::new(move |event| {
            if let Event::Remark { text, .. } = event {
                told.lock().unwrap().push(text);
            }
        }),
        clock: clock.clone(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (end, shutdown) = watch::channel(false);
    let running = runtime.spawn(courier.run(shutdown));
    let taken = || platform.taken().iter().map(|hook| hook.json()["n"].as_u64().unwrap()).collect::<Vec<_>>();
    wait_for("it was refused", || !platform.not_taken().is_empty());
    assert!(taken().is_empty(), "the order is kept while it may be the platform's fault");
    clock.sleep(Duration::from_secs(31));
    outlet.changed();
    wait_for("the others are taken", || taken() == [2, 3]);
    wait_for("it is put aside", || database.hook_backlog(&server).unwrap().aside == 1);
    wait_for("the log says so", || remarks.lock().unwrap().iter().any(|text| text.contains("put aside")));
    // Another of its kind is put aside without any wait.
    tell(HookEvent::FlowReport, "{\"n\":4}");
    tell(HookEvent::RecordMp4, "{\"n\":5}");
    wait_for("the next is taken", || taken() == [2, 3, 5]);
    assert_eq!(outlet.status().waiting, 2);
    // An hour later both are wanted.
    platform.answers("on_flow_report", Reply::json(r#"{"code":0}"#));
    clock.sleep(Duration::from_secs(3601));
    outlet.changed();
    wait_for("all are taken", || taken() == [2, 3, 5, 1, 4]);
    wait_for("none waits", || database.hook_backlog(&server).unwrap().events == 0);
    end.send(true).unwrap();
    runtime.block_on(running).unwrap();
}
