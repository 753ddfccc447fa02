//! A typed reader over the YAML of one file. What does not fit becomes a problem, and reading goes on.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::{Problem, ProblemKind};
use super::values::{self, near};
use super::yaml::{Part, Yaml, locate, quoted};
use crate::domain::units::{Bytes, Percent};
use crate::domain::volume::Mark;

/// What is known of the file while it is read.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    /// Others than its owner can read it.
    pub(super) exposed: bool,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    found: RefCell<Vec<Found>>,
    dormant: RefCell<Vec<String>>,
}

struct Found {
    steps: Vec<usize>,
    part: Part,
    field: String,
    message: String,
    kind: ProblemKind,
}

impl<'a> File<'a> {
    pub(super) fn new(path: &'a Path, exposed: bool, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { path, exposed, environment, found: RefCell::default(), dormant: RefCell::default() }
    }

    /// The top of its document.
    pub(super) fn top(&'a self, yaml: &'a Yaml) -> Node<'a> {
        Node { file: self, yaml, steps: Vec::new(), field: String::new() }
    }

    /// Notes that `what` is checked and has no effect.
    pub(super) fn sleeps(&self, what: &str) {
        self.dormant.borrow_mut().push(format!("{what} is checked, but this version does not act on it"));
    }

    /// What has no effect, and every problem with its place, in the order of the file.
    pub(super) fn finish(self, text: &str) -> (Vec<String>, Vec<Problem>) {
        let mut problems: Vec<Problem> = Vec::new();
        for found in self.found.into_inner() {
            let (line, column) = locate(text, &found.steps, found.part).unwrap_or((0, 0));
            let Found { field, message, kind, .. } = found;
            problems.push(Problem { file: Some(self.path.to_owned()), line, column, field, message, kind });
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (self.dormant.into_inner(), problems)
    }
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) file: &'a File<'a>,
    yaml: &'a Yaml,
    steps: Vec<usize>,
    /// As problems name it: `trees[0].min_age`.
    pub(super) field: String,
}

