//! How is order kept where it matters? Three orders, five steps each, two consumers: the article's example.
//!
//! The steps of one order go to one queue, because they have one order key. Each queue has one owner, which handles one
//! message at a time; a step that fails holds its queue, and nothing of that order overtakes it.
//!
//! `cargo run --example push_orderly`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pocketmq::{ConsumeOrderlyStatus, Message, MessageView, Store, TopicConfig};

const ORDERS: [&str; 3] = ["order-1", "order-2", "order-3"];
const STEPS: [&str; 5] = ["created", "paid", "packed", "shipped", "received"];

/// The steps of each order, as they were handled, and how often a step was tried in vain.
#[derive(Default)]
struct Diary {
    steps: BTreeMap<String, Vec<String>>,
    failures: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    store.create_topic("orders", TopicConfig::queues(3))?;

    println!("1. Two consumers of the group `warehouse`, in order.");
    let diary: Arc<Mutex<Diary>> = Arc::default();
    let start = |name: &'static str| {
        let diary = Arc::clone(&diary);
        let builder = store.consumer("warehouse").subscribe("orders", "*").orderly().instance(name);
        builder.suspend_time(Duration::from_millis(50)).listen(2, move |message| step(name, message, &diary))
    };
    let (first, second) = (start("carla")?, start("dirk")?);

    println!("2. The steps of three orders, one step of each in turn.");
    let producer = store.producer("shop")?;
    for step in STEPS {
        for order in ORDERS {
            producer.send(Message::new("orders", step).key(order).order_key(order))?;
        }
    }

    while diary.lock().map_or(0, |diary| diary.steps.values().map(Vec::len).sum()) < 15 {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    first.shutdown(Duration::from_secs(10))?;
    second.shutdown(Duration::from_secs(10))?;

    println!("3. Each order went its way in order, also the one whose payment failed at first.");
    let diary = diary.lock().map_err(|_| "a handler panicked")?;
    for order in ORDERS {
        let steps = diary.steps.get(order).ok_or("an order is missing")?;
        println!("   {order}: {}", steps.join(", "));
        assert_eq!(*steps, STEPS);
    }
    assert_eq!(diary.failures, 2);
    Ok(store.close()?)
}

/// Does one step of an order. The payment of the second one fails twice.
fn step(
    name: &str,
    message: &MessageView,
    diary: &Mutex<Diary>,
) -> Result<ConsumeOrderlyStatus, pocketmq::Error> {
    let (order, step) =
        (message.order_key().unwrap_or_default().to_owned(), message.body_str()?.into_owned());
    let Ok(mut diary) = diary.lock() else { return Ok(ConsumeOrderlyStatus::SuspendCurrentQueueAMoment) };
    if (order.as_str(), step.as_str()) == ("order-2", "paid") && diary.failures < 2 {
        diary.failures += 1;
        println!("   {name}: {order} is not paid yet, its queue rests");
        return Ok(ConsumeOrderlyStatus::SuspendCurrentQueueAMoment);
    }
    println!("   {name}: {order} {step} (queue {}, place {})", message.queue_id(), message.queue_offset());
    diary.steps.entry(order).or_default().push(step);
    Ok(ConsumeOrderlyStatus::Success)
}
