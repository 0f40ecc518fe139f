//! Is everything told to a subscriber of `tracing` that the documents say is told, and nothing for what goes well?

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Once;
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    FileSizes, LagThreshold, Limit, Limits, LocalTransactionState, Message, MessageView, QueueOffset,
    Retention, Store, TopicConfig, TransactionPolicy,
};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

type Told = (Level, &'static str, String);

thread_local! {
    /// What was told in this thread, if anybody listens here.
    static HEARD: RefCell<Option<Vec<Told>>> = const { RefCell::new(None) };
}

/// The subscriber of this process: tests run in many threads, and each hears what it does itself.
struct Ears;

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Ears {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "pocketmq"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        HEARD.with_borrow_mut(|heard| {
            let Some(heard) = heard else { return };
            let mut fields = Fields(String::new());
            event.record(&mut fields);
            heard.push((*event.metadata().level(), event.metadata().name(), fields.0));
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Heard;

impl Heard {
    fn all(&self) -> Vec<Told> {
        HEARD.with_borrow(|heard| heard.clone().unwrap())
    }

    fn names(&self) -> Vec<&'static str> {
        self.all().into_iter().map(|(_, name, _)| name).collect()
    }

    fn clear(&self) {
        HEARD.set(Some(Vec::new()));
    }

    fn only(&self, name: &str) -> (Level, String) {
        let all = self.all();
        let mut found = all.iter().filter(|(_, heard, _)| *heard == name);
        let (level, _, fields) = found.next().unwrap_or_else(|| panic!("{name} was not told: {all:?}"));
        assert!(found.next().is_none(), "{name} was told twice: {all:?}");
        (*level, fields.clone())
    }
}

fn listening(work: impl FnOnce(&Heard)) {
    static EARS: Once = Once::new();
    EARS.call_once(|| tracing::subscriber::set_global_default(Ears).unwrap());
    Heard.clear();
    work(&Heard);
    HEARD.set(None);
}

#[test]
fn what_an_operator_does_is_told_and_what_goes_well_is_not() {
    listening(|heard| {
        let store = TestStore::new();
        assert!(heard.only("opened").1.contains("new"));
        store.create_topic("orders", TopicConfig::queues(2)).unwrap();
        assert!(heard.only("topic_set").1.contains("topic=orders queues=2"));
        heard.clear();
        let producer = store.producer("shop").unwrap();
        let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
        for n in 0..100 {
            producer.send(Message::new("orders", n.to_string())).unwrap();
        }
        for _ in 0..50 {
            consumer.recv().unwrap().ack().unwrap();
        }
        store.advance(Duration::from_secs(30)).unwrap();
        assert_eq!(heard.names(), Vec::<&str>::new(), "nothing for what goes well");
        let admin = store.admin();
        let queues = store.queues("orders").unwrap();
        admin.reset_to_offset("billing", &queues[0], QueueOffset::ZERO).unwrap();
        let (level, fields) = heard.only("position_moved");
        assert_eq!(level, Level::INFO);
        assert!(fields.contains("group=billing") && fields.contains("to=0"), "{fields}");
        store.update_topic("orders", TopicConfig::queues(1)).unwrap();
        assert_eq!(admin.delete_queue(&queues[1]).unwrap(), 50);
        assert!(heard.only("queue_deleted").1.contains("messages=50"));
        admin.purge_topic("orders").unwrap();
        assert!(heard.only("topic_purged").1.contains("topic=orders"));
        drop(consumer);
        admin.delete_group("billing").unwrap();
        assert!(heard.only("group_deleted").1.contains("group=billing"));
        store.delete_topic("orders").unwrap();
        heard.only("topic_deleted");
        let dir = tempfile::tempdir().unwrap();
        store.snapshot(dir.path().join("copy")).unwrap();
        heard.only("snapshot_taken");
        std::fs::write(dir.path().join("file"), "in the way").unwrap();
        store.snapshot(dir.path().join("copy")).unwrap_err();
        store.close().unwrap();
        heard.only("closed");
    });
}

#[test]
fn what_is_deleted_given_up_or_too_far_behind_is_told() {
    listening(|heard| {
        let sizes =
            FileSizes { commit_log: 16_384, consume_queue_units: 50, index_slots: 16, index_entries: 64 };
        let store = TestStore::builder(move |builder| {
            let limits = Limits::new()
                .topic("bounded", Limit::new().count(10).overflow(pocketmq::Overflow::DeleteOldest));
            let retention = Retention::forever().max_bytes(40_000).delete_unconsumed();
            builder.file_sizes(sizes).free_space_min(0).limits(limits).retention(retention)
        });
        let consumer = store.consumer("billing").subscribe("orders", "*").max_retries(0).build().unwrap();
        let producer = store.producer("shop").unwrap();
        for n in 0..11 {
            producer.send(Message::new("bounded", n.to_string())).unwrap();
        }
        let (level, fields) = heard.only("made_room");
        assert!(level == Level::DEBUG && fields.contains("topic=bounded"), "{fields}");
        let _watch = store.admin().watch_lag("billing", LagThreshold::new().messages(5), |_| ()).unwrap();
        producer.send(Message::new("orders", "bad")).unwrap();
        consumer.recv().unwrap().fail("no such account").unwrap();
        let (level, fields) = heard.only("dead_lettered");
        assert!(level == Level::WARN && fields.contains("no such account"), "{fields}");
        for n in 0..500 {
            producer.send(Message::new("orders", format!("{n} {}", "x".repeat(100)))).unwrap();
        }
        // What is not on disk stays: the first step flushes it.
        for _ in 0..2 {
            store.advance(Duration::from_secs(11)).unwrap();
        }
        assert!(heard.only("group_behind").1.contains("group=billing"));
        assert!(heard.only("retained").1.contains("surplus"));
        let names = heard.names();
        assert!(names.contains(&"unconsumed_deleted"), "{names:?}");
    });
}

#[test]
fn what_an_opening_finds_is_told() {
    let store = TestStore::new();
    store.producer("shop").unwrap().send(Message::new("orders", "hello")).unwrap();
    let folder = store.kill_into_folder();
    listening(|heard| {
        Store::open(folder.path()).unwrap().close().unwrap();
        assert!(heard.only("opened").1.contains("left by a crash"));
        heard.clear();
        std::fs::write(folder.path().join("broker-a/config/consumerOffset.json"), "{").unwrap();
        let _store = Store::builder(folder.path()).open();
        assert!(heard.names().iter().all(|name| ["opened", "warned"].contains(name)), "{:?}", heard.names());
        assert!(heard.names().contains(&"warned"));
    });
}

#[test]
fn a_transaction_that_is_given_up_is_told() {
    listening(|heard| {
        let store =
            TestStore::builder(|builder| builder.transactions(TransactionPolicy::new().checks_max(1)));
        let listener = |_: &MessageView| LocalTransactionState::Unknown;
        let bank = store.transaction_producer("bank", listener).unwrap();
        let transaction = bank.begin(Message::new("transfers", "pay")).unwrap();
        let id = transaction.message_id().to_string();
        drop(transaction);
        (0..2).for_each(|_| store.advance(Duration::from_secs(30)).unwrap());
        let (level, fields) = heard.only("transaction_given_up");
        assert!(level == Level::WARN && fields.contains("group=bank") && fields.contains(&id), "{fields}");
    });
}