impl<'a> Node<'a> {
    /// Notes a problem with the value.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.note(message.into(), ProblemKind::Other);
    }

    pub(super) fn note(&self, message: String, kind: ProblemKind) {
        let (steps, field) = (self.steps.clone(), self.field.clone());
        self.file.found.borrow_mut().push(Found { steps, part: Part::Value, field, message, kind });
    }

    /// Notes that the value is not what it must be.
    pub(super) fn unlike(&self, wanted: &str) {
        self.problem(format!("is {}, but must be {wanted}", self.yaml.describe()));
    }

    /// As it stands in the file, in a sentence `is …`.
    pub(super) fn shown(&self) -> String {
        self.yaml.describe()
    }

    /// Whether it holds a reference to the environment.
    pub(super) fn refers(&self) -> bool {
        matches!(self.yaml, Yaml::Text(text) if text.replace("$$", "").contains("${"))
    }

    /// Its entries, if it is a mapping.
    pub(super) fn map(&self) -> Option<Map<'a>> {
        let Yaml::Map(entries) = self.yaml else {
            self.unlike("a mapping, `key: value`");
            return None;
        };
        Some(Map { node: self.clone(), entries, known: Vec::new() })
    }

    /// Its items, if it is a list.
    pub(super) fn items(&self) -> Option<Vec<Node<'a>>> {
        let Yaml::List(items) = self.yaml else {
            self.unlike("a list, such as `[a, b]`");
            return None;
        };
        Some(items.iter().enumerate().map(|(index, yaml)| self.child(index, yaml, &format!("[{index}]"))).collect())
    }

    /// Its items, or itself alone.
    pub(super) fn one_or_more(&self) -> Option<Vec<Node<'a>>> {
        if matches!(self.yaml, Yaml::List(_)) { self.items() } else { Some(vec![self.clone()]) }
    }

    fn child(&self, step: usize, yaml: &'a Yaml, suffix: &str) -> Node<'a> {
        let mut steps = self.steps.clone();
        steps.push(step);
        Node { file: self.file, yaml, steps, field: format!("{}{suffix}", self.field) }
    }

    fn expanded(&self, text: &str) -> Option<String> {
        match values::expand(text, self.file.environment) {
            Ok(text) => Some(text),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.problem(problem));
                None
            }
        }
    }

    /// Its text, `${NAME}` put in. Only text is text: a password `0123` stands in quotes, or it would be a number.
    pub(super) fn text(&self) -> Option<String> {
        match self.yaml {
            Yaml::Text(text) => match self.expanded(text)? {
                text if text.trim().is_empty() => {
                    self.problem("is empty, but must be text");
                    None
                }
                text => Some(text),
            },
            Yaml::Bool(_) | Yaml::Int(_) | Yaml::Float(_) => {
                self.problem("looks like a number or a truth value, but must be text; put it in quotes");
                None
            }
            Yaml::Null | Yaml::List(_) | Yaml::Map(_) | Yaml::Tagged(_) => {
                self.unlike("text");
                None
            }
        }
    }

    /// Its text or number, if `parse` makes something of it.
    pub(super) fn read<T>(&self, wanted: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = match self.yaml {
            Yaml::Text(text) => self.expanded(text)?,
            Yaml::Int(number) => number.to_string(),
            Yaml::Float(number) => number.to_string(),
            Yaml::Null | Yaml::Bool(_) | Yaml::List(_) | Yaml::Map(_) | Yaml::Tagged(_) => String::new(),
        };
        let value = parse(&text).filter(|_| !text.is_empty());
        if value.is_none() {
            self.unlike(wanted);
        }
        value
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.read(values::DURATION, values::duration)
    }

    pub(super) fn bytes(&self) -> Option<Bytes> {
        self.read(values::BYTES, values::bytes)
    }

    pub(super) fn percent(&self) -> Option<Percent> {
        self.read(values::PERCENT, values::percent)
    }

    pub(super) fn mark(&self) -> Option<Mark> {
        self.read(values::MARK, values::mark)
    }

    /// A whole number from `least` on.
    pub(super) fn number<N: TryFrom<i128> + PartialOrd + Default + std::fmt::Display>(&self, least: N) -> Option<N> {
        let parse = |text: &str| N::try_from(text.parse::<i128>().ok()?).ok();
        let from = if least < N::default() { String::new() } else { format!(", {least} or more") };
        let wanted = format!("a whole number{from}");
        let value = self.read(&wanted, parse)?;
        if value < least {
            self.unlike(&wanted);
            return None;
        }
        Some(value)
    }

    pub(super) fn truth(&self) -> Option<bool> {
        if let Yaml::Bool(value) = self.yaml {
            return Some(*value);
        }
        let value = match self.yaml {
            Yaml::Text(text) if text.contains('$') => match self.expanded(text)?.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            Yaml::Null | Yaml::Bool(_) | Yaml::Int(_) | Yaml::Float(_) | Yaml::Text(_) => None,
            Yaml::List(_) | Yaml::Map(_) | Yaml::Tagged(_) => None,
        };
        if value.is_none() {
            self.unlike("true or false");
        }
        value
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        self.read(&choice(words.iter().map(|(word, _)| *word)), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// An absolute path.
    pub(super) fn absolute(&self) -> Option<PathBuf> {
        let path = PathBuf::from(self.text()?);
        if path.is_absolute() {
            return Some(path);
        }
        self.problem(format!("is {}, but must be an absolute path, one that begins with `/`", self.shown()));
        None
    }

    /// A path; a relative one counts from the directory of the configuration file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        Some(self.file.path.parent().unwrap_or(Path::new("")).join(text))
    }

    /// A name for labels, commands and pages.
    pub(super) fn name(&self) -> Option<String> {
        let name = self.text()?;
        if name.chars().any(char::is_control) || name.trim() != name || name.chars().count() > 100 {
            self.unlike("a name: 1 to 100 characters, no control characters, no space around it");
            return None;
        }
        Some(name)
    }
}

/// `` `a`, `b` or `c` ``.
pub(super) fn choice<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}

/// The entries of a mapping, and which of them were asked for.
pub(super) struct Map<'a> {
    pub(super) node: Node<'a>,
    entries: &'a [(String, Yaml)],
    known: Vec<&'static str>,
}

