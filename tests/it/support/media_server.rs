//! A stand-in for ZLMediaKit, made of its captures: the same answers, the same behaviour of its sockets, the same lies. What it does to
//! files it really does, below the folder that it is given.

mod api;
mod captures;
mod deletion;
mod files;
mod hooks;
mod recorder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use captures::{capture, filled, quoted};
pub(crate) use files::LIVE;
pub(crate) use hooks::{EVENTS, Sent};

use super::wait_for;
use super::wire::{Connection, Port, Request};
use deletion::Fence;
use recorder::{Finished, Hls, Mp4, Task};

/// The virtual host of everything, where there are none.
pub(crate) const VHOST: &str = "__defaultVhost__";
/// The schemas of a stream that makes no HLS.
const SCHEMAS: [&str; 4] = ["ts", "rtsp", "rtmp", "fmp4"];

/// Virtual host, app and stream.
type Name = (String, String, String);

/// What is recorded of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hls,
    Mp4,
}

/// A media server on a port of its own, ended when dropped.
pub(crate) struct MediaServer {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Stream {
    mp4: Option<Mp4>,
    hls: Option<Hls>,
}

struct Shared {
    fence: Fence,
    /// Its configuration, as `getServerConfig` tells it.
    settings: Mutex<BTreeMap<String, String>>,
    streams: Mutex<BTreeMap<Name, Stream>>,
    tasks: Mutex<Vec<Task>>,
    requests: Mutex<Vec<Request>>,
    sent: Mutex<Vec<Sent>>,
    /// Hooks that are under way.
    under_way: AtomicU64,
    hook_index: AtomicU64,
    silent: AtomicBool,
    slow: Mutex<Duration>,
}

impl MediaServer {
    /// Starts it. It records in `home/rec` and `home/hls`, sends no hooks, has no virtual hosts, and waits a fifth of a second before it
    /// sends a hook again.
    pub(crate) fn start(home: &Path) -> Self {
        let home = std::fs::canonicalize(home).unwrap();
        let about: serde_json::Value = serde_json::from_str(&capture("api_getServerConfig.json")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let known = about["data"][0].as_object().unwrap().iter();
        let mut settings: BTreeMap<String, String> = known.map(|(name, value)| (name.clone(), text(value))).collect();
        for event in EVENTS {
            settings.insert(format!("hook.{event}"), String::new());
        }
        let shared = Arc::new(Shared {
            fence: Fence(home.clone()),
            settings: Mutex::new(settings),
            streams: Mutex::default(),
            tasks: Mutex::default(),
            requests: Mutex::default(),
            sent: Mutex::default(),
            under_way: AtomicU64::new(0),
            hook_index: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            slow: Mutex::default(),
        });
        let serving = shared.clone();
        let port = Port::open(move |connection| serving.serve(connection));
        let server = Self { port, shared };
        server.set("http.port", &server.port().to_string());
        server.set("hook.retry_delay", "0.2");
        for (key, folder) in [("protocol.mp4_save_path", "rec"), ("protocol.hls_save_path", "hls")] {
            server.set(key, home.join(folder).to_str().unwrap());
        }
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where its HTTP API is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    pub(crate) fn secret(&self) -> String {
        self.shared.setting("api.secret")
    }

    /// Changes its configuration.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let mut settings = self.shared.settings.lock().unwrap();
        value.clone_into(settings.get_mut(key).unwrap_or_else(|| panic!("there is no `{key}`")));
    }

    /// Sends every hook there from now on, with the event's name added; to nobody, if it is empty.
    pub(crate) fn hooks_to(&self, url: &str) {
        for event in EVENTS {
            let url = if url.is_empty() { String::new() } else { format!("{url}/{event}") };
            self.set(&format!("hook.{event}"), &url);
        }
    }

    /// Where the recordings of a stream are.
    pub(crate) fn folder(&self, app: &str, stream: &str) -> PathBuf {
        PathBuf::from(self.shared.mp4_folder(&name(app, stream)))
    }

    /// Every request that it saw, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests for this call of its API.
    pub(crate) fn requests_for(&self, call: &str) -> Vec<Request> {
        let path = format!("/index/api/{call}");
        self.requests().into_iter().filter(|request| request.path() == path).collect()
    }

    /// Nobody has put its secret into a URL, where logs keep it.
    pub(crate) fn assert_no_secret_in_urls(&self) {
        let secret = self.secret();
        for request in self.requests() {
            assert!(!request.target.contains(&secret), "{}", request.target);
        }
    }

    /// It accepts connections, and says nothing any more.
    pub(crate) fn pause(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// It answers again, also what was asked meanwhile.
    pub(crate) fn resume(&self) {
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    /// Each answer takes so long.
    pub(crate) fn slow(&self, each: Duration) {
        *self.shared.slow.lock().unwrap() = each;
    }

    /// It is ended without notice: nobody can connect, streams are gone, what was being written stays hidden.
    pub(crate) fn kill(&self) {
        self.port.down();
        self.shared.streams.lock().unwrap().clear();
        self.shared.tasks.lock().unwrap().clear();
    }

    /// It runs again after `kill`: its counter of hooks begins anew, and it says that it has started.
    pub(crate) fn restart(&self) {
        self.shared.hook_index.store(0, Ordering::SeqCst);
        self.port.up();
        self.shared.tell("on_server_started", Vec::new());
    }

    /// A stream is there, as if nobody had been asked.
    pub(crate) fn publish(&self, app: &str, stream: &str) {
        self.shared.publish(&name(app, stream));
    }

    /// Somebody pushes a stream: whoever gets the hooks is asked whether it may, and whether it is recorded. False if it is refused, which
    /// it also is if nobody answers.
    pub(crate) fn push(&self, app: &str, stream: &str) -> bool {
        let values = vec![("app", quoted(app)), ("stream", quoted(stream))];
        let said = self.shared.hook("on_publish_rtmp", &values).map(|sent| sent.said().unwrap_or_default());
        if said.as_ref().is_some_and(|said| said["code"] != 0) {
            return false;
        }
        self.publish(app, stream);
        if said.is_some_and(|said| said["enable_mp4"] == true) {
            self.record(app, stream, Kind::Mp4);
        }
        true
    }

    /// The stream ends, and so do its recordings.
    pub(crate) fn unpublish(&self, app: &str, stream: &str) {
        for kind in [Kind::Mp4, Kind::Hls] {
            self.stop(app, stream, kind);
        }
        self.shared.unpublish(&name(app, stream));
    }

    /// Records a stream.
    pub(crate) fn record(&self, app: &str, stream: &str, kind: Kind) {
        assert!(self.shared.record(&name(app, stream), kind), "{app}/{stream} is not there");
    }

    /// Stops recording a stream: the slice gets its name, and a hook tells of it.
    pub(crate) fn stop(&self, app: &str, stream: &str, kind: Kind) {
        assert!(self.shared.stop(&name(app, stream), kind), "{app}/{stream} is not there");
    }

    /// A stream is being recorded.
    pub(crate) fn is_recording(&self, app: &str, stream: &str, kind: Kind) -> bool {
        self.shared.is_recording(&name(app, stream), kind).unwrap_or(false)
    }

    /// The slice of a stream grows by so many times 64 KiB.
    pub(crate) fn grow(&self, app: &str, stream: &str, buffers: usize) {
        self.shared
            .streams
            .lock()
            .unwrap()
            .get_mut(&name(app, stream))
            .unwrap()
            .mp4
            .as_mut()
            .unwrap()
            .slice
            .grow(buffers);
    }

    /// The file that is being written, which nobody else may touch.
    pub(crate) fn live(&self, app: &str, stream: &str) -> PathBuf {
        self.shared.streams.lock().unwrap()[&name(app, stream)].mp4.as_ref().unwrap().slice.hidden().to_owned()
    }

    /// What is being recorded of a stream is cut: slice and segment end, hooks tell of them, and the next ones begin. Returns the MP4.
    pub(crate) fn cut(&self, app: &str, stream: &str) -> Option<PathBuf> {
        self.shared.cut(&name(app, stream))
    }

    /// The files of `startRecordTask` grow.
    pub(crate) fn grow_tasks(&self) {
        self.shared.tasks.lock().unwrap().iter_mut().for_each(Task::grow);
    }

    /// Sends the hook of a capture with changed values, and waits for what comes of it.
    pub(crate) fn hook(&self, capture: &str, values: &[(&str, String)]) -> Option<Sent> {
        self.shared.hook(capture, values)
    }

    /// Waits until no hook is under way; all that were sent, in the order in which they ended.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        wait_for("no hook is under way", || self.shared.under_way.load(Ordering::SeqCst) == 0);
        self.shared.sent.lock().unwrap().clone()
    }
}

fn name(app: &str, stream: &str) -> Name {
    (VHOST.to_owned(), app.to_owned(), stream.to_owned())
}

impl Shared {
    fn setting(&self, key: &str) -> String {
        self.settings.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn next_hook(&self) -> u64 {
        self.hook_index.fetch_add(1, Ordering::SeqCst)
    }

    /// The virtual host, where they are folders.
    fn vhost<'n>(&self, vhost: &'n str) -> Option<&'n str> {
        (self.setting("general.enableVhost") == "1").then_some(vhost)
    }

    fn mp4_folder(&self, (vhost, app, stream): &Name) -> String {
        let (root, record) = (self.setting("protocol.mp4_save_path"), self.setting("record.appName"));
        deletion::record_path(&root, &record, self.vhost(vhost), app, stream)
    }

    fn hls_folder(&self, (vhost, app, stream): &Name) -> String {
        deletion::record_path(&self.setting("protocol.hls_save_path"), "", self.vhost(vhost), app, stream)
    }

    /// Sends a hook without waiting for it.
    fn tell(self: &Arc<Self>, capture: &'static str, values: Vec<(&'static str, String)>) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let shared = self.clone();
        std::thread::spawn(move || {
            let _ended = Ended(shared.clone());
            shared.hook(capture, &values);
        });
    }

