//! Do the figures that a recorder of `metrics` gets say what the store says?

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use pocketmq::testing::TestStore;
use pocketmq::{LocalTransactionState, Message, MessageView, TopicConfig};

/// Keeps every figure under its name and labels.
#[derive(Default)]
struct Recorded {
    figures: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    described: Mutex<Vec<String>>,
}

impl Recorded {
    fn cell(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Arc::clone(self.figures.lock().unwrap().entry(name.trim().to_owned()).or_default())
    }

    fn describe(&self, name: &KeyName) {
        self.described.lock().unwrap().push(name.as_str().to_owned());
    }

    fn counter(&self, name: &str) -> u64 {
        let figures = self.figures.lock().unwrap();
        figures.get(name).unwrap_or_else(|| panic!("{name}: {figures:?}")).load(Ordering::Relaxed)
    }

    fn gauge(&self, name: &str) -> f64 {
        f64::from_bits(self.counter(name))
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn a_recorder_gets_what_is_stored_consumed_waiting_and_deleted() {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(2)).unwrap();
    let consumer = store.consumer("billing").subscribe("orders", "*").build().unwrap();
    let producer = store.producer("shop").unwrap();
    for n in 0..10 {
        producer.send(Message::new("orders", n.to_string())).unwrap();
    }
    for _ in 0..4 {
        consumer.recv().unwrap().ack().unwrap();
    }
    store.advance(Duration::from_secs(7)).unwrap();
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, || store.admin().publish_metrics()).unwrap();
    assert_eq!(recorded.counter("pocketmq_messages_stored_total topic=orders"), 10);
    assert_eq!(recorded.counter("pocketmq_messages_consumed_total group=billing topic=orders"), 4);
    assert_eq!(recorded.gauge("pocketmq_messages_held topic=orders"), 10.0);
    assert_eq!(recorded.gauge("pocketmq_lag_messages group=billing"), 6.0);
    assert_eq!(recorded.gauge("pocketmq_lag_age_seconds group=billing"), 7.0);
    assert_eq!(recorded.gauge("pocketmq_health"), 0.0);
    let broker = &store.admin().stats().unwrap().brokers[0];
    let name = format!("pocketmq_bytes_stored_total broker={}", broker.broker);
    assert_eq!(recorded.counter(&name), broker.log_end.get());
    store.admin().skip("billing", "orders").unwrap();
    metrics::with_local_recorder(&recorded, || store.admin().publish_metrics()).unwrap();
    assert_eq!(recorded.gauge("pocketmq_lag_messages group=billing"), 0.0);
    // Every figure is described, and in the documents.
    let described = recorded.described.lock().unwrap().clone();
    let documents = include_str!("../../docs/operations.md");
    for name in recorded.figures.lock().unwrap().keys() {
        let name = name.split(' ').next().unwrap();
        assert!(described.iter().any(|known| known == name), "{name} is not described");
        assert!(documents.contains(&format!("`{name}`")), "{name} is not in docs/operations.md");
    }
}

#[test]
fn groups_that_no_application_can_name_have_figures_too() {
    let recorded = Recorded::default();
    let store = TestStore::new();
    let bank = store.transaction_producer("bank", |_: &MessageView| LocalTransactionState::Unknown).unwrap();
    bank.begin(Message::new("transfers", "pay")).unwrap().commit().unwrap();
    let cache = store.consumer("cache").subscribe("transfers", "*").broadcast("worker-1").build().unwrap();
    assert!(cache.try_recv().unwrap().is_none());
    (0..3).for_each(|_| store.advance(Duration::from_secs(1)).unwrap());
    metrics::with_local_recorder(&recorded, || store.admin().publish_metrics()).unwrap();
    assert_eq!(recorded.gauge("pocketmq_lag_messages group=CID_RMQ_SYS_TRANS").to_bits(), 0);
}
