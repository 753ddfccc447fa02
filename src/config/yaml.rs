//! YAML as it stands in a file, and where in the file each part of it stands. Only this file knows the parser.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// A line and a column, both from 1.
pub(super) type Position = (usize, usize);

/// A parsed document. A map keeps its order and its duplicates, so that each can be reported.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Yaml {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    /// Something with a `!tag`.
    Tagged(String),
}

/// Why a text is not YAML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) message: String,
    pub(super) at: Option<Position>,
}

/// Which part of an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

impl Yaml {
    /// What it is, in a sentence `is …`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) if text.is_empty() => "empty text".to_owned(),
            Self::Text(text) => quoted(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
            Self::Tagged(tag) => format!("marked with a tag, {}", quoted(tag)),
        }
    }
}

/// A text in backticks, without control characters and not too long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String =
        text.chars().take(MOST).flat_map(|c| if c.is_control() { vec!['?'] } else { vec![c] }).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Parses one document.
pub(super) fn parse(text: &str) -> Result<Yaml, Broken> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Yaml::Null);
    }
    Build.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| broken(&error, text))
}

fn broken(error: &serde_yaml::Error, text: &str) -> Broken {
    let at = error.location().map(|at| (at.line(), at.column()));
    let mut message = error.to_string();
    if let Some((line, column)) = at {
        message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    let tab = |(line, column): Position| text.lines().nth(line - 1)?.chars().nth(column - 1).filter(|c| *c == '\t');
    if at.and_then(tab).is_some() {
        message = "this is not YAML: there is a tab; indent with spaces, not with tabs".to_owned();
    } else if message.contains("more than one document") {
        message = "holds more than one document (`---`); write all settings into one".to_owned();
    } else {
        message = format!("this is not YAML: {message}");
    }
    Broken { message, at }
}

/// Where the entry with these places stands: `[2, 0]` is the first entry of the third one of the top.
pub(super) fn locate(text: &str, steps: &[usize], part: Part) -> Option<Position> {
    let error = Seek { steps, part }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|at| (at.line(), at.column()))
}

#[derive(Clone, Copy)]
struct Build;

impl<'de> DeserializeSeed<'de> for Build {
    type Value = Yaml;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Yaml, E> {
        Ok(Yaml::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Yaml, E> {
        Ok(Yaml::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Yaml, E> {
        Ok(Yaml::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Yaml, E> {
        Ok(Yaml::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Yaml, E> {
        Ok(Yaml::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key_seed(self)? {
            let key = match key {
                Yaml::Text(text) => text,
                other @ (Yaml::Null
                | Yaml::Bool(_)
                | Yaml::Int(_)
                | Yaml::Float(_)
                | Yaml::List(_)
                | Yaml::Map(_)
                | Yaml::Tagged(_)) => other.describe(),
            };
            entries.push((key, access.next_value_seed(self)?));
        }
        Ok(Yaml::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Yaml, A::Error> {
        let (tag, content) = access.variant::<String>()?;
        content.newtype_variant::<IgnoredAny>()?;
        Ok(Yaml::Tagged(format!("!{tag}")))
    }
}

/// Fails at the wanted place, so that the parser says where that is.
#[derive(Clone, Copy)]
struct Seek<'s> {
    steps: &'s [usize],
    part: Part,
}

impl Seek<'_> {
    fn here<T, E: serde::de::Error>() -> Result<T, E> {
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the wanted place")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Self::here()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        Self::here()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Self::here()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Self::here()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Self::here()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        Self::here()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        Self::here()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Self::here()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Self::here()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Self::here()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Self::here() };
        for _ in 0..*step {
            access.next_element::<IgnoredAny>()?;
        }
        access.next_element_seed(Seek { steps: rest, part: self.part })?;
        Self::here()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.steps.split_first() else { return Self::here() };
        for _ in 0..*step {
            access.next_entry::<IgnoredAny, IgnoredAny>()?;
        }
        if rest.is_empty() && self.part == Part::Key {
            access.next_key_seed(Seek { steps: rest, part: self.part })?;
        } else {
            access.next_key::<IgnoredAny>()?;
            access.next_value_seed(Seek { steps: rest, part: self.part })?;
        }
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# a comment\nmode: observe\ntrees:\n  - name: live\n    protect: [a, \"b c\"]\n  - { name: other }\n";

    #[test]
    fn every_part_is_found_where_it_stands() {
        for (steps, part, expected) in [
            (&[][..], Part::Value, (2, 1)),
            (&[0], Part::Key, (2, 1)),
            (&[0], Part::Value, (2, 7)),
            (&[1, 0], Part::Value, (4, 5)),
            (&[1, 0, 1], Part::Key, (5, 5)),
            (&[1, 0, 1, 1], Part::Value, (5, 18)),
            (&[1, 1, 0], Part::Key, (6, 7)),
        ] {
            assert_eq!(locate(TEXT, steps, part), Some(expected), "{steps:?}");
        }
    }

    #[test]
    fn duplicates_and_odd_keys_are_kept_for_the_report() {
        let doubled = Yaml::Map(vec![("a".into(), Yaml::Int(1)), ("a".into(), Yaml::Null)]);
        assert_eq!(parse("a: 1\na:\n"), Ok(doubled));
        assert_eq!(parse("[1]: !x y\n"), Ok(Yaml::Map(vec![("a list".into(), Yaml::Tagged("!x".into()))])));
        assert_eq!(parse("# nothing\n\n"), Ok(Yaml::Null));
    }

    #[test]
    fn broken_yaml_is_located() {
        for (text, at, said) in [
            ("a: [1\nb: 2\n", Some((2, 2)), "expected ',' or ']'"),
            ("a: b: c\n", Some((1, 5)), "mapping values are not allowed"),
            ("a: 1\n---\nb: 2\n", None, "more than one document"),
            ("a:\n\tb: 1\n", Some((2, 1)), "indent with spaces, not with tabs"),
            ("a: *x\n", Some((1, 4)), "unknown anchor"),
        ] {
            let broken = parse(text).unwrap_err();
            assert_eq!(broken.at, at, "{}", broken.message);
            assert!(broken.message.contains(said), "{}", broken.message);
        }
    }
}
