//! Prints everything in a store, as JSON lines, without changing a byte of it.
//!
//! ```text
//! cargo run --release --example dump -- FOLDER [--conf broker.conf]
//! ```
//!
//! The folder is a store of ours, or one broker's folder of RocketMQ's. `--conf` names the settings of a RocketMQ broker
//! (file sizes above all) where they do not lie in the folder. Two dumps of equal content are equal after `sort`.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

mod listing;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pocketmq::Store;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: dump FOLDER [--conf broker.conf]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dump: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let (folder, conf) = arguments()?;
    if !folder.is_dir() {
        return Err(format!("{} is not a folder", folder.display()).into());
    }
    let mut builder = Store::builder(folder);
    if let Some(conf) = conf {
        builder = builder.broker_conf(conf);
    }
    let store = builder.open_read_only()?;
    let mut out = BufWriter::new(io::stdout().lock());
    listing::list(&store, &mut |line| Ok(writeln!(out, "{line}")?))?;
    Ok(out.flush()?)
}

fn arguments() -> Result<(PathBuf, Option<PathBuf>), Failure> {
    let (mut folder, mut conf) = (None, None);
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--conf") => conf = Some(words.next().ok_or(USAGE)?.into()),
            Some(option) if option.starts_with('-') => return Err(USAGE.into()),
            _ if folder.is_none() => folder = Some(word.into()),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((folder.ok_or(USAGE)?, conf))
}
