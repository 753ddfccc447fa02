//! The texts of messages: built-in templates in each language, and those of the user in their place.
//!
//! A template is a file of [`BUILT_IN`]; one of the same name in `notify.templates` replaces it. What it shows is escaped as
//! [`escape::form`] says for its name. A template that fails, or never ends, is replaced by the built-in one for that message, so that
//! a typing error costs nobody an alert.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Template, UndefinedBehavior};
use serde::Serialize;

use super::body::{Body, FIRING, RESOLVED, one_line};
use super::escape;
use super::sample::samples;
use super::wording::{Situation, split, template_of};
use crate::domain::alert::Condition;
use crate::domain::path::show_bytes;
use crate::domain::settings::{Language, NotifySettings};
use crate::domain::units::{Bytes, Timestamp, show_duration};

/// So many steps a template may take: more than any of ours needs by far.
const FUEL: u64 = 1_000_000;

/// A template that is larger is no text of a message.
const LARGEST: u64 = 256 * 1024;

/// A text that is larger is none that a person reads.
const LARGEST_TEXT: usize = 256 * 1024;

macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        /// The templates: name, English, Chinese.
        const BUILT_IN: &[(&str, &str, &str)] = &[$((
            $name,
            include_str!(concat!("templates/en/", $name)),
            include_str!(concat!("templates/zh/", $name)),
        )),+];
    };
}

built_in! {
    "VolumePressure.txt",
    "VolumeExhausted.txt",
    "VolumeBlind.txt",
    "VolumeReadOnly.txt",
    "SpaceNotReclaimed.txt",
    "DeletionFailing.txt",
    "RecordingLocked.txt",
    "OrphansGrowing.txt",
    "CatalogueUntrusted.txt",
    "CapTripped.txt",
    "MediaServerUnreachable.txt",
    "RecordingStopped.txt",
    "ClockSuspect.txt",
    "RetentionBroken.txt",
    "ArchiveFailing.txt",
    "DeliveryFailing.txt",
    "Test.txt",
    "phrases.txt",
    "mail.html",
    "mail.subject.txt",
    "mail.txt",
    "robot.md",
    "robot.title.md",
    "slack.md",
    "words.txt",
}

/// Those that make a message of a body.
const MESSAGES: [&str; 6] = ["mail.html", "mail.subject.txt", "mail.txt", "robot.md", "robot.title.md", "slack.md"];

/// The templates of one language.
pub(super) struct Templates {
    built_in: Environment<'static>,
    own: Environment<'static>,
    runbook: String,
}

/// What is wrong with the user's templates: `PATH:LINE: what`. Reads files: may block.
#[must_use]
pub fn template_problems(settings: &NotifySettings) -> Vec<String> {
    Templates::of(settings).1
}

impl Templates {
    /// The templates that the settings want, and what is wrong with those of the user. Reads files: may block.
    pub(super) fn of(settings: &NotifySettings) -> (Self, Vec<String>) {
        let (mut templates, problems) = Self::new(settings.language, settings.templates.as_deref());
        templates.runbook.clone_from(&settings.runbook);
        (templates, problems)
    }

    /// Where what to do is written.
    pub(super) fn runbook(&self) -> &str {
        &self.runbook
    }

    /// The templates of a language, and what is wrong with those of the user. Reads files: may block.
    pub(super) fn new(language: Language, dir: Option<&Path>) -> (Self, Vec<String>) {
        let mut built_in = environment(language, UndefinedBehavior::Lenient);
        // A name that is not there is a typing error, and better told than left out.
        let mut own = environment(language, UndefinedBehavior::SemiStrict);
        let mut problems = dir.map(strangers).unwrap_or_default();
        for (name, english, chinese) in BUILT_IN {
            let text = match language {
                Language::English => english,
                Language::Chinese => chinese,
            };
            built_in.add_template(name, text).expect("a test compiles every built-in template");
            // The user's templates may import ours, and ours the user's.
            own.add_template(name, text).expect("a test compiles every built-in template");
            let Some(dir) = dir else { continue };
            match read(&dir.join(name)) {
                Ok(Some(text)) => {
                    if let Err(error) = own.add_template_owned(*name, text) {
                        problems.push(located(dir, &error, name));
                    }
                }
                Ok(None) => {}
                Err(error) => problems.push(format!("{}: {error}", dir.join(name).display())),
            }
        }
        if let Some(dir) = dir {
            problems.extend(tried(&own, dir).into_iter().chain(tried_messages(&own, dir, language)));
        }
        (Self { built_in, own, runbook: NotifySettings::default().runbook }, problems)
    }