    fn publish(self: &Arc<Self>, name: &Name) {
        self.streams.lock().unwrap().entry(name.clone()).or_default();
        for schema in SCHEMAS {
            self.tell_change(name, schema, "on_stream_changed_regist_rtmp");
        }
    }

    fn unpublish(self: &Arc<Self>, name: &Name) {
        self.streams.lock().unwrap().remove(name);
        for schema in SCHEMAS {
            self.tell_change(name, schema, "on_stream_changed_unregist_rtmp");
        }
    }

    fn tell_change(self: &Arc<Self>, (vhost, app, stream): &Name, schema: &str, capture: &'static str) {
        let values = [("app", app.as_str()), ("stream", stream), ("vhost", vhost), ("schema", schema)];
        self.tell(capture, values.map(|(key, value)| (key, quoted(value))).to_vec());
    }

    /// What is recorded of a stream, if the stream is there.
    fn is_recording(&self, name: &Name, kind: Kind) -> Option<bool> {
        let streams = self.streams.lock().unwrap();
        let stream = streams.get(name)?;
        Some(match kind {
            Kind::Mp4 => stream.mp4.is_some(),
            Kind::Hls => stream.hls.is_some(),
        })
    }

    /// Begins to record, if it does not yet; false if the stream is not there.
    fn record(self: &Arc<Self>, name: &Name, kind: Kind) -> bool {
        let (mp4, hls) = (self.mp4_folder(name), self.hls_folder(name));
        let mut streams = self.streams.lock().unwrap();
        let Some(stream) = streams.get_mut(name) else { return false };
        match kind {
            Kind::Mp4 if stream.mp4.is_none() => stream.mp4 = Some(Mp4::start(&mp4)),
            Kind::Hls if stream.hls.is_none() => {
                stream.hls = Some(Hls::start(&self.setting("protocol.hls_save_path"), &hls));
                self.tell_change(name, "hls", "on_stream_changed_regist_hls");
            }
            Kind::Mp4 | Kind::Hls => {}
        }
        true
    }

