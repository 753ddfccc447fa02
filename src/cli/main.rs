//! Which command, and its exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use super::args::{Cli, Command};
use super::exit::{Failure, complain};
use super::{alerts, archive, hold, look, orphans, reclaim, records, run, setup};
use crate::system::remote::{ARGUMENT, serve};

/// A child of the guard: it is asked over its standard input, and answers over its standard output.
fn work_a_tree() -> ExitCode {
    if std::io::stdin().is_terminal() {
        complain(&format!("`{ARGUMENT}` is no command: the guard starts it by itself, for trees that may hang"));
        return ExitCode::from(2);
    }
    match serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT) {
        return work_a_tree();
    }
    let result = match Cli::parse().command {
        Command::Run { place, listen } => run::run(&place, listen),
        Command::Check { place, environment } => setup::check(&place, environment),
        Command::Init { place, accept, names } => setup::init(&place, accept, &names),
        Command::Scan(wanted) => look::scan(&wanted),
        Command::Plan { look, volume, explain } => look::plan(&look, volume.as_deref(), explain.as_deref()),
        Command::Reclaim { look, plan } => reclaim::reclaim(&look, plan.as_deref()),
        Command::Status(wanted) => look::status(&wanted),
        Command::Orphans { command } => orphans::orphans(&command),
        Command::Missing { command } => orphans::missing(&command),
        Command::Catalogue { command } => orphans::catalogue(command),
        Command::Journal { command } => records::journal(command),
        Command::Cap { command } => records::cap(command),
        Command::Failures { command } => records::failures(command),
        Command::Hold { command } => hold::hold(command),
        Command::Archive { command } => archive::archive(command),
        Command::Alerts { command } => alerts::alerts(command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "storage-guard", &mut std::io::stdout());
            Ok(())
        }
        Command::Man => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
