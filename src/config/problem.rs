//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use crate::domain::settings::TreeSettings;

/// What a problem is, where the command line treats it in its own way.
#[derive(Debug, Clone, PartialEq)]
pub enum ProblemKind {
    /// A tree would be enforced with layout `auto`, which only observes.
    AutoEnforces {
        /// The tree, so that what `auto` picks for it can be told.
        tree: Box<TreeSettings>,
    },
    /// Any other.
    Other,
}

/// One problem of a configuration.
///
/// It prints as `FILE:LINE:COLUMN: FIELD message`, or as `FLAG: message` if it was given on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The file; `None` for the command line.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1; 0 if it is not about a place in it.
    pub line: usize,
    /// Column in the line, from 1; 0 if it is not about a place in it.
    pub column: usize,
    /// The setting, such as `trees[0].min_age`, or the flag; empty if it is about the file as a whole.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub message: String,
    /// What it is.
    pub kind: ProblemKind,
}

impl Problem {
    /// A problem with what the command line says.
    #[must_use]
    pub(super) fn of_flag(flag: &str, message: String) -> Self {
        Self { file: None, line: 0, column: 0, field: flag.to_owned(), message, kind: ProblemKind::Other }
    }

    /// A problem with a file as a whole.
    #[must_use]
    pub(super) fn of_file(file: PathBuf, message: String) -> Self {
        Self { file: Some(file), line: 0, column: 0, field: String::new(), message, kind: ProblemKind::Other }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(file) = &self.file else { return write!(f, "{}: {}", self.field, self.message) };
        write!(f, "{}", file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
