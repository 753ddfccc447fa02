//! What is withheld is on record as soon as it can be, and what became of it, or of what was stopped, decides whether it stays there.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::domain::conditions::tests::volume;
use crate::domain::layout::Layout;
use crate::domain::media::SwitchSettings;
use crate::domain::names::TreeId;
use crate::domain::status::VolumeView;
use crate::domain::units::Bytes;
use crate::store::Journal;
use crate::system::Clock as _;
use crate::testkit::{FakeClock, Power};

const INTERVAL: Duration = Duration::from_secs(10);
const CRITICAL: Bytes = Bytes::gib(1);
const ROOMY: Bytes = Bytes::gib(90);

/// A guard with a media server that records into its only tree.
struct Site {
    hub: Arc<Hub>,
    clock: Arc<FakeClock>,
    /// The media server's streams, and whether each is recorded.
    streams: Vec<(&'static str, bool)>,
    up: bool,
    vhosts: bool,
    home: tempfile::TempDir,
}

fn server() -> MediaServerId {
    MediaServerId::new("zlm-1")
}

fn named(vhost: &str, stream: &str) -> StreamTuple {
    StreamTuple { vhost: vhost.to_owned(), app: "live".to_owned(), stream: stream.to_owned() }
}

fn journal(home: &tempfile::TempDir) -> Arc<Journal> {
    Arc::new(Journal::open(&home.path().join("journal")).unwrap().journal)
}

/// The volume, with so much room.
fn filled(available: Bytes) -> VolumeView {
    let mut view = volume();
    if let Ok(reading) = &mut view.reading {
        (reading.space.free, reading.space.available) = (available, available);
    }
    let tree = &mut view.trees[0];
    tree.path = "/data/rec".to_owned();
    Arc::make_mut(&mut tree.policy).layout = Layout::parse("zlmediakit", &[], jiff::tz::TimeZone::UTC).unwrap();
    view
}

fn settings(api: &str, below: Option<i32>) -> MediaServerSettings {
    MediaServerSettings {
        name: server(),
        api: api.to_owned(),
        secret: None,
        path_map: Vec::new(),
        hooks: None,
        gateway: None,
        recording_switch: below.map(|below_priority| SwitchSettings { below_priority }),
    }
}

impl Site {
    /// Its volume is critical, and its media server has no streams.
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = Arc::new(FakeClock::new(Timestamp::from_secs(1_800_000_000), Arc::new(Power::default())));
        let hub = Arc::new(Hub::new(journal(&home), clock.clone()));
        let mut site = Self { hub, clock, streams: Vec::new(), up: true, vhosts: false, home };
        site.switch(Some(5));
        site.room(CRITICAL);
        assert_eq!(site.look(), Vec::<String>::new());
        site
    }

    fn switch(&self, below: Option<i32>) {
        self.hub.live.set(&[settings("http://127.0.0.1:9", below)], INTERVAL);
    }

    fn room(&self, available: Bytes) {
        self.hub.show(vec![filled(available)]);
    }

    /// Time passes, the media server is asked, and what is decided then is put into words.
    fn look(&mut self) -> Vec<String> {
        self.look_after(INTERVAL)
    }

    fn look_after(&mut self, span: Duration) -> Vec<String> {
        self.clock.sleep(span);
        let config = ServerConfig {
            id: "zlm-1".to_owned(),
            vhosts: self.vhosts,
            mp4_root: "/data/rec".to_owned(),
            record_app: "record".to_owned(),
            hls_root: "/data/hls".to_owned(),
            window: None,
            keeps_segments: false,
            hooks: BTreeMap::new(),
        };
        let listed = self.streams.iter().map(|(name, mp4)| {
            let (vhost, stream) = name.split_once('/').unwrap_or((DEFAULT_VHOST, name));
            LiveStream { names: named(vhost, stream), mp4: Some(*mp4), hls: Some(false), since: None }
        });
        let down = ApiError::Unanswered { call: "getMediaList", error: "refused".to_owned() };
        let streams = if self.up { Ok(listed.collect()) } else { Err(down) };
        for asking in self.hub.live.due() {
            self.hub.live.asked(&asking, streams.clone(), Some(config.clone()));
        }
        let work = decide(&self.hub, &server());
        let stop = work.stop.iter().map(|one| format!("stop {}", one.stream.1.stream));
        let start = work.start.iter().map(|one| format!("start {}", one.stream.1.stream));
        let release = work.release.iter().map(|(stream, why)| format!("release {}: {why}", stream.1.stream));
        stop.chain(start).chain(release).collect()
    }

    fn may(&self, vhost: &str, stream: &str) -> bool {
        self.hub.may_record(&server(), &named(vhost, stream))
    }

    /// A stream that is published, and is not to be recorded.
    fn withhold(&self, stream: &str) {
        assert!(!self.may(DEFAULT_VHOST, stream));
    }

