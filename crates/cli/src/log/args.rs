//! The command line of `walt log`.

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print lines of the past, of the present, or both
    #[command(after_help = "\
RANGE is `full`, `none` or [START]:[END]. START and END are times before now (-40s, -5m, -1h, -10d), names of \
checkpoints, or nothing.

Examples:
  walt log show --realtime                                  # what my nodes log from now on
  walt log show --history -5m: --issuers node-0a1b2c        # and what one did in the last five minutes
  walt log show --history begun:ended --streams '^exp1' 'result: [0-9]+'
  walt log show --history full --format '{timestamp:%s.%f};{issuer};{line}' > lines.csv
  walt log show --realtime --platform                       # nodes that come, boot and fail")]
    Show {
        /// Lines of the past
        #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
        history: Option<String>,
        /// Lines that come from now on, until Ctrl-C
        #[arg(long)]
        realtime: bool,
        #[command(flatten)]
        selection: LogSelection,
        /// How a line is printed, as Python's format strings do, with the fields timestamp, issuer, stream and line
        #[arg(long, value_name = "FORMAT", default_value = "{timestamp:%H:%M:%S.%f} {issuer}.{stream} -> {line}")]
        format: String,
        /// A line of JSON for each, for programs
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// Wait until a line comes
    #[command(after_help = "\
Examples:
  walt log wait 'experiment [0-9]+ is done'
  walt log wait --mode ALL --issuers node-0a1b2c,node-0a1b2d DONE    # until each of them has said it
  walt log wait --timeout 60 --streams '^exp1$' DONE")]
    Wait {
        #[command(flatten)]
        selection: LogSelection,
        /// Whether one such line is enough, or each issuer must send one
        #[arg(long, value_enum, ignore_case = true, default_value = "ANY")]
        mode: WaitMode,
        /// Lines of so many seconds before now count, too
        #[arg(long, value_name = "SECONDS")]
        time_margin: Option<u32>,
        /// Fail after so many seconds [default: never]
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Give a moment a name, to begin or end a range with
    #[command(after_help = "\
Examples:
  walt log add-checkpoint begun                                # now
  walt log add-checkpoint begun --date '2026-11-25 14:30:00'
  walt log show --history begun:")]
    AddCheckpoint {
        /// Name: letters, digits, `-`, `_`, `.`
        name: String,
        /// Another moment than now, in this machine's time zone
        #[arg(long, value_name = "DATE")]
        date: Option<String>,
    },
    /// List my checkpoints
    #[command(after_help = "\
Examples:
  walt log list-checkpoints")]
    ListCheckpoints {
        /// JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a checkpoint; the lines stay
    #[command(after_help = "\
Examples:
  walt log remove-checkpoint begun")]
    RemoveCheckpoint {
        /// Name
        name: String,
    },
}

/// Which lines.
#[derive(Debug, clap::Args)]
pub(crate) struct LogSelection {
    /// Nodes whose lines are wanted, and `server` [default: my-nodes]
    #[arg(long, value_name = "SET", visible_aliases = ["nodes", "emitters"])]
    pub(crate) issuers: Option<String>,
    /// Expression that matches in the stream's name
    #[arg(long, value_name = "REGEX")]
    pub(crate) streams: Option<String>,
    /// Events of the platform: nodes that come, boot steps, failures
    #[arg(long, conflicts_with_all = ["issuers", "streams"])]
    pub(crate) platform: bool,
    /// The daemon's own log
    #[arg(long, conflicts_with_all = ["issuers", "streams"])]
    pub(crate) server: bool,
    /// Expression that matches in the line
    pub(crate) regex: Option<String>,
}

/// When waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum WaitMode {
    /// With the first line
    Any,
    /// Once each issuer has sent one
    All,
}