    /// Ends to record, if it does; false if the stream is not there.
    fn stop(self: &Arc<Self>, name: &Name, kind: Kind) -> bool {
        let mut streams = self.streams.lock().unwrap();
        let Some(stream) = streams.get_mut(name) else { return false };
        match kind {
            Kind::Mp4 => {
                let finished = stream.mp4.take().and_then(|mp4| mp4.slice.finish());
                drop(streams);
                finished.into_iter().for_each(|slice| self.tell_mp4(name, &slice));
            }
            Kind::Hls => {
                if let Some(hls) = stream.hls.take() {
                    self.tell_change(name, "hls", "on_stream_changed_unregist_hls");
                    // With `hls.segKeep` everything is kept.
                    if self.setting("hls.segKeep") == "0" {
                        hls.remove();
                    }
                }
            }
        }
        true
    }

    fn cut(self: &Arc<Self>, name: &Name) -> Option<PathBuf> {
        let count = |key: &str| self.setting(key).parse::<usize>().unwrap();
        let keep = (self.setting("hls.segKeep") == "0").then(|| count("hls.segNum") + count("hls.segRetain"));
        let mut streams = self.streams.lock().unwrap();
        let stream = streams.get_mut(name).unwrap();
        let slice = stream.mp4.as_mut().and_then(Mp4::cut);
        let segment = stream.hls.as_mut().map(|hls| hls.cut(keep));
        drop(streams);
        if let Some(segment) = segment {
            self.tell_ts(name, &segment);
        }
        let slice = slice?;
        self.tell_mp4(name, &slice);
        Some(slice.path)
    }

