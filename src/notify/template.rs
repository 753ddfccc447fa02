//! The texts of messages: built-in templates in each language, and those of the user in their place.
//!
//! A template is a file of [`BUILT_IN`]; one of the same name in `notify.templates` replaces it. A name that ends in `.html`
//! escapes what it shows. A template that fails, or never ends, is replaced by the built-in one for that message, so that a typing
//! error costs nobody an alert.

use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::body::one_line;
use super::sample::samples;
use super::wording::{Situation, split, template_of};
use crate::domain::settings::{Language, NotifySettings};
use crate::domain::units::{Bytes, show_duration};

/// So many steps a template may take: more than any of ours needs by far.
const FUEL: u64 = 1_000_000;

/// A template that is larger is no text of a message.
const LARGEST: u64 = 256 * 1024;

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
    "CapTripped.txt",
    "ClockSuspect.txt",
    "DeliveryFailing.txt",
    "Test.txt",
    "mail.subject.txt",
}

/// Phrases that several templates share: English, Chinese. Those of the user may import them too.
const PHRASES: (&str, &str, &str) =
    ("phrases.txt", include_str!("templates/en/phrases.txt"), include_str!("templates/zh/phrases.txt"));

/// The templates of one language.
pub(super) struct Templates {
    built_in: Environment<'static>,
    own: Environment<'static>,
}

/// What is wrong with the user's templates: `PATH:LINE: what`. Reads files: may block.
#[must_use]
pub fn template_problems(settings: &NotifySettings) -> Vec<String> {
    Templates::new(settings.language, settings.templates.as_deref()).1
}

impl Templates {
    /// The templates of a language, and what is wrong with those of the user. Reads files: may block.
    pub(super) fn new(language: Language, dir: Option<&Path>) -> (Self, Vec<String>) {
        let of = |(name, english, chinese): (&'static str, &'static str, &'static str)| match language {
            Language::English => (name, english),
            Language::Chinese => (name, chinese),
        };
        let mut built_in = environment(language, UndefinedBehavior::Lenient);
        // A name that is not there is a typing error, and better told than left out.
        let mut own = environment(language, UndefinedBehavior::SemiStrict);
        for (name, text) in BUILT_IN.iter().chain([&PHRASES]).copied().map(of) {
            built_in.add_template(name, text).expect("a test compiles every built-in template");
        }
        let (name, text) = of(PHRASES);
        own.add_template(name, text).expect("a test compiles every built-in template");
        let mut problems = Vec::new();
        if let Some(dir) = dir {
            problems.extend(strangers(dir));
            for (name, _, _) in BUILT_IN {
                problems.extend(add(&mut own, name, &dir.join(name)));
            }
        }
        (Self { built_in, own }, problems)
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
        if let Ok(template) = self.own.get_template(name) {
            match template.render(Serde(value)) {
                Ok(text) => return Some(text),
                Err(error) => {
                    tracing::warn!(
                        template = name,
                        error = shown(&error),
                        "A template failed; the built-in one is used."
                    );
                }
            }
        }
        let template = self.built_in.get_template(name).ok()?;
        Some(template.render(Serde(value)).unwrap_or_else(|error| {
            tracing::error!(template = name, error = shown(&error), "A built-in template failed.");
            String::new()
        }))
    }
}

/// Takes in a template of the user, if there is one and it makes a text of every situation of its alert; says what is wrong.
fn add(own: &mut Environment<'static>, name: &'static str, path: &Path) -> Option<String> {
    let text = match read(path) {
        Ok(text) => text?,
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    let tried = own.add_template_owned(name, text).and_then(|()| {
        let template = own.get_template(name)?;
        let mut samples = samples().into_iter().filter(|sample| template_of(sample.alert.as_str()) == name);
        samples.try_for_each(|sample| {
            let text = template.render(Serde(Situation::new(&sample)))?;
            let silent = || Error::new(ErrorKind::BadSerialization, "its first line, the summary, is empty");
            if split(&text).summary.is_empty() { Err(silent()) } else { Ok(()) }
        })
    });
    let error = tried.err()?;
    own.remove_template(name);
    let line = error.line().map_or_else(String::new, |line| format!("{line}:"));
    Some(format!("{}:{line} {}", path.display(), what(&error)))
}

/// Files of the folder whose names are those of no template: very likely they were meant to be.
fn strangers(dir: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("{}: {error}", dir.display())],
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut strange: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt" || ending == "html"))
        .filter(|path| !BUILT_IN.iter().any(|(name, _, _)| path.file_name().is_some_and(|known| known == *name)))
        .collect();
    strange.sort();
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _, _)| *name).collect();
    let told = |path: PathBuf| format!("{}: there is no template of this name, but: {}", path.display(), names.join(", "));
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
    environment
        .set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    environment.add_filter("bytes", |bytes: u64| Bytes(bytes).to_string());
    environment.add_filter("duration", move |secs: u64| span(language, Duration::from_secs(secs)));
    environment.add_filter("line", |text: &str| one_line(text, 5000));
    environment
}

/// A span of time, as the language writes it.
fn span(language: Language, span: Duration) -> String {
    let shown = show_duration(span);
    match language {
        Language::English => shown,
        Language::Chinese => shown.replace('d', " 天 ").replace('h', " 小时 ").replace('m', " 分 ").replace('s', " 秒 "),
    }
}

/// The error with its place, on one line.
fn shown(error: &Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    format!("{}{line}", what(error))
}

/// The error without its place, on one line.
fn what(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it does not end".to_owned(),
        other => error.detail().map_or_else(|| other.to_string(), |detail| format!("{other}: {detail}")),
    };
    one_line(&what, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let (_, problems) = Templates::new(language, None);
            assert_eq!(problems, [""; 0]);
        }
    }

    #[test]
    fn a_file_replaces_the_text_of_its_name_and_a_bad_one_costs_no_message() {
        let value = serde_json::json!({ "type": "alert.firing", "data": { "alert": "A", "labels": {} } });
        for (text, expected, problem) in [
            ("own {{ data.alert }}", "own A", ""),
            ("{% if %}", "[FIRING] A", "template `mail.subject.txt`: syntax error"),
            ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "[FIRING] A", ""),
        ] {
            let (templates, problems) = with(&[("mail.subject.txt", text)]);
            assert_eq!(templates.render("mail.subject.txt", &value).trim(), expected, "{text}");
            let found = problems.first().map_or("", String::as_str);
            assert!(found.starts_with(problem) && found.is_empty() == problem.is_empty(), "{found}");
        }
    }
}