    /// The built-in ones, where nothing that is not there can be shown.
    #[cfg(test)]
    pub(super) fn strict(language: Language) -> Self {
        let (mut templates, _) = Self::new(language, None);
        templates.built_in.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        templates
    }

    /// The text that a template makes of a value.
    ///
    /// # Panics
    /// If there is no built-in template of that name.
    pub(super) fn render(&self, name: &str, value: &impl Serialize) -> String {
        self.rendered(name, value).expect("every name stands in the table")
    }

    /// The text that a template makes of a value; nothing if there is no such template.
    pub(super) fn rendered(&self, name: &str, value: &impl Serialize) -> Option<String> {
        self.rendered_own(name, value).or_else(|| self.rendered_built_in(name, value))
    }

    /// With the user's templates; nothing if they fail.
    pub(super) fn rendered_own(&self, name: &str, value: &impl Serialize) -> Option<String> {
        let rendered = bounded(&self.own.get_template(name).ok()?, value);
        let failed = |error: &Error| {
            tracing::warn!(template = name, error = shown(error), "A template failed; the built-in one is used.");
        };
        rendered.inspect_err(failed).ok()
    }

    /// With the built-in templates only.
    pub(super) fn rendered_built_in(&self, name: &str, value: &impl Serialize) -> Option<String> {
        let template = self.built_in.get_template(name).ok()?;
        Some(template.render(Serde(value)).unwrap_or_else(|error| {
            tracing::error!(template = name, error = shown(&error), "A built-in template failed.");
            String::new()
        }))
    }
}

/// The text of a template of the user, if it is no larger than a text of a message may be.
fn bounded(template: &Template<'_, '_>, value: &impl Serialize) -> Result<String, Error> {
    let mut text = vec![0; LARGEST_TEXT];
    let mut rest = text.as_mut_slice();
    template.render_captured_to(Serde(value), &mut rest)?;
    let left = rest.len();
    text.truncate(LARGEST_TEXT - left);
    String::from_utf8(text).map_err(|error| Error::new(ErrorKind::WriteFailure, error.to_string()))
}

/// What is wrong with templates of alerts that compile: each makes texts of all situations of its alert.
fn tried(own: &Environment<'_>, dir: &Path) -> BTreeSet<String> {
    let problem = |sample: &Condition| {
        let situation = Situation::new(sample);
        let name = template_of(sample.alert.as_str());
        match own.get_template(&name).and_then(|template| bounded(&template, &situation)) {
            Ok(text) if split(&text).summary.is_empty() => {
                let path = dir.join(&name);
                Some(format!("{}:1: the summary is empty for case `{}`", path.display(), sample.case))
            }
            Ok(_) => None,
            Err(error) => Some(located(dir, &error, &name)),
        }
    };
    samples().iter().filter_map(problem).collect()
}

/// What is wrong with templates of messages that compile: each makes a message of all situations, while they last and when they
/// have ended.
fn tried_messages(own: &Environment<'_>, dir: &Path, language: Language) -> BTreeSet<String> {
    let (ours, _) = Templates::new(language, None);
    let (since, now) = (Timestamp::from_secs(0), Timestamp::from_secs(5400));
    let both = |sample| [FIRING, RESOLVED].map(|kind| Body::new(kind, sample, since, now, &ours));
    let bodies: Vec<Body> = samples().iter().flat_map(both).collect();
    let problem = |name: &&str| {
        let failed = |body| own.get_template(name).and_then(|template| bounded(&template, body)).err();
        bodies.iter().find_map(failed).map(|error| located(dir, &error, name))
    };
    MESSAGES.iter().filter_map(problem).collect()
}

/// The error with its template and line.
fn located(dir: &Path, error: &Error, name: &str) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(":{line}"));
    format!("{}{line}: {}", dir.join(error.name().unwrap_or(name)).display(), what(error))
}

/// Files of the folder whose names are those of no template, whatever their ending: very likely they were meant to be.
fn strangers(dir: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{}: {error}", dir.display())],
    };
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let names = files.map(|entry| show_bytes(entry.file_name().as_encoded_bytes()).0);
    let known: Vec<_> = BUILT_IN.iter().map(|(name, _, _)| *name).collect();
    let mut strange: Vec<_> = names.filter(|name| !known.contains(&name.as_str())).collect();
    strange.sort();
    let known = known.join(", ");
    let told = |name| format!("{}: no template has this name; there are: {known}", dir.join(name).display());
    strange.into_iter().map(told).collect()
}