    fn tell_mp4(self: &Arc<Self>, name: &Name, slice: &Finished) {
        let (home, (_, app, stream)) = (self.mp4_folder(name), name);
        let day = slice.path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
        let file = slice.path.file_name().unwrap().to_str().unwrap();
        let url = format!("{}/{app}/{stream}/{day}/{file}", self.setting("record.appName"));
        let capture = if self.setting("general.enableVhost") == "1" { "on_record_mp4_vhost1" } else { "on_record_mp4" };
        self.tell_recorded(capture, name, slice, file, &home, &url);
    }

    fn tell_ts(self: &Arc<Self>, name: &Name, segment: &Finished) {
        let (home, (_, app, stream)) = (self.hls_folder(name), name);
        let file = segment.path.strip_prefix(&home).unwrap().to_str().unwrap();
        let url = format!("{app}/{stream}/{file}");
        // Without a slash at its end, other than that of an MP4.
        self.tell_recorded("on_record_ts", name, segment, file, home.trim_end_matches('/'), &url);
    }

    fn tell_recorded(
        self: &Arc<Self>,
        capture: &'static str,
        (vhost, app, stream): &Name,
        made: &Finished,
        file: &str,
        folder: &str,
        url: &str,
    ) {
        let path = made.path.to_str().unwrap();
        let words = [
            ("app", app.as_str()),
            ("stream", stream),
            ("vhost", vhost),
            ("file_name", file),
            ("file_path", path),
            ("folder", folder),
            ("url", url),
        ];
        let mut values: Vec<_> = words.into_iter().map(|(key, value)| (key, quoted(value))).collect();
        values.push(("file_size", made.size.to_string()));
        values.push(("start_time", made.started.timestamp().as_second().to_string()));
        values.push(("time_len", format!("{:?}", made.length)));
        self.tell(capture, values);
    }

    fn serve(self: &Arc<Self>, mut connection: Connection) {
        while let Some(request) = Request::read(&mut connection.stream) {
            if connection.ending() {
                return;
            }
            self.requests.lock().unwrap().push(request.clone());
            let slow = *self.slow.lock().unwrap();
            if !connection.stay(slow) {
                return;
            }
            while self.silent.load(Ordering::SeqCst) {
                if !connection.stay(Duration::from_millis(10)) {
                    return;
                }
            }
            if !self.handle(&mut connection, &request) {
                return;
            }
        }
    }

    /// Answers; false if the connection ends with that.
    fn handle(self: &Arc<Self>, connection: &mut Connection, request: &Request) -> bool {
        if request.header("upgrade").eq_ignore_ascii_case("websocket") {
            files::websocket(connection, request);
            return false;
        }
        if let Some(call) = request.path().strip_prefix("/index/api/")
            && let Some(answer) = self.answer(call, request)
        {
            return connection.write(&answer.bytes(request)) && !answer.closes();
        }
        if self.is_live(request.path()) {
            files::live(connection);
            return false;
        }
        let root = PathBuf::from(self.setting("protocol.mp4_save_path"));
        files::file(connection, request, &root).unwrap_or_else(|| connection.write(&api::not_found()))
    }

    fn is_live(&self, path: &str) -> bool {
        let parts = path.trim_matches('/').strip_suffix(".live.flv").and_then(|name| name.split_once('/'));
        parts.is_some_and(|(app, stream)| self.streams.lock().unwrap().contains_key(&name(app, stream)))
    }
}

/// A hook is not under way any more, however it ended.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
