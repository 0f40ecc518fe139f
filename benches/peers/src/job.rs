//! What does the command tell one of its child processes to do, and what does the child answer?
//!
//! Every run of every contender is a process of its own: a peer that hangs can be ended, one that leaves threads
//! behind disturbs nobody, memory is counted for it alone, and it can be killed as a crash would.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What must have happened when an append returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flush {
    /// The record survives the death of the process: nobody waits for the disk.
    Async,
    /// The record survives power loss.
    Sync,
}

impl Flush {
    pub fn word(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Sync => "sync",
        }
    }
}

/// One task for a child process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Who does it: the name of a contender, or of a probe.
    pub contender: String,
    /// The folder of the run, which exists.
    pub dir: PathBuf,
    pub flush: Flush,
    /// Bytes of a body.
    pub size: usize,
    /// How many messages the folder must be able to hold: some peers have a fixed capacity.
    pub capacity: u64,
    pub work: Work,
}

/// When a timed section ends: after so many messages or so many seconds, whichever comes first.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Budget {
    pub messages: u64,
    pub seconds: f64,
}

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Work {
    /// Appends from so many threads, singly (`batch` 0) or so many messages at once, with or without a key.
    Append { producers: usize, batch: usize, keyed: bool, budget: Budget },
    /// Fills the folder untimed, then reads every byte of every message from the first on.
    Read { messages: u64 },
    /// Appends at a fixed rate, and takes each call's time from the moment at which it was due.
    Latency { rate: f64, seconds: f64 },
    /// Fills the folder, says so, and waits to be killed.
    Fill { messages: u64, before: BeforeKill },
    /// Opens what was filled.
    Reopen,
    /// Appends so many bytes and looks at the memory of the process.
    Memory { messages: u64 },
    /// Something that only this store has.
    Ours(Ours),
    /// Measures the machine.
    Probe(Probe),
}

/// What a child does between filling a folder and its death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeforeKill {
    /// Nothing: a part may not be on the disk.
    Nothing,
    /// Flushes the log, so that nothing needs to be written again.
    Flush,
    /// Flushes, and waits for the checkpoint of the store.
    Checkpoint,
    /// Closes the store.
    Close,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Ours {
    /// From sending to a consumer that sleeps, at a fixed rate.
    Wake { rate: f64, seconds: f64 },
    /// Sends from one thread while others receive and acknowledge.
    Receive { consumers: usize, budget: Budget },
    /// Sends from one thread to the handlers of so many members of a group, in so many threads of each.
    Listen { members: usize, threads: usize, batch: usize, budget: Budget },
    /// Sends durably from so many threads with so many tickets in flight in all.
    Tickets { threads: usize, in_flight: usize, budget: Budget },
    /// Appends from four threads to so many brokers.
    Shards { brokers: usize, budget: Budget },
    /// Consumes a backlog from the start, with or without somebody who appends.
    Backlog { append: bool, seconds: f64 },
    /// Makes so many queues, one message each, and looks at what they cost.
    Queues { queues: u32, append: u64 },
    /// Looks keys up among so many, in index files of so many entries.
    Keys { keys: u64, entries: u32, lookups: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Probe {
    /// Copies bodies into a file mapping that was populated before.
    Copy { bytes: u64 },
    /// `MADV_POPULATE_WRITE` of a fresh mapping.
    Populate { bytes: u64 },
    /// A checksum of bodies.
    Crc { bytes: u64 },
    /// Copy and checksum, body by body.
    CopyCrc { bytes: u64 },
    /// Overwrites so many bytes and syncs, so many times.
    Fsync { times: u64 },
    /// One thread wakes another.
    ThreadWake { times: u64 },
    /// Reads a mapped file of bodies, warm.
    Scan { bytes: u64 },
    /// Reads a file from the disk.
    SequentialRead { file: PathBuf },
    /// A prototype of the record format, and nothing else: what the format allows.
    Prototype { messages: u64 },
}

/// What a child measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub figures: BTreeMap<String, f64>,
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn set(mut self, name: &str, value: f64) -> Self {
        self.figures.insert(name.to_owned(), value);
        self
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

/// The word with which a child's answer begins.
pub const ANSWER: &str = "outcome ";
/// What a child says when it can be killed.
pub const READY: &str = "ready to die";
