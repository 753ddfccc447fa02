//! The HTTP API: each answer is a capture with values changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::captures::{capture, filled, media_entries, quoted, with};
use super::recorder::Task;
use super::{Kind, Name, SCHEMAS, Shared, deletion};
use crate::support::wire::Request;

type Arguments = BTreeMap<String, String>;

/// An answer of the API: always status 200.
pub(super) struct Answer {
    body: String,
}

impl Answer {
    fn code(&self) -> i64 {
        serde_json::from_str::<Value>(&self.body).unwrap()["code"].as_i64().unwrap()
    }

    /// After these the connection is closed, though its head said that it is kept.
    pub(super) fn closes(&self) -> bool {
        matches!(self.code(), -100 | -300 | -500)
    }

    pub(super) fn bytes(&self, request: &Request) -> Vec<u8> {
        let cookie = match request.header("cookie") {
            "" => format!("Set-Cookie: ZLM_UNLOGIN={};path=/index/\r\n", fresh()),
            _ => String::new(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\
             Content-Type: application/json; charset=utf-8\r\nKeep-Alive: timeout=30, max=100\r\n{cookie}\r\n",
            self.body.len()
        );
        [head.as_bytes(), self.body.as_bytes()].concat()
    }
}

/// Thirty-two digits that nobody has seen.
fn fresh() -> String {
    (0..32).map(|_| char::from_digit(fastrand::u32(0..16), 16).unwrap()).collect()
}

/// What is answered to a path that leads to nothing.
pub(super) fn not_found() -> Vec<u8> {
    let body = capture("api_unknown.json");
    let head = format!(
        "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: {}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Keep-Alive: timeout=30, max=100\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

impl Shared {
    /// What a call is answered; `None`: there is no such call.
    pub(super) fn answer(self: &Arc<Self>, call: &str, request: &Request) -> Option<Answer> {
        let known: Value = serde_json::from_str(&capture("api_getApiList.json")).unwrap();
        let path = format!("/index/api/{call}");
        if !known["data"].as_array().unwrap().iter().any(|known| known == &path) {
            return None;
        }
        let arguments = request.arguments();
        let given = arguments.get("secret").map_or_else(|| request.header("secret"), String::as_str);
        let body = if given == self.setting("api.secret") {
            self.body(call, &arguments)
        } else {
            with(&capture("api_isRecording_no_secret.json"), "cookie", &quoted(&fresh()))
        };
        Some(Answer { body })
    }

    fn body(self: &Arc<Self>, call: &str, arguments: &Arguments) -> String {
        match call {
            "deleteRecordDirectory" => match named(arguments) {
                Some(name) => self.delete(&name, arguments),
                None => capture("api_deleteRecordDirectory_j_missing_stream.json"),
            },
            "getServerConfig" => self.config(),
            "setServerConfig" => self.configure(arguments),
            "getMediaList" => self.media_list(arguments),
            "isRecording" => self.about_recording(arguments, |name, kind| {
                let status = self.is_recording(name, kind)?;
                Some(with(&capture("api_isRecording_mp4_recording.json"), "status", &status.to_string()))
            }),
            "startRecord" => self.about_recording(arguments, |name, kind| {
                self.record(name, kind).then(|| capture("api_startRecord_mp4.json"))
            }),
            "stopRecord" => self.about_recording(arguments, |name, kind| {
                self.stop(name, kind).then(|| capture("api_stopRecord_mp4.json"))
            }),
            "startRecordTask" => self.task(arguments),
            "isMediaOnline" => {
                let online = named(arguments).is_some_and(|name| self.streams.lock().unwrap().contains_key(&name));
                with(&capture("api_isMediaOnline.json"), "online", &online.to_string())
            }
            "getMP4RecordFile" => match named(arguments) {
                Some(name) => self.files(&name, arguments.get("period").map_or("", String::as_str)),
                None => capture("api_deleteRecordDirectory_j_missing_stream.json"),
            },
            "getApiList" | "getStatistic" | "getThreadsLoad" | "getWorkThreadsLoad" | "version" => {
                capture(&format!("api_{call}.json"))
            }
            _ => panic!("there is no capture of `{call}`"),
        }
    }

    fn delete(&self, name: &Name, arguments: &Arguments) -> String {
        let text = |key: &str| arguments.get(key).map_or("", String::as_str);
        let (vhost, app, stream) = name;
        let mut path = match text("customized_path") {
            "" => self.mp4_folder(name),
            root => deletion::record_path(root, &self.setting("record.appName"), self.vhost(vhost), app, stream),
        };
        if !text("period").is_empty() {
            path += &format!("{}/", text("period"));
        }
        path += text("name");
        let recording = self.is_recording(name, Kind::Mp4).unwrap_or(false);
        let code =
            if recording && text("name").is_empty() { self.fence.sweep(&path) } else { self.fence.delete(&path) };
        let values = [("code", code.to_string()), ("path", quoted(&path))];
        filled(&capture("api_deleteRecordDirectory_a_single_file.json"), &values)
    }

    fn config(&self) -> String {
        let settings = self.settings.lock().unwrap();
        let text = capture("api_getServerConfig.json");
        let line = |line: &str| match pair(line).filter(|(key, was)| settings[key] != *was) {
            Some((key, _)) => with(line, &key, &quoted(&settings[&key])),
            // What was not changed stays as it was written.
            None => line.to_owned(),
        };
        text.split_inclusive('\n').map(line).collect()
    }

    fn configure(&self, arguments: &Arguments) -> String {
        let mut changed = 0;
        let mut settings = self.settings.lock().unwrap();
        for (key, value) in arguments {
            if let Some(known) = settings.get_mut(key)
                && known != value
            {
                value.clone_into(known);
                changed += 1;
            }
        }
        with(&capture("api_setServerConfig.json"), "changed", &changed.to_string())
    }

    /// One entry for each schema of each stream.
    fn media_list(&self, arguments: &Arguments) -> String {
        let wanted =
            |key: &str, value: &str| arguments.get(key).is_none_or(|wanted| wanted.is_empty() || wanted == value);
        let entries = media_entries();
        let mut list = Vec::new();
        for ((vhost, app, stream), state) in self.streams.lock().unwrap().iter() {
            for (schema, entry) in &entries {
                let there = SCHEMAS.contains(&schema.as_str()) || state.hls.is_some();
                let asked = wanted("schema", schema) && wanted("vhost", vhost) && wanted("app", app);
                if there && asked && wanted("stream", stream) {
                    let url = quoted(&format!("rtmp://{vhost}/{app}/{stream}"));
                    let values = [
                        ("app", quoted(app)),
                        ("stream", quoted(stream)),
                        ("vhost", quoted(vhost)),
                        ("originUrl", url),
                        ("isRecordingHLS", state.hls.is_some().to_string()),
                        ("isRecordingMP4", state.mp4.is_some().to_string()),
                    ];
                    list.push(filled(entry, &values));
                }
            }
        }
        if list.is_empty() {
            return capture("api_getMediaList_nostream.json");
        }
        format!("{{\n\t\"code\" : 0,\n\t\"data\" : \n\t[\n{}\n\t]\n}}\n", list.join(",\n"))
    }

    fn about_recording(&self, arguments: &Arguments, act: impl FnOnce(&Name, Kind) -> Option<String>) -> String {
        let kind = match arguments.get("type").map(String::as_str) {
            Some("0") => Some(Kind::Hls),
            Some("1") => Some(Kind::Mp4),
            Some(_) | None => None,
        };
        match (named(arguments), kind) {
            (Some(name), Some(kind)) => {
                act(&name, kind).unwrap_or_else(|| capture("api_isRecording_stream_absent.json"))
            }
            (Some(_) | None, _) => capture("api_isRecording_missing_arg.json"),
        }
    }

    fn task(&self, arguments: &Arguments) -> String {
        let Some(name) = named(arguments) else { return capture("api_isRecording_missing_arg.json") };
        let path = format!("{}{}", self.mp4_folder(&name), arguments["path"]);
        assert!(!path.contains("/../"), "tests write below the stand-in's folder");
        self.tasks.lock().unwrap().push(Task::start(Path::new(&path)));
        with(&capture("api_startRecordTask.json"), "path", &quoted(&path))
    }

    /// Names only: those of a day, or the folders whose names begin so; nothing that is hidden.
    fn files(&self, name: &Name, period: &str) -> String {
        let home = self.mp4_folder(name);
        let a_day = period.len() == 10;
        let root = if a_day { format!("{home}{period}/") } else { home };
        let fits = |path: &PathBuf, file: &str| match a_day {
            true => !path.is_dir(),
            false => path.is_dir() && file.starts_with(period),
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let file = entry.file_name().to_str().unwrap().to_owned();
            if fits(&entry.path(), &file) && !file.starts_with('.') {
                names.push(format!("\t\t\t{}", quoted(&file)));
            }
        }
        let paths = if names.is_empty() { "[]".to_owned() } else { format!("\n\t\t[\n{}\n\t\t]", names.join(",\n")) };
        let values = [("paths", paths), ("rootPath", quoted(&root))];
        filled(&capture("api_getMP4RecordFile_absent_stream_month.json"), &values)
    }
}

/// Key and value of a line, if it holds two texts.
fn pair(line: &str) -> Option<(String, String)> {
    let object = format!("{{{}}}", line.trim().trim_end_matches(','));
    serde_json::from_str::<BTreeMap<String, String>>(&object).ok()?.pop_first()
}

/// The stream that is meant, if all of its name is given.
fn named(arguments: &Arguments) -> Option<Name> {
    let part = |key: &str| arguments.get(key).filter(|part| !part.is_empty()).cloned();
    Some((part("vhost")?, part("app")?, part("stream")?))
}
