//! What is known of media servers, whatever the order in which lists and hooks arrive.

use super::*;
use crate::domain::secret::Secret;
use crate::testkit::{FakeClock, Power};

const INTERVAL: Duration = Duration::from_secs(10);

fn settings(name: &str) -> MediaServerSettings {
    MediaServerSettings {
        name: MediaServerId::new(name),
        api: "http://127.0.0.1:9".to_owned(),
        secret: Some(Secret::new("hidden")),
        path_map: Vec::new(),
        hooks: None,
        gateway: None,
        recording_switch: None,
    }
}

fn live() -> (Live, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Arc::new(Power::default())));
    let live = Live::new(clock.clone());
    live.set(&[settings("zlm-1")], INTERVAL);
    (live, clock)
}

fn hook(name: &str) -> Value {
    let file = format!("{}/tests/data/zlmediakit/hook_{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn stream(name: &str) -> LiveStream {
    let names = StreamTuple { vhost: DEFAULT_VHOST.to_owned(), app: "live".to_owned(), stream: name.to_owned() };
    LiveStream { names, mp4: Some(true), hls: Some(false), since: None }
}

fn server() -> MediaServerId {
    MediaServerId::new("zlm-1")
}

fn names(live: &Live) -> Vec<String> {
    live.views()[0].streams.iter().map(|stream| stream.names.stream.clone()).collect()
}

fn ask(live: &Live) -> Asking {
    let mut due = live.due();
    assert_eq!(due.len(), 1, "it is asked now");
    assert!(live.due().is_empty(), "by one at a time");
    due.remove(0)
}

fn answer(live: &Live, streams: &[&str]) {
    let asking = ask(live);
    live.asked(&asking, Ok(streams.iter().map(|name| stream(name)).collect()), None);
}

#[test]
fn a_server_is_up_once_it_answers_and_down_once_it_does_not_and_keeps_its_streams() {
    let (live, clock) = live();
    assert_eq!(live.views()[0].reach, Reach::Unasked);
    answer(&live, &["test"]);
    assert!(live.views()[0].up());
    clock.sleep(INTERVAL);
    let asking = ask(&live);
    let refused = ApiError::Refused { call: "getMediaList" };
    let (before, now) = live.asked(&asking, Err(refused), None);
    assert!(matches!((before, now), (Reach::Up { .. }, Reach::Down { why: Unreached::Refused, .. })));
    assert_eq!(names(&live), ["test"]);
    clock.sleep(INTERVAL);
    let silent = ApiError::Unanswered { call: "getMediaList", error: "refused".to_owned() };
    let asking = ask(&live);
    let (before, now) = live.asked(&asking, Err(silent), None);
    let (Reach::Down { since: first, .. }, Reach::Down { since, why }) = (before, now) else { panic!() };
    assert_eq!((since, why.as_str()), (first, "unanswered"), "it is the same outage, and another reason");
}

#[test]
fn hooks_of_the_captures_are_taken_in() {
    let (live, clock) = live();
    answer(&live, &[]);
    clock.sleep(INTERVAL);
    live.told(&server(), HookEvent::StreamChanged, &hook("on_stream_changed_regist_rtmp"));
    assert_eq!(names(&live), ["test"]);
    assert!(
        live.streams().records(&crate::domain::names::StreamId::new("live/test")),
        "until somebody says that it is not"
    );
    answer(&live, &["test"]);
    // That one form is gone is no news of the others.
    live.told(&server(), HookEvent::StreamChanged, &hook("on_stream_changed_unregist_rtmp"));
    assert_eq!(names(&live), ["test"]);
    clock.sleep(SOON);
    answer(&live, &[]);
    assert_eq!(names(&live), [""; 0]);
    live.told(&server(), HookEvent::ServerExited, &hook("on_server_exited"));
    assert!(live.views()[0].exited);
    live.told(&server(), HookEvent::ServerStarted, &hook("on_server_started"));
    assert!(!live.views()[0].exited);
    live.told(&server(), HookEvent::ServerKeepalive, &hook("on_server_keepalive"));
    for body in
        [Value::Null, serde_json::json!({"regist": true}), serde_json::json!({"regist": true, "app": 7, "stream": "x"})]
    {
        live.told(&server(), HookEvent::StreamChanged, &body);
        live.told(&MediaServerId::new("nobody"), HookEvent::StreamChanged, &body);
    }
    assert_eq!(names(&live), [""; 0]);
}

#[test]
fn a_start_forgets_all_streams_and_asks_anew() {
    let (live, _) = live();
    answer(&live, &["old"]);
    assert!(live.due().is_empty());
    live.told(&server(), HookEvent::ServerStarted, &hook("on_server_started"));
    assert_eq!((names(&live), live.views()[0].listed), (vec![], None));
}

/// A list that was asked for before a stream came, or before the server ended, undoes nothing.
#[test]
fn a_list_knows_nothing_of_what_was_told_since_it_was_asked_for() {
    let (live, clock) = live();
    let asking = ask(&live);
    live.told(&server(), HookEvent::StreamChanged, &hook("on_stream_changed_regist_rtmp"));
    live.asked(&asking, Ok(vec![stream("other")]), None);
    assert_eq!(names(&live), ["other", "test"]);
    clock.sleep(INTERVAL);
    answer(&live, &["other"]);
    assert_eq!(names(&live), ["other"], "a later list does");
    clock.sleep(INTERVAL);
    let asking = ask(&live);
    live.told(&server(), HookEvent::ServerExited, &hook("on_server_exited"));
    live.asked(&asking, Ok(vec![stream("other")]), None);
    assert_eq!(names(&live), [""; 0]);
    assert_eq!(live.views()[0].listed, None);
}

#[test]
fn hooks_hurry_the_next_question_but_a_slow_server_is_let_rest() {
    let (live, clock) = live();
    let asking = ask(&live);
    clock.sleep(Duration::from_secs(2));
    live.asked(&asking, Ok(Vec::new()), None);
    live.told(&server(), HookEvent::StreamChanged, &Value::Null);
    clock.sleep(SOON);
    assert!(live.due().is_empty(), "asking took two seconds");
    clock.sleep(Duration::from_secs(18));
    assert_eq!(live.due().len(), 1);
}

#[test]
fn other_settings_keep_what_is_known_of_the_same_server() {
    let (live, _) = live();
    answer(&live, &["test"]);
    let same = MediaServerSettings { path_map: vec![("/a".into(), "/b".into())], ..settings("zlm-1") };
    live.set(&[same, settings("zlm-2")], INTERVAL);
    assert_eq!(names(&live), ["test"]);
    assert_eq!(live.views().len(), 2);
    live.set(&[MediaServerSettings { secret: Some(Secret::new("other")), ..settings("zlm-1") }], INTERVAL);
    assert_eq!(live.views()[0].reach, Reach::Unasked);
}
