//! How much of the log, of the queues and of the index is known to be on disk?
//!
//! Two files say it. RocketMQ's `checkpoint` (4,096 bytes) says it in store times:
//!
//! | bytes | field | what we write |
//! |---|---|---|
//! | 0 | physicMsgTimestamp | store time of the last flushed message |
//! | 8 | logicsMsgTimestamp | store time of the last message whose queue unit is synced |
//! | 16 | indexMsgTimestamp | end time of the last full index file |
//! | 24 | masterFlushedOffset | left as it is |
//! | 32 | confirmPhyOffset | left as it is |
//! | 40 | (5.5.0) last message whose unit is flushed | 0: the broker then goes by the store times |
//!
//! `pocketmq/watermark` says it in bytes of the log, in two slots with a CRC each, so that a torn one falls back to
//! the older one:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | the log is flushed up to here |
//! | 8 | queue units of every record before this are synced |
//! | 8 | index entries of every record before this are synced |

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::storage::{Access, Disk, Durable, EntryKind, MappedFile, NewFile, TwoSlots};
use crate::sync::Mutex;

const CHECKPOINT_LEN: u64 = 4_096;
const WATERMARK_LEN: usize = 24;

/// RocketMQ's checkpoint file.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    map: Arc<MappedFile>,
}

impl Checkpoint {
    /// Opens the file; a missing one, or one of another length, is made anew and says nothing.
    pub(crate) fn open(disk: &dyn Disk, root: &Path, own: &Path) -> Result<Self> {
        let path = root.join("checkpoint");
        match disk.metadata(&path)? {
            Some(found) if found.kind == EntryKind::File && found.len == CHECKPOINT_LEN => {
                disk.allocate(&path, 0..CHECKPOINT_LEN)?;
            }
            found => {
                if found.is_some_and(|found| found.kind == EntryKind::File) {
                    disk.remove_file(&path)?;
                }
                let len = CHECKPOINT_LEN;
                NewFile { path: &path, temp_dir: own, len, first_blocks: len, durable: Durable::Yes }
                    .create(disk)?;
            }
        }
        Ok(Self { map: disk.map(&path, 0..CHECKPOINT_LEN, Access::Random)? })
    }

    /// Returns the store time up to which the log is flushed, by the word of whoever wrote here last; 0 if the file
    /// says nothing. Looks without touching.
    pub(crate) fn peek_log_millis(disk: &dyn Disk, root: &Path) -> i64 {
        let bytes = disk.read_at(&root.join("checkpoint"), 0, 8).unwrap_or_default();
        bytes.first_chunk().map_or(0, |field| i64::from_be_bytes(*field))
    }

    /// Writes the three times and syncs them. Call it only when what they say is on disk.
    pub(crate) fn store(&self, log_millis: i64, queues_millis: i64, index_millis: i64) -> Result<()> {
        for (position, millis) in [(0, log_millis), (8, queues_millis), (16, index_millis), (40, 0)] {
            self.map.store_u64(position, u64::from_be_bytes(millis.to_be_bytes()))?;
        }
        self.map.sync(0..self.map.len())
    }
}

/// Up to which byte of the log things are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Durables {
    /// The log itself.
    pub(crate) log: u64,
    /// Queue units.
    pub(crate) queues: u64,
    /// Index entries.
    pub(crate) index: u64,
}

/// Our own file of watermarks.
#[derive(Debug)]
pub(crate) struct Watermark {
    slots: TwoSlots,
    now: Mutex<Durables>,
}

impl Watermark {
    /// Opens the file, which may be missing.
    pub(crate) fn open(disk: &Arc<dyn Disk>, own: &Path) -> Result<Self> {
        let slots = TwoSlots::open(disk, &own.join("watermark"), own, WATERMARK_LEN)?;
        let now = slots.load().and_then(|bytes| decode(&bytes));
        Ok(Self { slots, now: Mutex::new(now.unwrap_or_default()) })
    }

    /// Returns what is stored.
    pub(crate) fn get(&self) -> Durables {
        *self.now.lock()
    }

    /// Changes what is stored. Not synced: an older value only means that more is done again after a crash.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Durables)) -> Result<()> {
        let mut now = self.now.lock();
        change(&mut now);
        let fields = [now.log, now.queues, now.index];
        let mut bytes = [0; WATERMARK_LEN];
        let encoded = fields.into_iter().flat_map(u64::to_be_bytes);
        bytes.iter_mut().zip(encoded).for_each(|(to, from)| *to = from);
        self.slots.store(&bytes)
    }

    /// Syncs what is stored.
    pub(crate) fn sync(&self) -> Result<()> {
        self.slots.sync()
    }
}

fn decode(bytes: &[u8]) -> Option<Durables> {
    let mut fields =
        bytes.chunks_exact(8).map(|field| field.first_chunk().map_or(0, |field| u64::from_be_bytes(*field)));
    Some(Durables { log: fields.next()?, queues: fields.next()?, index: fields.next()? })
}
