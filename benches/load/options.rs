//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bare::BareArgs;

/// Strongroom beside a bare server that stores and reads the same bytes: throughput, latency, processor time.
#[derive(Parser)]
#[command(name = "load", after_help = "Run it as: cargo bench --bench load -- [OPTIONS]")]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub part: Option<Part>,
    /// What `cargo bench` says; without it nothing is run (`cargo test --all-targets` starts this program too)
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What the bench starts itself as.
#[derive(Subcommand)]
pub enum Part {
    #[command(hide = true)]
    Bare(BareArgs),
    #[command(hide = true)]
    Leash {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Options {
    /// Fewer records, rounds and seconds: about a minute, and a rougher figure
    #[arg(long)]
    pub quick: bool,
    /// Records and subjects to load [default: 20000, quick 4000]
    #[arg(long)]
    records: Option<usize>,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub connections: Vec<usize>,
    /// What to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    pub scenarios: Vec<Scenario>,
    /// Rounds of each server, in turn [default: 3, quick 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Measured seconds of a round [default: 3, quick 1]
    #[arg(long)]
    seconds: Option<f64>,
    /// End a round after so many requests
    #[arg(long)]
    pub requests: Option<u64>,
    /// Seconds in all for running rounds again that something else on the machine disturbed [default: 60, quick 15]
    #[arg(long)]
    patience: Option<u64>,
    /// Use HTTP/2, a stream at a time on each connection
    #[arg(long)]
    pub http2: bool,
    /// Compare the bare server with itself: how far ratios stray on this machine
    #[arg(long)]
    pub calibrate: bool,
    /// Leave OpenBao out
    #[arg(long)]
    pub without_openbao: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where PostgreSQL, the Vault API and logs live meanwhile; emptied at the start, removed at the end
    #[arg(long, default_value = ".strongroom/bench")]
    pub directory: PathBuf,
    /// Leave the directory, logs included, at the end
    #[arg(long)]
    pub keep: bool,
}

impl Options {
    pub fn records(&self) -> usize {
        self.records.unwrap_or(if self.quick { 4_000 } else { 20_000 }).max(64)
    }

    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 2 } else { 3 }).max(1)
    }

    pub fn measured(&self) -> Duration {
        let default = if self.quick { 1.0 } else { 3.0 };
        Duration::try_from_secs_f64(self.seconds.unwrap_or(default)).unwrap_or(Duration::from_secs(3))
    }

    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.unwrap_or(if self.quick { 15 } else { 60 }))
    }

    pub fn warm_up(&self) -> Duration {
        if self.quick { Duration::from_millis(200) } else { Duration::from_millis(500) }
    }
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Read a record of twelve fields
    Read,
    /// The same with a key cache that holds next to nothing: each read gets its two keys from the key database
    ReadCold,
    /// Create a record of twelve fields that is a new subject: keys are made and committed first
    Create,
    /// Create a record of twelve fields for a subject that is there
    Append,
    /// Change one field: the record is read, opened, sealed anew, and the old version kept
    Update,
    /// Find a record of twelve fields by its record number, beside reading the same bytes by their key
    Search,
    /// Read 500 records a request, an audit entry for each; counted in entries, beside a row of an entry's bytes a request
    Entries,
}

impl Scenario {
    /// Whether OpenBao's store has such a request: none for many, and none by what is in a value.
    pub const fn is_of_a_store(self) -> bool {
        !matches!(self, Self::Entries | Self::Search)
    }

    const ALL: [Self; 7] =
        [Self::Read, Self::ReadCold, Self::Create, Self::Append, Self::Update, Self::Search, Self::Entries];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadCold => "read-cold",
            Self::Create => "create",
            Self::Append => "append",
            Self::Update => "update",
            Self::Search => "search",
            Self::Entries => "entries",
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
