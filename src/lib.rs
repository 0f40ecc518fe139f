//! RocketMQ inside your process.
#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::disallowed_methods,
        clippy::print_stdout
    )
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("pocketmq maps its files whole and needs a 64-bit address space");
#[cfg(not(unix))]
compile_error!(
    "pocketmq needs a Unix: it allocates real blocks before it writes to a mapped file and takes an fcntl lock, so that a \
     full disk is an error and a second process is refused; Windows has neither in the form that its guarantees rest on"
);

mod admin;
mod broker;
mod clock;
mod cluster;
mod commitlog;
mod config;
mod consumequeue;
mod consumer;
mod dedup;
mod delay;
mod error;
mod events;
mod filter;
mod index;
mod lease;
mod message;
mod producer;
mod storage;
mod store;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod txn;
mod types;

#[cfg(doctest)]
#[doc = include_str!("../docs/practice.md")]
mod practice {}

#[cfg(doctest)]
#[doc = include_str!("../docs/operations.md")]
mod operations {}

pub use admin::{
    Admin, BrokerStats, Browse, BrowseMessages, Cleaned, ConsumeStats, DeletedGroup, GroupInfo, GroupLag,
    HalfMessage, LagAlarm, LagState, LagThreshold, LagWatch, MessageTrack, MovedPosition, QueueInfo,
    QueueProgress, Rate, Rates, SnapshotReport, Stats, TopicInfo, TopicStats, TrackState,
};
pub use broker::{
    BrokerSnapshot, Deletions, Health, LastStop, LostRange, PullResult, PullStatus, RecoveryProgress,
    RecoveryReport, RetentionReport, Unread, VerifiedBroker,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use cluster::{AckInOneStep, Allocate, AllocateMessageQueueStrategy, Allocation, MachineRoomNearby};
pub use commitlog::MessageView;
pub use config::{
    AutoCreate, Background, DiskRatios, FileSizes, FlushPolicy, Limit, Limits, OnMissingOffsets, Overflow,
    Permission, RecordChecksum, RecoveryMode, Retention, RetryPolicy, RocketmqVersion, TopicConfig,
    TopicKind, TransactionPolicy,
};
#[cfg(feature = "async")]
pub use consumer::DeliveryStream;
pub use consumer::{
    ConsumeContext, ConsumeMessageContext, ConsumeMessageHook, ConsumeOrderlyStatus, ConsumeReturn,
    ConsumeStatus, Consumer, ConsumerBuilder, Delivery, HandlerOutcome, HandlerResult, IntoHandlerOutcome,
    Lease, PullConsumer, PushConsumer, QueueChange, Receipt, SimpleConsumer, StartFrom,
};
pub use dedup::SameBy;
pub use delay::SentBack;
pub use error::{Damage, Error, IoFailure, Outcome, Reason, Result, SendFailure};
pub use filter::Filter;
#[cfg(feature = "serde")]
pub use message::Json;
pub use message::{
    Codec, CodecError, CompressionType, Message, MessageId, OwnedMessage, Properties, RecallHandle,
};
pub use producer::{
    CheckForbiddenHook, Durability, MessageTrace, Producer, ProducerBuilder, Selector, SendBatches,
    SendContext, SendMessageHook, SendMode, SendReceipt, SendStatus, SendTicket, SlowBrokers, TraceRecord,
    Transaction, TransactionProducer, TransactionReceipt, WhenBusy, WhenNotOk,
};
pub use store::{BrokerView, DeadLetters, KeyQuery, Redriven, Store, StoreBuilder, VerifyReport, verify};
pub use txn::{LocalTransactionState, TransactionListener};
pub use types::{BrokerName, GroupName, MessageQueue, NameError, PhysicalOffset, QueueOffset, TopicName};
