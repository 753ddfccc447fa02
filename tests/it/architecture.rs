//! The import rule of `docs/architecture.md`, and the shape of the rooms.

use std::path::{Path, PathBuf};

/// Which rooms each room may import.
const RULE: [(&str, &[&str]); 16] = [
    ("domain", &[]),
    ("config", &["domain"]),
    ("system", &["domain"]),
    ("probe", &["domain", "system"]),
    ("scan", &["domain", "system"]),
    ("store", &["domain", "system"]),
    ("catalogue", &["domain", "system", "store"]),
    ("metrics", &["domain"]),
    ("reclaim", &["domain", "system", "store"]),
    ("archive", &["domain", "system", "store", "reclaim"]),
    ("notify", &["domain", "system", "store"]),
    ("zlmediakit", &["domain", "system", "store"]),
    ("server", &["domain", "system", "store", "metrics", "zlmediakit"]),
    (
        "daemon",
        &[
            "domain",
            "config",
            "system",
            "probe",
            "scan",
            "catalogue",
            "server",
            "store",
            "metrics",
            "reclaim",
            "archive",
            "notify",
            "zlmediakit",
        ],
    ),
    ("testkit", &["domain", "system", "store"]),
    ("cli", &["config", "daemon", "domain", "server", "store", "system"]),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    out
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without its tests, which may use the real clock.
fn code(path: &Path) -> String {
    if path.to_str().unwrap().ends_with("_tests.rs") {
        return String::new();
    }
    let text = std::fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap_or_default().to_owned()
}

#[test]
fn rooms_import_only_what_they_may() {
    for entry in std::fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let room = path.file_name().unwrap().to_str().unwrap().to_owned();
        let (_, allowed) =
            RULE.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("no rule for `{room}`"));
        for file in sources(&path) {
            for part in code(&file).split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let fine = used == room || allowed.contains(&used.as_str());
                assert!(fine, "{} imports `{used}`, which `{room}` may not", file.display());
            }
        }
    }
}

#[test]
fn the_domain_touches_nothing() {
    for file in sources(&src().join("domain")) {
        let text = code(&file);
        for word in ["std::fs", "std::net::Tcp", "std::thread", "SystemTime", "Instant", "serde", "tokio", "tracing"] {
            assert!(!text.contains(word), "{} uses `{word}`", file.display());
        }
    }
}

#[test]
fn only_the_command_line_prints_and_files_stay_readable() {
    for file in sources(&src()) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() <= 620, "{} is too long", file.display());
        let prints = text.contains("std::io::stdout") || text.contains("std::io::stderr");
        assert!(!prints || file.starts_with(src().join("cli")), "{} prints", file.display());
    }
}
