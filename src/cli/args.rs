//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Keeps the disks of recording servers from filling up, and can prove what it did.
///
/// This version watches and plans; it deletes nothing and writes nothing into a tree.
#[derive(Debug, Parser)]
#[command(name = "storage-guard", version, propagate_version = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watches: says what is there, and each time a volume's state changes.
    Run(Trees),
    /// Says what is there: volumes, trees, streams, leftovers, and the traps of the filesystem.
    Scan(Look),
    /// Says what would go now and why, what is spared and why, and the shortfall.
    Plan(Look),
    /// Prints the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

#[derive(Debug, Args)]
pub(super) struct Trees {
    /// A directory of recordings; may be given several times.
    #[arg(long = "tree", value_name = "PATH", required = true, num_args = 1..)]
    pub(super) trees: Vec<PathBuf>,
    /// How its files are named: auto, zlmediakit, hls, frigate, mediamtx, dated, plain, or a template.
    #[arg(long, value_name = "LAYOUT")]
    pub(super) layout: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Look {
    #[command(flatten)]
    pub(super) trees: Trees,
    /// Prints JSON, as the API answers.
    #[arg(long)]
    pub(super) json: bool,
}