    /// What is on record after what is withheld was put there.
    fn on_record(&self) -> Vec<String> {
        assert!(record_withheld(&self.hub));
        self.stopped()
    }

    fn stopped(&self) -> Vec<String> {
        let shown = |(_, names): &StreamOf| format!("{}/{}", names.vhost.replace(DEFAULT_VHOST, ""), names.stream);
        self.hub.with_history(|history| history.stopped.keys().map(shown).collect())
    }

    /// What a step does with what it releases.
    fn release(&self, stream: &str) {
        let note = recording_note(&(server(), named(DEFAULT_VHOST, stream)), None, "in a test");
        self.hub.append(note).unwrap();
    }

    fn remembered(&self) -> usize {
        lock(&self.hub.switch.memory).withheld.len()
    }
}

#[test]
fn what_is_withheld_is_on_record_though_its_media_server_cannot_be_asked() {
    let mut site = Site::new();
    site.up = false;
    assert_eq!(site.look(), Vec::<String>::new());
    site.withhold("a");
    site.withhold("a");
    assert_eq!(site.stopped(), [""; 0], "whoever publishes waits for no disk");
    assert_eq!(site.on_record(), ["/a"]);
    // Nothing is told twice, and nothing is forgotten while nobody can be asked.
    let lines = site.hub.journal.verify().unwrap().entries;
    assert_eq!((site.on_record().len(), site.hub.journal.verify().unwrap().entries), (1, lines));
    site.clock.sleep(APPEARS);
    assert_eq!((site.look(), site.remembered()), (vec![], 1));
    // A guard that comes after this one knows it, and begins it again.
    site.hub = Arc::new(Hub::new(journal(&site.home), site.clock.clone()));
    site.switch(Some(5));
    (site.up, site.streams) = (true, vec![("a", false)]);
    site.room(CRITICAL);
    assert_eq!(site.look(), Vec::<String>::new());
    site.room(ROOMY);
    assert_eq!(site.look(), ["start a"]);
}

#[test]
fn what_cannot_be_put_on_record_stays_in_memory_until_it_can() {
    let mut site = Site::new();
    let broken = Arc::new(Journal::detached(site.home.path()));
    let sound = std::mem::replace(&mut Arc::get_mut(&mut site.hub).unwrap().journal, broken);
    site.withhold("a");
    assert!(!record_withheld(&site.hub) && !record_withheld(&site.hub));
    site.streams = vec![("a", false)];
    assert_eq!((site.look(), site.remembered()), (vec![], 1), "it is there, and on no record");
    Arc::get_mut(&mut site.hub).unwrap().journal = sound;
    assert_eq!(site.on_record(), ["/a"]);
    assert_eq!((site.look(), site.remembered(), site.stopped().len()), (vec![], 0, 1));
}

#[test]
fn what_does_not_begin_or_is_recorded_all_the_same_is_released() {
    let mut site = Site::new();
    ["never", "by-hand", "by-hand-at-once", "there"].iter().for_each(|stream| site.withhold(stream));
    site.streams = vec![("by-hand-at-once", true)];
    // It was asked at this reading: what somebody else began is stopped at the next one only.
    lock(&site.hub.switch.memory).asked.insert(VolumeId::new("data"), Timestamp::from_secs(1_900_000_000));
    assert_eq!((site.look(), site.remembered()), (vec![], 3));
    assert_eq!(site.on_record(), ["/by-hand", "/never", "/there"]);
    site.streams = vec![("by-hand", true), ("there", false)];
    assert_eq!(site.look(), ["release by-hand: somebody else began its recording again"]);
    site.release("by-hand");
    // It is not released before it had the time to appear, not even if there is room meanwhile.
    site.room(ROOMY);
    assert_eq!(site.look(), ["start there"]);
    site.release("there");
    site.room(CRITICAL);
    site.clock.sleep(APPEARS);
    let expected = ["release never: its stream did not begin"];
    assert_eq!(site.look(), expected);
    assert_eq!(site.look(), expected, "until that is on record");
    site.release("never");
    assert_eq!((site.look(), site.remembered()), (vec![], 0));
}

#[test]
fn what_was_released_before_it_appeared_is_put_on_record_again() {
    let mut site = Site::new();
    site.withhold("a");
    assert_eq!(site.on_record(), ["/a"]);
    site.release("a");
    site.streams = vec![("a", false)];
    assert_eq!((site.look(), site.on_record()), (vec![], vec!["/a".to_owned()]));
    assert_eq!((site.look(), site.remembered()), (vec![], 0));
}

#[test]
fn a_list_of_before_a_stream_was_published_again_says_nothing_of_it() {
    let mut site = Site::new();
    // It was recorded until it ended, and came back a moment later.
    site.withhold("a");
    assert_eq!(site.on_record(), ["/a"]);
    site.streams = vec![("a", true)];
    lock(&site.hub.switch.memory).asked.insert(VolumeId::new("data"), Timestamp::from_secs(1_900_000_000));
    let second = Duration::from_secs(1);
    assert_eq!((site.look_after(second), site.remembered()), (vec![], 1));
    site.streams = vec![("a", false)];
    assert_eq!((site.look(), site.remembered(), site.stopped().len()), (vec![], 0, 1));
}

