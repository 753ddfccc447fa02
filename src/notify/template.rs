//! The texts of messages: built-in templates in each language, and those of the user in their place.
//!
//! A template is a file of [`BUILT_IN`]; one of the same name in `notify.templates` replaces it. A name that ends in `.html`
//! escapes what it shows. A template that fails, or never ends, is replaced by the built-in one for that message, so that a typing
//! error costs nobody an alert.

use std::path::Path;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::body::one_line;
use crate::domain::settings::Language;
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
    "mail.subject.txt",
}

/// The templates of one language.
pub(super) struct Templates {
    built_in: Environment<'static>,
    own: Environment<'static>,
}

impl Templates {
    /// The templates of a language, and what is wrong with those of the user. Reads files: may block.
    pub(super) fn new(language: Language, dir: Option<&Path>) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut built_in = environment();
        let mut own = environment();
        for (name, english, chinese) in BUILT_IN {
            let text = match language {
                Language::English => english,
                Language::Chinese => chinese,
            };
            built_in.add_template(name, text).expect("a test compiles every built-in template");
            match dir.map(|dir| read(&dir.join(name))) {
                Some(Ok(Some(text))) => {
                    if let Err(error) = own.add_template_owned(*name, text) {
                        problems.push(format!("template `{name}`: {}", shown(&error)));
                    }
                }
                Some(Ok(None)) | None => {}
                Some(Err(error)) => problems.push(format!("template `{name}`: {error}")),
            }
        }
        (Self { built_in, own }, problems)
    }

    /// The text that a template makes of a value.
    ///
    /// # Panics
    /// If there is no built-in template of that name, or it fails: tests render each.
    pub(super) fn render(&self, name: &str, value: &impl Serialize) -> String {
        if let Ok(template) = self.own.get_template(name) {
            match template.render(Serde(value)) {
                Ok(text) => return text,
                Err(error) => {
                    tracing::warn!(
                        template = name,
                        error = shown(&error),
                        "A template failed; the built-in one is used."
                    );
                }
            }
        }
        let template = self.built_in.get_template(name).expect("every name stands in the table");
        template.render(Serde(value)).unwrap_or_else(|error| {
            tracing::error!(template = name, error = shown(&error), "A built-in template failed.");
            String::new()
        })
    }
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

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the tags are those of Jinja"));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment
        .set_auto_escape_callback(|name| if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None });
    environment.add_filter("bytes", |bytes: u64| Bytes(bytes).to_string());
    environment.add_filter("duration", |secs: u64| show_duration(Duration::from_secs(secs)));
    environment.add_filter("line", |text: &str| one_line(text, 5000));
    environment
}

/// The error with its place, on one line.
fn shown(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it does not end".to_owned(),
        other => error.detail().map_or_else(|| other.to_string(), |detail| format!("{other}: {detail}")),
    };
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    one_line(&format!("{what}{line}"), 500)
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
