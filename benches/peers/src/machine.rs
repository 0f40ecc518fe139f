//! Which machine is this, and what does it say about a run: memory, CPU time, bytes that went to the disk?

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// What stands with every figure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    pub disk: String,
    pub rust: String,
    pub java: String,
}

impl Machine {
    pub fn look(dir: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes =
            field(&meminfo, "MemTotal").split(' ').next().and_then(|text| text.parse::<f64>().ok());
        Self {
            cpu: field(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: kibibytes.map_or_else(String::new, |kib| format!("{:.1} GiB", kib / 1_048_576.0)),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            disk: file_system(dir),
            rust: first_line("rustc", "--version"),
            java: first_line("java", "--version"),
        }
    }

    /// One sentence that says it all.
    pub fn sentence(&self) -> String {
        let java = if self.java.is_empty() { "no Java" } else { &self.java };
        format!(
            "{}, {} cores, {}, Linux {}, {}, {}, {java}",
            self.cpu, self.cores, self.memory, self.kernel, self.disk, self.rust
        )
    }
}

fn field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
}

fn first_line(program: &str, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    line.split(" (").next().unwrap_or_default().to_owned()
}

/// The file system of a folder: its kind and the options that matter.
fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?, words.next()?))
        })
        .filter(|(point, ..)| dir.starts_with(point))
        .max_by_key(|(point, ..)| point.len());
    match best {
        Some((_, kind, options)) if options.split(',').any(|option| option == "discard") => {
            format!("{kind} with discard")
        }
        Some((_, kind, _)) => kind.to_owned(),
        None => "unknown file system".to_owned(),
    }
}

/// The commit that is measured, with a word where files differ from it.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(name) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown commit".to_owned() };
    match git(&["status", "--porcelain", "--", "../../src", "../../Cargo.toml"]) {
        Some(changes) if changes.is_empty() => name,
        _ => format!("{name} with changes"),
    }
}

/// The day, in UTC.
pub fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// CPU time of this process so far.
pub fn cpu_time() -> Duration {
    usage(UsageWho::RUSAGE_SELF)
}

fn usage(whose: UsageWho) -> Duration {
    let Ok(usage) = getrusage(whose) else { return Duration::ZERO };
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs() as u32 * 1_000)
    };
    micros(usage.user_time()) + micros(usage.system_time())
}

/// What the processors had done at some moment: all of it, and that of the children of this process.
pub struct Load {
    at: std::time::Instant,
    busy: Duration,
    children: Duration,
}

impl Load {
    pub fn now() -> Self {
        Self { at: std::time::Instant::now(), busy: busy_time(), children: usage(UsageWho::RUSAGE_CHILDREN) }
    }

    /// Which part of the machine others have used since: neither idle nor used by children of ours that have ended.
    pub fn others(&self) -> Option<f64> {
        let now = Self::now();
        let all = (now.at - self.at).as_secs_f64() * std::thread::available_parallelism().ok()?.get() as f64;
        let busy =
            now.busy.saturating_sub(self.busy).saturating_sub(now.children.saturating_sub(self.children));
        // Ticks of the system's clock are 10 ms, so short runs say nothing.
        (all > 0.2).then(|| (busy.as_secs_f64() / all).min(1.0))
    }
}

/// Time that all processors together were neither idle nor waiting for the disk.
fn busy_time() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = field_of_words(&text).collect();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let all: u64 = ticks.iter().take(8).sum();
    Duration::from_millis((all - idle.min(all)) * 10)
}

fn field_of_words(text: &str) -> impl Iterator<Item = u64> {
    text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|word| word.parse().ok())
}

/// Bytes that were written to the disk of a folder since it was attached, by anybody. `None` where it cannot be told.
pub fn disk_bytes_written(dir: &Path) -> Option<u64> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) =
        (nix::sys::stat::major(device).to_string(), nix::sys::stat::minor(device).to_string());
    let stats = fs::read_to_string("/proc/diskstats").ok()?;
    stats.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words.first() == Some(&major.as_str()) && words.get(1) == Some(&minor.as_str());
        ours.then(|| words.get(9)?.parse::<u64>().ok().map(|sectors| sectors * 512)).flatten()
    })
}

/// Anonymous memory of this process, in bytes.
pub fn anonymous_memory() -> Result<u64> {
    status("RssAnon")
}

/// Shared anonymous memory of this process, in bytes.
pub fn anonymous_shared() -> Result<u64> {
    status("RssShmem")
}

/// Memory of page tables, in bytes.
pub fn page_tables() -> Result<u64> {
    status("VmPTE")
}

fn status(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let value = field(&text, name);
    let kibibytes: u64 =
        value.split(' ').next().and_then(|text| text.parse().ok()).context("a number of kB")?;
    Ok(kibibytes * 1_024)
}

/// Descriptors that this process has open.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Mappings that this process has.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").map_or(0, |text| text.lines().count())
}

/// Lets go of the cached pages of every file below a folder, after syncing them; returns how many bytes they are.
pub fn drop_cache(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        if kind.is_dir() {
            bytes += drop_cache(&entry.path())?;
        } else if kind.is_file() {
            let file = fs::OpenOptions::new().read(true).open(entry.path())?;
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            bytes += kind.blocks() * 512;
        }
    }
    Ok(bytes)
}