#[test]
fn without_its_switch_what_was_withheld_is_begun_again() {
    let mut site = Site::new();
    site.withhold("a");
    site.switch(None);
    site.streams = vec![("a", false)];
    assert_eq!((site.look(), site.remembered()), (vec![], 1), "it is put on record first");
    assert_eq!(site.on_record(), ["/a"]);
    assert_eq!((site.look(), site.remembered()), (vec!["start a".to_owned()], 0));
    assert!(site.may(DEFAULT_VHOST, "b"));
}

#[test]
fn a_stream_bears_the_virtual_host_that_its_media_servers_list_gives_it() {
    let site = Site::new();
    assert!(!site.may("cams.example", "a"));
    assert_eq!(site.on_record(), ["/a"], "there are no virtual hosts");
    let mut site = Site::new();
    site.vhosts = true;
    // Its configuration is another now: it is read again after it could not be asked.
    for up in [false, true] {
        site.up = up;
        site.look();
    }
    assert!(!site.may("cams.example", "a") && !site.may(DEFAULT_VHOST, "a"));
    assert_eq!(site.on_record(), ["/a", "cams.example/a"]);
    site.streams = vec![("cams.example/a", false)];
    assert_eq!((site.look(), site.remembered()), (vec![], 1));
}

#[test]
fn no_more_are_withheld_than_can_be_remembered() {
    let site = Site::new();
    for at in 0..WITHHELD {
        site.withhold(&at.to_string());
    }
    assert!(site.may(DEFAULT_VHOST, "one more"));
    site.withhold("0");
    assert_eq!(site.on_record().len(), WITHHELD, "more than one batch");
}

/// Asks a media server to stop recording a stream; it answers that it did, and then nothing to the question whether it records still.
fn stop_without_an_answer(site: &Site, stream: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let read = socket.read(&mut request).await.unwrap();
                if !String::from_utf8_lossy(&request[..read]).contains("/isRecording?") {
                    let body = "{\"code\": 0, \"msg\": \"success\", \"result\": true}";
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    socket.write_all((head + body).as_bytes()).await.unwrap();
                }
            }
        });
        let client = Client::new(&settings(&api, Some(5))).unwrap();
        let home = Home { tree: TreeId::new("live"), volume: VolumeId::new("data"), mode: Mode::Enforce, priority: 0 };
        let fullness = Fullness::Critical(site.hub.now());
        stop(&site.hub, &client, Switchable { stream: (server(), named(DEFAULT_VHOST, stream)), home, fullness }).await;
    });
}

#[test]
fn what_may_have_been_stopped_stays_on_record_until_a_list_says_that_it_is_recorded() {
    let mut site = Site::new();
    stop_without_an_answer(&site, "on");
    stop_without_an_answer(&site, "off");
    assert_eq!(site.stopped(), ["/off", "/on"]);
    site.streams = vec![("on", true), ("off", false)];
    site.room(ROOMY);
    assert_eq!(site.look(), ["release on: somebody else began its recording again"], "the other failed a moment ago");
    site.release("on");
    site.clock.sleep(AGAIN);
    assert_eq!(site.look(), ["start off"]);
}

#[test]
fn whether_a_recording_ended_is_what_its_media_server_says_afterwards() {
    let none = || ApiError::NoStream { call: "stopRecord" };
    let silent = |call| ApiError::Unanswered { call, error: "reset".to_owned() };
    let refused = || ApiError::Refused { call: "stopRecord" };
    let no = |why: &str| Ended::No(why.to_owned());
    let unknown = |error: ApiError| Ended::Unknown(error.to_string());
    for (answered, recorded, expected) in [
        (Ok(true), Ok(false), Ended::Yes),
        (Ok(false), Ok(false), Ended::Yes),
        (Err(silent("stopRecord")), Ok(false), Ended::Yes),
        (Err(none()), Ok(true), Ended::Yes),
        (Err(none()), Err(silent("isRecording")), Ended::Yes),
        (Ok(true), Err(none()), Ended::Yes),
        (Ok(true), Ok(true), no("it answered that it stopped, and records on")),
        (Ok(false), Ok(true), no("it answered that it did not")),
        (Err(refused()), Ok(true), no(&refused().to_string())),
        (Ok(true), Err(silent("isRecording")), unknown(silent("isRecording"))),
        (Ok(false), Err(silent("isRecording")), unknown(silent("isRecording"))),
        (Err(silent("stopRecord")), Err(silent("isRecording")), unknown(silent("stopRecord"))),
    ] {
        let told = format!("{answered:?} {recorded:?}");
        assert_eq!(ended(answered, recorded), expected, "{told}");
    }
}
