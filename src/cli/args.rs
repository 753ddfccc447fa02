//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Keeps the disks of recording servers from filling up, and proves what it did.
#[derive(Debug, Parser)]
#[command(name = "storage-guard", version, propagate_version = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watches, and, where the mode is enforce, reclaims: the daemon.
    Run {
        #[command(flatten)]
        place: Place,
        /// Where metrics and API listen, instead of 127.0.0.1:10190.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
    },
    /// Says every problem of a configuration, with its line.
    Check {
        #[command(flatten)]
        place: Place,
        /// Also opens what the configuration names.
        #[arg(long)]
        environment: bool,
    },
    /// Writes the identity marker into trees that have none.
    Init {
        #[command(flatten)]
        place: Place,
        /// Also takes over trees that lost their marker or bear another's.
        #[arg(long)]
        accept: bool,
        /// Trees by name; all if none is named.
        names: Vec<String>,
    },
    /// Says what is there: volumes, trees, streams, leftovers, and the traps of the filesystem.
    Scan(Look),
    /// Says what would go now and why, what is spared and why, and the shortfall.
    Plan {
        #[command(flatten)]
        look: Look,
        /// Of this volume only.
        #[arg(long, value_name = "NAME")]
        volume: Option<String>,
        /// Says why one recording goes or stays.
        #[arg(long, value_name = "PATH")]
        explain: Option<String>,
    },
    /// Carries a plan out once.
    Reclaim {
        #[command(flatten)]
        look: Look,
        /// Only the plan with this id.
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
    },
    /// One screen: what a person wants to know first.
    Status(Look),
    /// Recordings that should not be there: what they are, and what is done about them.
    Orphans {
        #[command(subcommand)]
        command: Orphans,
    },
    /// Catalogue entries without a file.
    Missing {
        #[command(subcommand)]
        command: Missing,
    },
    /// Who says what should exist, and whether that is believed.
    Catalogue {
        #[command(subcommand)]
        command: Catalogue,
    },
    /// What was done and why.
    Journal {
        #[command(subcommand)]
        command: Journal,
    },
    /// Caps that tripped.
    Cap {
        #[command(subcommand)]
        command: Cap,
    },
    /// Deletions that have not succeeded.
    Failures {
        #[command(subcommand)]
        command: Failures,
    },
    /// Recordings that persons want kept, whatever happens.
    Hold {
        #[command(subcommand)]
        command: Hold,
    },
    /// Copies in the cold tier.
    Archive {
        #[command(subcommand)]
        command: Archive,
    },
    /// What is wrong, what is silenced, and whether a channel works.
    Alerts {
        #[command(subcommand)]
        command: Alerts,
    },
    /// Prints the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