/// A file of the user, or nothing if there is none.
fn read(path: &Path) -> Result<Option<String>, String> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| error.to_string())?,
    };
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("must be a file of at most {LARGEST} bytes"));
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| error.to_string())
}

fn environment(language: Language, undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the tags are those of Jinja"));
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(escape::form);
    environment.set_formatter(|out, state, value| {
        Ok(std::fmt::Write::write_str(out, &escape::escaped(value, state.auto_escape()))?)
    });
    environment.add_filter("bytes", |bytes: u64| Bytes(bytes).to_string());
    environment.add_filter("duration", move |secs: u64| span(language, Duration::from_secs(secs)));
    environment.add_filter("line", |text: &str, limit: Option<usize>| one_line(text, limit.unwrap_or(5000)));
    environment.add_filter("link", escape::link);
    environment.add_filter("until", move |since: &str, end: &str| {
        lasted(since, end).map(|lasted| span(language, lasted)).unwrap_or_default()
    });
    environment
}

/// A span of time, as the language writes it.
fn span(language: Language, span: Duration) -> String {
    let shown = show_duration(span);
    match language {
        Language::English => shown,
        Language::Chinese => shown.replace('d', "天").replace('h', "小时").replace('m', "分钟").replace('s', "秒"),
    }
}

/// The time between two times.
fn lasted(since: &str, end: &str) -> Option<Duration> {
    let [since, end] = [since, end].map(|text| text.parse::<jiff::Timestamp>());
    Duration::try_from(end.ok()?.duration_since(since.ok()?)).ok()
}

/// The error with its place, on one line.
fn shown(error: &Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    format!("{}{line}", what(error))
}

