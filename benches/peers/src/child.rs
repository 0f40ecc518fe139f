//! How is a job carried out by a process of its own, and ended if it does not end by itself?

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::job::{ANSWER, Job, Outcome, READY};

/// The command that does a job of ours.
pub fn command(job: &Job) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--job").arg(serde_json::to_string(job)?);
    // walrus-rust takes its folder from here and prints what it does unless told not to.
    command.env("WALRUS_DATA_DIR", &job.dir).env("WALRUS_QUIET", "1");
    Ok(command)
}

/// Runs a command that answers, and ends it when the time is up.
pub fn run(command: Command, log: &Path, patience: Duration) -> Result<Outcome> {
    let mut child = Running::start(command, log)?;
    let answer = child.wait_for(ANSWER, patience);
    let text = match answer {
        Ok(text) => text,
        Err(error) => return Err(child.explain(error)),
    };
    child.end();
    serde_json::from_str(&text).context("an answer")
}

/// Runs a command until it says that it is ready, and kills it as a crash would.
pub fn run_and_kill(command: Command, log: &Path, patience: Duration) -> Result<()> {
    let mut child = Running::start(command, log)?;
    if let Err(error) = child.wait_for(READY, patience) {
        return Err(child.explain(error));
    }
    child.end();
    Ok(())
}

struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: std::path::PathBuf,
}

impl Running {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let errors = File::create(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        let output = child.stdout.take().context("the output of a child")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // A peer may print what is no text.
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, log: log.to_owned() })
    }

    /// Waits for a line that begins with these words, and returns its rest.
    fn wait_for(&mut self, words: &str, patience: Duration) -> Result<String> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(words) {
                        return Ok(rest.to_owned());
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("no answer within {} s", patience.as_secs()),
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("ended without an answer"),
            }
        }
    }

    /// Kills it, if it still runs, and waits until it is gone.
    fn end(&mut self) {
        // Nothing can be done about a process that cannot be killed; it has ended already in most cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.end();
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.contains("RUST_BACKTRACE"));
        let last: Vec<&str> = lines.rev().take(6).collect();
        if last.is_empty() {
            return error;
        }
        let last: Vec<&str> = last.into_iter().rev().collect();
        anyhow!("{error}: {}", last.join(" / "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
