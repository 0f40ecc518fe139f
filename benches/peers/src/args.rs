//! What can be asked for on the command line?

use std::path::PathBuf;

use anyhow::{Result, bail};

pub const HELP: &str = "\
Compares pocketmq with its peers and with what the machine can do.

usage: cargo run --release --manifest-path benches/peers/Cargo.toml -- [options]

  --quick            a pass under five minutes: shorter runs, three rounds
  --only SCENARIO    one scenario (1 to 15, 14b, 14c, scale-queues, scale-backlog, scale-keys, scale-reopen);
                     may be repeated, and names a group by its beginning: `scale`
  --json             one line of JSON a target on standard output instead of tables
  --dir DIR          the folder to run in, on the disk that is meant (default: the system's for temporary files)
  --write            keep the figures of a pass with --only, and write docs/performance.md from all that are kept
  --no-write         leave docs/performance.md alone after a full pass
  --render           measure nothing; write docs/performance.md and its pictures from the figures that are kept
  --list             the scenarios
  --peers TEXT       only contenders whose names contain this, beside pocketmq; may be repeated
  --full-size        run the parts of the scale scenarios that need tens of gigabytes of disk";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    pub quick: bool,
    pub only: Vec<String>,
    pub json: bool,
    pub dir: Option<PathBuf>,
    pub write: Option<bool>,
    pub render: bool,
    pub list: bool,
    pub help: bool,
    pub peers: Vec<String>,
    pub full_size: bool,
    /// A child process: the job that it is to do.
    pub job: Option<String>,
}

impl Args {
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut args = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = |name: &str| match arguments.next() {
                Some(value) => Ok(value),
                None => bail!("{name} needs a value"),
            };
            match argument.as_str() {
                "--quick" => args.quick = true,
                "--only" => args.only.push(value("--only")?),
                "--json" => args.json = true,
                "--dir" => args.dir = Some(value("--dir")?.into()),
                "--write" => args.write = Some(true),
                "--no-write" => args.write = Some(false),
                "--render" => args.render = true,
                "--list" => args.list = true,
                "--peers" => args.peers.push(value("--peers")?),
                "--full-size" => args.full_size = true,
                "--job" => args.job = Some(value("--job")?),
                "--help" | "-h" => args.help = true,
                other => bail!("unknown option {other:?}\n\n{HELP}"),
            }
        }
        Ok(args)
    }

    /// Whether a scenario is wanted.
    pub fn wants(&self, id: &str) -> bool {
        let named = |only: &String| id == only || (only == "scale" && id.starts_with("scale-"));
        self.only.is_empty() || self.only.iter().any(named)
    }

    /// Whether the document is to be written after this pass: after a whole one, unless told otherwise.
    pub fn writes(&self) -> bool {
        self.write.unwrap_or(self.only.is_empty() && self.peers.is_empty() && !self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_scenario_is_wanted_by_its_name_and_everything_without_one() {
        let args = parse("--quick --only 14 --only scale").unwrap();
        assert!(args.quick && args.wants("14") && args.wants("scale-keys"));
        assert!(!args.wants("14b") && !args.wants("1"));
        assert!(parse("").unwrap().wants("14b"));
    }

    #[test]
    fn only_a_whole_pass_writes_by_itself() {
        assert!(parse("--quick").unwrap().writes());
        assert!(!parse("--only 2").unwrap().writes());
        assert!(!parse("--json").unwrap().writes());
        assert!(parse("--only 2 --write").unwrap().writes());
        assert!(!parse("--no-write").unwrap().writes());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(parse("--fast").is_err());
        assert!(parse("--only").is_err());
    }
}