impl<'a> Map<'a> {
    /// The value of a key. From then on the key is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.known.push(key);
        let (step, (_, yaml)) = self.entries.iter().enumerate().find(|(_, (name, _))| name == key)?;
        Some(self.node.child(step, yaml, &self.suffix(key)))
    }

    /// The value of a key that must be there; `why` says what for.
    pub(super) fn need(&mut self, key: &'static str, why: &str) -> Option<Node<'a>> {
        let node = self.take(key);
        if node.is_none() {
            self.missing(key, why);
        }
        node
    }

    /// Whether the key stands there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name == key)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, key: &str, why: &str) {
        self.at(key).problem(format!("is missing; {why}"));
    }

    /// The mapping itself, under the name that a key of it would have.
    pub(super) fn at(&self, key: &str) -> Node<'a> {
        let field = format!("{}{}", self.node.field, self.suffix(key));
        Node { field, ..self.node.clone() }
    }

    /// All its entries, whatever their keys.
    pub(super) fn all(&self) -> Vec<(&'a str, Node<'a>)> {
        let entries = self.entries.iter().enumerate();
        entries.map(|(step, (key, yaml))| (key.as_str(), self.node.child(step, yaml, &self.suffix(key)))).collect()
    }

    fn suffix(&self, key: &str) -> String {
        let plain = !key.is_empty() && key.len() <= 60 && !key.chars().any(|c| c.is_control() || c == '`');
        let key = if plain { key.to_owned() } else { quoted(key) };
        if self.node.field.is_empty() { key } else { format!(".{key}") }
    }

    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.take(key).and_then(|node| node.duration()).unwrap_or(default)
    }

    /// A duration that must not be zero.
    pub(super) fn span(&mut self, key: &'static str, default: Duration) -> Duration {
        self.take(key).and_then(|node| node.duration().filter(|d| more_than_zero(&node, *d))).unwrap_or(default)
    }

    /// A number of bytes that must not be zero.
    pub(super) fn amount(&mut self, key: &'static str) -> Option<Bytes> {
        let node = self.take(key)?;
        node.bytes().filter(|bytes| more_than_zero(&node, *bytes))
    }

    /// Notes the keys that nobody knows, and those that stand twice.
    pub(super) fn done(self) {
        for (key, node) in self.all() {
            let known = self.known.contains(&key);
            let place = Found {
                steps: node.steps.clone(),
                part: Part::Key,
                field: node.field.clone(),
                message: String::new(),
                kind: ProblemKind::Other,
            };
            let step = node.steps.last().copied().unwrap_or_default();
            let message = if self.entries[..step].iter().any(|(name, _)| name == key) {
                "stands here a second time; write it once".to_owned()
            } else if known {
                continue;
            } else if key == "<<" {
                "is a merge key, which is not understood here; write the settings out".to_owned()
            } else {
                match near(key, self.known.iter().copied()) {
                    Some(meant) => format!("is no key here; did you mean `{meant}`?"),
                    None => format!(
                        "is no key here; known are {}",
                        choice(self.known.iter().copied()).replace(" or ", " and ")
                    ),
                }
            };
            self.node.file.found.borrow_mut().push(Found { message, ..place });
        }
    }
}

/// Notes a problem unless the value is more than its type's zero.
pub(super) fn more_than_zero<T: Default + PartialEq>(node: &Node<'_>, value: T) -> bool {
    let fine = value != T::default();
    if !fine {
        node.problem("is 0, but must be more than 0");
    }
    fine
}

/// Names that must not be given twice.
#[derive(Default)]
pub(super) struct Names {
    seen: Vec<(String, String)>,
}

impl Names {
    /// Takes a name, or notes who has it already.
    pub(super) fn claim(&mut self, node: &Node<'_>, name: &str) {
        match self.seen.iter().find(|(seen, _)| seen == name) {
            Some((_, field)) => {
                node.problem(format!("is {}, as `{field}` is; give each a name of its own", quoted(name)))
            }
            None => self.seen.push((name.to_owned(), node.field.clone())),
        }
    }

    /// Whether one of them is this.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.seen.iter().any(|(seen, _)| seen == name)
    }

    /// Checks that a reference names one of them.
    pub(super) fn look_up(&self, node: &Node<'_>, kind: &str) -> Option<String> {
        let name = node.text()?;
        if self.seen.iter().any(|(seen, _)| *seen == name) {
            return Some(name);
        }
        let known: Vec<&str> = self.seen.iter().map(|(name, _)| name.as_str()).collect();
        let shown = node.shown();
        node.problem(match (near(&name, known.iter().copied()), known.is_empty()) {
            (Some(meant), _) => format!("is {shown}, but there is no {kind} of that name; did you mean `{meant}`?"),
            (None, true) => format!("is {shown}, but no {kind} is configured"),
            (None, false) => {
                format!("is {shown}, but must be the name of a {kind}: {}", choice(known.into_iter()))
            }
        });
        None
    }
}
