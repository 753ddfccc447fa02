//! The commands, and their exit codes.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{Cli, Command, Look, Trees};
use super::{json, screen};
use crate::config::{Flags, for_trees};
use crate::daemon::{Guard, VolumeView};
use crate::domain::path::show_bytes;
use crate::system::{Clock, SystemClock, SystemVolumes};

/// Between two looks of `run`.
const SCAN_INTERVAL: Duration = Duration::from_secs(300);
/// A scan takes at most a twentieth of the time.
const REST_FACTOR: u32 = 19;

/// Why a command ends otherwise than well.
#[derive(Debug)]
enum Failure {
    /// The configuration is wrong: exit code 3.
    Configuration(Vec<String>),
    /// Anything else: exit code 1.
    Failed(Box<dyn std::error::Error>),
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(trees) => run(&trees),
        Command::Scan(look) => show(&look, screen::scan, |seen| serde_json::to_string_pretty(&json::status(seen))),
        Command::Plan(look) => show(&look, screen::plan, |seen| serde_json::to_string_pretty(&json::plans(seen))),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "storage-guard", &mut std::io::stdout());
            Ok(())
        }
        Command::Man => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(problems)) => {
            for problem in problems {
                complain(&problem);
            }
            ExitCode::from(3)
        }
        Err(Failure::Failed(error)) => {
            let mut sentence = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                sentence.push_str(&format!(": {error}"));
                cause = error.source();
            }
            complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn complain(sentence: &str) {
    // Nobody is left to tell if the error output is closed.
    let _ = writeln!(std::io::stderr(), "storage-guard: {}", show_bytes(sentence.as_bytes()).0);
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `storage-guard scan | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn open(trees: &Trees) -> Result<Guard, Failure> {
    let here = std::env::current_dir()?;
    let flags = Flags { trees: trees.trees.clone(), layout: trees.layout.clone(), ..Flags::default() };
    let config = for_trees(&flags, &here)
        .map_err(|problems| Failure::Configuration(problems.iter().map(ToString::to_string).collect()))?;
    Ok(Guard::open(&config.trees, config.marks, Arc::new(SystemVolumes), Arc::new(SystemClock))?)
}

/// Looks once, with a progress bar where somebody can see it.
fn look(guard: &mut Guard) -> Vec<VolumeView> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let seen = guard.look(&mut |tree, at| {
        bar.set_message(format!("scanning {tree}: {} files in {} directories", at.files, at.directories));
        bar.tick();
    });
    bar.finish_and_clear();
    seen
}

fn show(
    wanted: &Look,
    for_people: impl Fn(&[VolumeView]) -> Result<String, std::fmt::Error>,
    for_programs: impl Fn(&[VolumeView]) -> serde_json::Result<String>,
) -> Result<(), Failure> {
    let seen = look(&mut open(&wanted.trees)?);
    if wanted.json { print(&format!("{}\n", for_programs(&seen)?)) } else { print(&for_people(&seen)?) }
}

fn run(trees: &Trees) -> Result<(), Failure> {
    let clock = SystemClock;
    let mut guard = open(trees)?;
    let mut known: BTreeMap<String, &'static str> = BTreeMap::new();
    let mut first = true;
    loop {
        let began = clock.boottime();
        let seen = look(&mut guard);
        let took = clock.boottime().saturating_sub(began);
        if first {
            print(&screen::first(&seen)?)?;
        }
        for volume in &seen {
            let state = volume.pressure.as_str();
            let before = known.insert(volume.name.to_string(), state);
            if !first && before != Some(state) {
                let was = before.unwrap_or("unknown");
                print(&format!("{} volume {}: {was} before, {state} now\n", clock.now(), volume.name))?;
            }
        }
        first = false;
        clock.sleep(SCAN_INTERVAL.max(took.saturating_mul(REST_FACTOR)));
    }
}
