//! What did retention delete, and what does it keep although its time has come?

use std::fmt;

use crate::types::{BrokerName, GroupName, PhysicalOffset, QueueOffset, TopicName};

/// What one pass of retention over a broker deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionReport {
    /// The broker.
    pub broker: BrokerName,
    /// Where its log begins now.
    pub log_start: PhysicalOffset,
    /// Files of the log that are gone because all their messages had expired.
    pub expired_files: u64,
    /// Files that are gone because the log had more bytes than it may have.
    pub surplus_files: u64,
    /// Files that are gone to free space on the disk.
    pub space_files: u64,
    /// Files that are gone because nothing in them could be reached any more: deleted topics, messages that were given up
    /// before.
    pub dead_files: u64,
    /// Bytes of log files that are gone.
    pub bytes: u64,
    /// Messages that were in a queue and are not any more.
    pub messages: u64,
    /// Files of queues that are gone.
    pub queue_files: u64,
    /// What groups lost that they had not consumed: only if the settings let it go.
    pub lost: Vec<Unread>,
    /// What keeps the oldest file although its time has come: the group that is furthest behind.
    pub held: Option<Unread>,
}

/// Messages of one queue that a group has not consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// The consumer group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The number of the queue.
    pub queue_id: u32,
    /// Where the group stands: the next offset that it would consume.
    pub position: QueueOffset,
    /// How many messages.
    pub messages: u64,
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, topic, queue_id, position, messages } = self;
        write!(
            formatter,
            "{messages} messages of queue {queue_id} of {topic} from {position} on that group {group} has not consumed"
        )
    }
}

impl RetentionReport {
    pub(super) const fn new(broker: BrokerName) -> Self {
        Self {
            broker,
            log_start: PhysicalOffset::ZERO,
            expired_files: 0,
            surplus_files: 0,
            space_files: 0,
            dead_files: 0,
            bytes: 0,
            messages: 0,
            queue_files: 0,
            lost: Vec::new(),
            held: None,
        }
    }

    /// Returns how many files of the log are gone, for whatever reason.
    #[must_use]
    pub const fn log_files(&self) -> u64 {
        self.expired_files
            .saturating_add(self.surplus_files)
            .saturating_add(self.space_files)
            .saturating_add(self.dead_files)
    }

    /// Tells whether the pass deleted nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.log_files() == 0 && self.messages == 0 && self.queue_files == 0
    }
}

impl fmt::Display for RetentionReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {} files of the log deleted ({} expired, {} surplus, {} for space, {} dead), {} bytes, {} messages; \
             the log begins at byte {}",
            self.broker,
            self.log_files(),
            self.expired_files,
            self.surplus_files,
            self.space_files,
            self.dead_files,
            self.bytes,
            self.messages,
            self.log_start
        )?;
        self.lost.iter().try_for_each(|lost| write!(formatter, "; lost: {lost}"))?;
        match &self.held {
            Some(held) => write!(formatter, "; kept: {held}"),
            None => Ok(()),
        }
    }
}

/// What retention has deleted from a broker since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Deletions {
    /// Passes that were made.
    pub passes: u64,
    /// Files of the log that are gone.
    pub log_files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were in a queue and are not any more.
    pub messages: u64,
    /// How many of them some group had not consumed, counted once for each group.
    pub unconsumed: u64,
}

impl Deletions {
    pub(super) fn add(&mut self, report: &RetentionReport) {
        self.passes = self.passes.saturating_add(1);
        self.log_files = self.log_files.saturating_add(report.log_files());
        self.bytes = self.bytes.saturating_add(report.bytes);
        self.messages = self.messages.saturating_add(report.messages);
        let lost = report.lost.iter().map(|lost| lost.messages).sum();
        self.unconsumed = self.unconsumed.saturating_add(lost);
    }
}