/// The error without its place, on one line.
fn what(error: &Error) -> String {
    let kind = error.kind();
    let what = if kind == ErrorKind::OutOfFuel {
        "it does not end".to_owned()
    } else if kind == ErrorKind::WriteFailure {
        format!("its text is larger than {}", Bytes(LARGEST_TEXT as u64))
    } else {
        error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"))
    };
    one_line(&what, 500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::AlertName;

    #[expect(clippy::disallowed_methods, reason = "it makes the test's own files")]
    fn with(files: &[(&str, &str)]) -> (Templates, Vec<String>) {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        Templates::new(Language::English, Some(home.path()))
    }

    #[test]
    fn every_built_in_template_compiles_in_each_language() {
        for language in [Language::English, Language::Chinese] {
            let home = tempfile::tempdir().unwrap();
            let (_, problems) = Templates::new(language, Some(home.path()));
            assert_eq!(problems, [""; 0]);
        }
    }

    /// What the user writes is markup, what it shows is not; and it may use our words.
    #[test]
    fn a_file_of_the_user_is_escaped_as_ours_and_may_import_them() {
        let value = serde_json::json!({ "type": "alert.firing", "data": { "alert": "<a>*b*" } });
        let text = "{% from 'words.txt' import state %}*{{ state[type] }}* {{ data.alert }}";
        for (name, expected) in [
            ("robot.md", "*FIRING* ＜a＞＊b＊"),
            ("slack.md", "*FIRING* &lt;a&gt;＊b＊"),
            ("mail.html", "*FIRING* &lt;a&gt;*b*"),
            ("mail.txt", "*FIRING* <a>*b*"),
        ] {
            let (templates, problems) = with(&[(name, text)]);
            assert_eq!((templates.render(name, &value).as_str(), problems.len()), (expected, 0), "{name}");
        }
    }

    #[test]
    fn a_file_replaces_the_text_of_its_name_and_a_bad_one_costs_no_message() {
        let value = serde_json::json!({ "type": "alert.firing", "data": { "alert": "A", "severity": "info", "labels": {}, "host": "h" } });
        for (text, expected, problem) in [
            ("own {{ data.alert }}", "own A", ""),
            ("\n{% if %}", "[FIRING info] A on h", "/mail.subject.txt:2: syntax error"),
            (
                "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                "[FIRING info] A on h",
                "/mail.subject.txt:1: it does not end",
            ),
            (
                "{% for i in range(70000) %}\u{4e2d}\u{4e2d}{% endfor %}",
                "[FIRING info] A on h",
                "/mail.subject.txt: its text is larger than 256 KiB",
            ),
        ] {
            let (templates, problems) = with(&[("mail.subject.txt", text)]);
            assert_eq!(templates.render("mail.subject.txt", &value).trim(), expected, "{text}");
            let found = problems.first().map_or("", String::as_str);
            assert!(found.contains(problem) && found.is_empty() == problem.is_empty(), "{found}");
        }
    }

    /// Each file, what is told of it, and the summary that is used nevertheless.
    #[test]
    fn what_is_wrong_with_an_own_template_is_told_with_file_and_line_before_an_alert_needs_it() {
        let built_in = "The clock is not trusted";
        for (name, text, problem, summary) in [
            ("ClockSuspect.txt", "Clock!\n\n{{ facts.since }}", "", "Clock!"),
            ("ClockSuspect.txt", "Clock!\n\n{{ facts.sinec }}", "ClockSuspect.txt:3: undefined value", built_in),
            ("ClockSuspect.txt", "Clock!\n{{ facts.since|byte }}", "ClockSuspect.txt:2: unknown filter", built_in),
            ("ClockSuspect.txt", "Clock!\n{% include 'x.txt' %}", "ClockSuspect.txt:2: template not found", built_in),
            (
                "ClockSuspect.txt",
                "{% if case == 'x' %}Clock!{% endif %}",
                "ClockSuspect.txt:1: the summary is empty",
                built_in,
            ),
            ("ClockSuspect.txt", "{{ 'a' }\n", "ClockSuspect.txt:1: syntax error", built_in),
            ("ClockSuspekt.txt", "Clock!", "ClockSuspekt.txt: no template has this name", built_in),
            ("README", "Our texts.", "README: no template has this name", built_in),
            ("ClockSuspect.text", "Clock!", "ClockSuspect.text: no template has this name", built_in),
            ("robot.md", "{{ data.summary }}\n{{ data.labels.volum }}", "robot.md:2: undefined value", built_in),
            ("mail.html", "{{ data.since|until(timestamp) }}", "", built_in),
        ] {
            let (templates, problems) = with(&[(name, text)]);
            let found = problems.join("\n");
            assert!(found.contains(problem) && problems.len() == usize::from(!problem.is_empty()), "{text}: {found}");
            let clock = samples().into_iter().find(|sample| sample.alert == AlertName::ClockSuspect).unwrap();
            assert_eq!(templates.wording(&clock).summary, summary, "{text}");
        }
        let (_, problems) = Templates::new(Language::English, Some(Path::new("/nowhere/at/all")));
        assert!(problems[0].starts_with("/nowhere/at/all: "), "{problems:?}");
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn own_templates_and_ours_share_phrases() {
        let phrases = "{% macro space(facts) %}Only {{ facts.available|bytes }} left. {% endmacro %}";
        let read_only = samples().into_iter().find(|sample| sample.alert == AlertName::VolumeReadOnly).unwrap();
        let (templates, _) = with(&[("phrases.txt", phrases)]);
        let said = templates.wording(&read_only).description;
        assert!(said.starts_with("Only 40 GiB left. The filesystem is read-only"), "{said}");
        let own = "{% import 'phrases.txt' as say %}{{ name }}\n{{ say.space(facts) }}";
        let (templates, problems) = with(&[("VolumeReadOnly.txt", own)]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(templates.wording(&read_only).description, "40 GiB of 1000 GiB are available.");
    }

    /// `docs/config.md` names every file and, of alerts, every fact; and its example is a template that works.
    #[test]
    fn the_document_tells_what_templates_there_are_and_what_they_are_given() {
        let document = include_str!("../../docs/config.md");
        let row = |name: &str| document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        for (name, _, _) in BUILT_IN {
            assert!(row(name).is_some(), "{name} is not in the document");
        }
        for sample in samples() {
            let row = row(&template_of(sample.alert.as_str())).unwrap();
            let words = sample.facts.keys().map(|name| name.as_str()).chain([sample.case.as_str()]);
            for word in words {
                assert!(row.contains(&format!("`{word}`")), "{word} is not in {row}");
            }
        }
        let example = document.split("```jinja\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let (templates, problems) = with(&[("VolumeExhausted.txt", example)]);
        assert_eq!(problems, [""; 0]);
        let exhausted = samples().into_iter().find(|sample| sample.alert == AlertName::VolumeExhausted).unwrap();
        let wording = templates.wording(&exhausted);
        assert_eq!(wording.summary, "Cameras on data will stop recording");
        let said = "40 GiB of 1000 GiB are available. 25 GiB are missing. Others took 15 GiB.\nCall 555-0100.";
        assert_eq!(wording.description, said);
    }

    #[test]
    fn spans_are_written_as_the_language_does() {
        let check = |language, secs, expected| assert_eq!(span(language, Duration::from_secs(secs)), expected);
        check(Language::English, 90_000, "1d1h");
        check(Language::Chinese, 90_000, "1天1小时");
        check(Language::Chinese, 1901, "31分钟41秒");
    }
}
