//! Does a store behave like a list in memory, whatever is done to it in whatever order?
//!
//! Random operations run against a store and against a plain model; after each of them both must say the same. Killing
//! the process keeps everything (contract D1), so the model does not even notice.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Background, FileSizes, Filter, FlushPolicy, Message, MessageQueue, PullStatus, QueueOffset, TopicConfig,
};
use proptest::prelude::*;

const TOPICS: [&str; 2] = ["orders", "prices"];
const QUEUES: u32 = 2;
const TAGS: [&str; 3] = ["Aa", "BB", "other"];

/// One thing that a user may do.
#[derive(Debug, Clone)]
enum Operation {
    Send { topic: usize, queue: u32, len: usize, tag: usize, key: u8 },
    Batch { topic: usize, queue: u32, count: usize },
    Consume { count: usize },
    Flush,
    Step,
    Advance(u64),
    Reopen,
    Kill,
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = (0..TOPICS.len(), 0..QUEUES);
    prop_oneof![
        8 => (place.clone(), 1..3_000_usize, 0..TAGS.len(), 0..5_u8)
            .prop_map(|((topic, queue), len, tag, key)| Operation::Send { topic, queue, len, tag, key }),
        2 => (place, 1..20_usize).prop_map(|((topic, queue), count)| Operation::Batch { topic, queue, count }),
        3 => (1..30_usize).prop_map(|count| Operation::Consume { count }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Step),
        1 => (1..20_u64).prop_map(Operation::Advance),
        1 => Just(Operation::Reopen),
        2 => Just(Operation::Kill),
    ]
}

/// What the model keeps of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    body: Vec<u8>,
    tag: &'static str,
    key: Option<String>,
}

#[derive(Debug, Default)]
struct Model {
    queues: BTreeMap<(usize, u32), Vec<Sent>>,
    /// Per queue of the first topic: how far its group has come.
    consumed: BTreeMap<u32, usize>,
    next: u32,
}

impl Model {
    fn message(&mut self, (topic, queue): (usize, u32), len: usize, tag: usize, key: Option<u8>) -> Message {
        self.next += 1;
        let mut body = self.next.to_be_bytes().to_vec();
        body.resize(len.max(4), b'.');
        let key = key.map(|key| format!("key-{key}"));
        let message = Message::new(TOPICS[topic], body.clone()).tag(TAGS[tag]);
        let message = match &key {
            Some(key) => message.key(key.clone()),
            None => message,
        };
        self.queues.entry((topic, queue)).or_default().push(Sent { body, tag: TAGS[tag], key });
        message
    }
}

fn open(flush: FlushPolicy, in_memory: bool) -> TestStore {
    let sizes =
        FileSizes { commit_log: 16_384, consume_queue_units: 64, index_slots: 32, index_entries: 100 };
    let store = TestStore::builder(move |builder| {
        let builder = builder.flush(flush).file_sizes(sizes).background(Background::Manual);
        if in_memory { builder.in_memory() } else { builder }
    });
    for topic in TOPICS {
        store.create_topic(topic, TopicConfig::queues(QUEUES)).unwrap();
    }
    store
}

fn queue_of(store: &TestStore, topic: usize, queue: u32) -> MessageQueue {
    store.queues(TOPICS[topic]).unwrap().into_iter().find(|found| found.queue_id() == queue).unwrap()
}

fn apply(store: TestStore, model: &mut Model, operation: &Operation) -> TestStore {
    match *operation {
        Operation::Send { topic, queue, len, tag, key } => {
            let at = model.queues.get(&(topic, queue)).map_or(0, Vec::len) as u64;
            let message = model.message((topic, queue), len, tag, Some(key));
            let receipt =
                store.producer("model").unwrap().send_to(&queue_of(&store, topic, queue), message).unwrap();
            assert_eq!(receipt.queue_offset(), QueueOffset::new(at));
        }
        Operation::Batch { topic, queue, count } => {
            // A batch chooses its queue itself, so the model learns it from the receipt.
            let place = (topic, queue);
            let before = model.queues.get(&place).map_or(0, Vec::len);
            let messages: Vec<_> =
                (0..count).map(|n| model.message((topic, queue), 4 + n, n % TAGS.len(), None)).collect();
            let sent = model.queues.get_mut(&place).unwrap().split_off(before);
            let receipt = store.producer("model").unwrap().send_batch(messages).unwrap();
            let list = model.queues.entry((topic, receipt.queue().queue_id())).or_default();
            assert_eq!(receipt.queue_offset(), QueueOffset::new(list.len() as u64));
            list.extend(sent);
        }
        Operation::Consume { count } => consume(&store, model, count),
        Operation::Flush => store.flush().unwrap(),
        Operation::Step => store.step().unwrap(),
        Operation::Advance(seconds) => store.advance(Duration::from_secs(seconds)).unwrap(),
        Operation::Reopen => return store.reopen().unwrap(),
        Operation::Kill => return store.kill_process().unwrap(),
    }
    store
}

fn consume(store: &TestStore, model: &mut Model, count: usize) {
    let consumer = store.consumer("readers").subscribe(TOPICS[0], "Aa").build().unwrap();
    for _ in 0..count {
        let Some(delivery) = consumer.try_recv().unwrap() else { break };
        let queue = delivery.queue_id();
        let list = &model.queues[&(0, queue)];
        let position = model.consumed.entry(queue).or_default();
        let expected =
            (*position..list.len()).find(|at| list[*at].tag == "Aa").expect("a message to consume");
        assert_eq!(delivery.queue_offset(), QueueOffset::new(expected as u64));
        assert_eq!(delivery.raw_body(), list[expected].body);
        *position = expected + 1;
        delivery.ack().unwrap();
    }
}

fn compare(store: &TestStore, model: &Model) {
    for ((topic, queue), list) in &model.queues {
        let queue = queue_of(store, *topic, *queue);
        let mut at = QueueOffset::ZERO;
        let mut found = Vec::new();
        loop {
            let pulled = store.pull(&queue, &Filter::all(), at, 7).unwrap();
            if pulled.status == PullStatus::NoNewMessage {
                break;
            }
            found.extend(pulled.messages.iter().map(|message| message.raw_body().to_vec()));
            at = pulled.next_offset;
        }
        let expected: Vec<_> = list.iter().map(|sent| sent.body.clone()).collect();
        assert_eq!(found, expected, "{queue}");
    }
    for (number, topic) in TOPICS.iter().enumerate() {
        let key = "key-3";
        let mut found: Vec<_> = store
            .query_by_key(*topic, key)
            .limit(10_000)
            .fetch()
            .unwrap()
            .iter()
            .map(|hit| hit.raw_body().to_vec())
            .collect();
        let lists = model.queues.iter().filter(|((topic, _), _)| *topic == number).flat_map(|(_, list)| list);
        let mut expected: Vec<_> =
            lists.filter(|sent| sent.key.as_deref() == Some(key)).map(|sent| sent.body.clone()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{topic}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_store_equals_a_list_in_memory(
        sync in any::<bool>(),
        in_memory in prop::bool::weighted(0.25),
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let mut store = open(if sync { FlushPolicy::Sync } else { FlushPolicy::Async }, in_memory);
        let mut model = Model::default();
        for operation in &operations {
            // Nothing survives the end of a store in memory.
            if in_memory && matches!(operation, Operation::Reopen | Operation::Kill) {
                continue;
            }
            store = apply(store, &mut model, operation);
            if matches!(operation, Operation::Reopen | Operation::Kill) {
                compare(&store, &model);
            }
        }
        compare(&store, &model);
    }
}