/// Whose trees, and whose state.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The configuration; /etc/storage-guard/storage-guard.yaml if it is there and nothing else is said.
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "STORAGE_GUARD_CONFIG", conflicts_with = "trees")]
    pub(super) config: Option<PathBuf>,
    /// A directory of recordings, with everything else at its default; may be given several times.
    #[arg(long = "tree", value_name = "PATH", num_args = 1..)]
    pub(super) trees: Vec<PathBuf>,
    /// How the files of `--tree` are named: auto, zlmediakit, hls, frigate, mediamtx, dated, plain, or a template.
    #[arg(long, value_name = "LAYOUT", requires = "trees")]
    pub(super) layout: Option<String>,
    /// The state's folder: journal, database, control socket.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Lets the guard delete; without it, and without `mode: enforce`, it only observes.
    #[arg(long)]
    pub(super) enforce: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Look {
    #[command(flatten)]
    pub(super) place: Place,
    /// Prints JSON, as the API answers.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Journal {
    /// Lists entries, the oldest first.
    List {
        #[command(flatten)]
        look: Look,
        /// Of this tree only.
        #[arg(long = "of-tree", value_name = "NAME")]
        of_tree: Option<String>,
        /// Of this stream only.
        #[arg(long)]
        stream: Option<String>,
        /// Not before this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// verified, already_gone, failed or kept.
        #[arg(long)]
        outcome: Option<String>,
    },
    /// Checks the chain: finds changed, missing and inserted entries.
    Verify(Look),
    /// Says what was done with a recording, or what happened in a stream around a time.
    Explain {
        #[command(flatten)]
        look: Look,
        /// A path below its tree, or a stream.
        what: String,
        /// With a stream: when something is missing: 2026-11-22T08:30:00Z, `2026-11-22 08:30` by the clock of the tree's timezone,
        /// 2026-11-22 for the whole day, or a span FROM/TO of these.
        time: Option<String>,
        /// Where the span ends, written alike.
        #[arg(long, value_name = "TIME", requires = "time")]
        to: Option<String>,
        /// In this tree only; else in every tree that knows the stream.
        #[arg(long = "of-tree", value_name = "NAME", requires = "time")]
        of_tree: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Orphans {
    /// Lists them, with what proves each or what is still wanted.
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        kind: Kind,
        /// Proven ones only.
        #[arg(long)]
        proven: bool,
    },
    /// Inserts the row that the platform should have had.
    Adopt {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        kind: Kind,
        /// Only shows the rows that would be inserted.
        #[arg(long)]
        dry_run: bool,
    },
    /// Sets them aside; they are deleted after `orphans.quarantine`.
    Quarantine {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        kind: Kind,
    },
    /// Deletes them.
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        kind: Kind,
    },
    /// Puts what is set aside back under its name, never over another file.
    Restore {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        kind: Kind,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Missing {
    /// Lists them; those that the guard deleted itself are left out.
    List(Which),
    /// Removes their rows, each once its file is verified absent.
    Remove(Which),
}

#[derive(Debug, Subcommand)]
pub(super) enum Catalogue {
    /// Lists them, and why one is not trusted.
    List(Look),
    /// Accepts what one says now, after it was distrusted.
    Accept {
        #[command(flatten)]
        look: Look,
        /// Its name.
        name: String,
    },
}

/// Which files of which tree.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) look: Look,
    /// The tree's name.
    #[arg(value_name = "TREE")]
    pub(super) name: Option<String>,
    /// Paths below the tree.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// All of the tree.
    #[arg(long)]
    pub(super) all: bool,
    /// `%XX` stands in the paths for bytes that a terminal should not see, as lists show them.
    #[arg(long)]
    pub(super) encoded: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Hold {
    /// Holds recordings: by their paths, or those of a stream within a span of time.
    Add {
        #[command(flatten)]
        look: Look,
        #[command(flatten)]
        wanted: HoldArgs,
    },
    /// Lets go of a hold.
    Remove {
        #[command(flatten)]
        look: Look,
        /// Its number.
        id: u64,
    },
    /// Lists the holds that are in effect.
    List(Look),
}

#[derive(Debug, Subcommand)]
pub(super) enum Archive {
    /// Lists the copies that archives hold.
    List(CopiesArgs),
    /// Brings recordings back under their names: by their paths, or those of a stream that reach into a span of time.
    Restore {
        #[command(flatten)]
        look: Look,
        #[command(flatten)]
        wanted: RestoreArgs,
    },
}

/// Which copies.
#[derive(Debug, Clone, Args)]
pub(super) struct CopiesArgs {
    #[command(flatten)]
    pub(super) look: Look,
    /// Of this tree only.
    #[arg(value_name = "TREE")]
    pub(super) name: Option<String>,
    /// In this archive only.
    #[arg(long, value_name = "ARCHIVE")]
    pub(super) archive: Option<String>,
    /// Of this stream only.
    #[arg(long, value_name = "STREAM")]
    pub(super) stream: Option<String>,
}

/// What is wanted back.
#[derive(Debug, Clone, Args)]
pub(super) struct RestoreArgs {
    /// The tree's name.
    #[arg(value_name = "TREE")]
    pub(super) name: String,
    /// Paths below the tree; where a day goes whole, its directory.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// `%XX` stands in the paths for bytes that a terminal should not see, as lists show them.
    #[arg(long)]
    pub(super) encoded: bool,
    /// Recordings of this stream ...
    #[arg(long, value_name = "STREAM")]
    pub(super) stream: Option<String>,
    /// ... that reach into the span from this time, such as 2026-11-22T12:21:41Z ...
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// ... to this one.
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
}

/// What is to be held.
#[derive(Debug, Clone, Args)]
pub(super) struct HoldArgs {
    /// The tree's name.
    #[arg(value_name = "TREE")]
    pub(super) name: String,
    /// Paths below the tree; where a day goes whole, its directory.
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// Recordings of this stream, those that come later too.
    #[arg(long, value_name = "STREAM")]
    pub(super) stream: Option<String>,
    /// From this time, such as 2026-11-22T12:21:41Z.
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// To this time.
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// It ends by itself then: a time, or a span from now on, such as 30d.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// `%XX` stands in the paths for bytes that a terminal should not see, as lists show them.
    #[arg(long)]
    pub(super) encoded: bool,
}

/// Which kind of orphans.
#[derive(Debug, Clone, Args)]
pub(super) struct Kind {
    /// Which kind.
    #[arg(long, value_name = "KIND", value_parser = ["uncatalogued", "leftover"], default_value = "uncatalogued")]
    pub(super) kind: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cap {
    /// Lists tripped caps.
    List(Look),
    /// Lets go of a tripped cap: permits one run of the wanted size within an hour.
    Acknowledge {
        #[command(flatten)]
        look: Look,
        /// The tree.
        name: String,
        /// The cap: run_share or orphan_share.
        cap: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Failures {
    /// Lists them.
    List(Look),
    /// Tries them again now: all, or those that are named.
    Retry {
        #[command(flatten)]
        look: Look,
        /// Their numbers.
        ids: Vec<u64>,
    },
    /// Gives one up: it is not tried again.
    Close {
        #[command(flatten)]
        look: Look,
        /// Its number.
        id: u64,
        /// Why, for the journal.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Alerts {
    /// Lists alerts that are pending or firing, why nobody is told of one, and those that were over lately.
    List(Look),
    /// Mutes alerts until a time; without anything said, lists the silences.
    Silence {
        #[command(flatten)]
        look: Look,
        #[command(flatten)]
        silence: SilenceArgs,
    },
    /// Sends a message by a channel, and prints the whole exchange: 0 delivered, 1 not.
    Test {
        #[command(flatten)]
        look: Look,
        /// The channel's name.
        channel: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct SilenceArgs {
    /// Alerts of this name.
    #[arg(long)]
    pub(super) alert: Option<String>,
    /// Alerts about this tree.
    #[arg(long = "of-tree", value_name = "NAME")]
    pub(super) of_tree: Option<String>,
    /// Alerts about this volume, and about the trees on it.
    #[arg(long, value_name = "NAME")]
    pub(super) volume: Option<String>,
    /// Every alert.
    #[arg(long)]
    pub(super) all: bool,
    /// When it ends by itself: a time (RFC 3339), or a span such as 2h.
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Why, for whoever wonders later.
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Ends the silence with this number now.
    #[arg(long, value_name = "ID")]
    pub(super) remove: Option<u64>,
    /// Lists also those that ended within 30 days.
    #[arg(long)]
    pub(super) ended: bool,
}
