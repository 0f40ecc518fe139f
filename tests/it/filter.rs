//! Does an SQL expression choose what it says, for consumers and for who pulls?

use pocketmq::testing::TestStore;
use pocketmq::{Consumer, Error, Filter, Message, PullStatus, Store, TopicConfig};

fn drain(consumer: &Consumer) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(delivery) = consumer.try_recv().unwrap() {
        bodies.push(delivery.body_str().unwrap().into_owned());
        delivery.ack().unwrap();
    }
    bodies
}

fn sql_consumer(store: &Store, group: &str, expression: &str) -> Consumer {
    store.consumer(group).subscribe("orders", Filter::sql(expression).unwrap()).build().unwrap()
}

fn tagged(count: usize) -> TestStore {
    let store = TestStore::new();
    store.create_topic("orders", TopicConfig::queues(4)).unwrap();
    let producer = store.producer("shop").unwrap();
    for _ in 0..count {
        for tag in ["TagA", "TagB", "TagC"] {
            producer.send(Message::new("orders", tag).tag(tag)).unwrap();
        }
    }
    store
}

#[test]
fn t_e8_sql_over_tags_wants_32_of_48_by_consumer_and_by_pull() {
    let store = tagged(16);
    let expression = "(TAGS is not null and TAGS in ('TagA','TagB'))";
    let bodies = drain(&sql_consumer(&store, "billing", expression));
    assert_eq!((bodies.len(), bodies.iter().any(|body| body == "TagC")), (32, false));
    let filter = Filter::sql(expression).unwrap();
    let mut pulled = 0;
    for queue in store.queues("orders").unwrap() {
        let mut at = store.queue_offsets(&queue).unwrap().start;
        loop {
            let result = store.pull(&queue, &filter, at, 32).unwrap();
            pulled += result.messages.len();
            at = result.next_offset;
            if result.status == PullStatus::NoNewMessage {
                break;
            }
        }
        // V10: what is not wanted counts as consumed.
        assert_eq!(store.committed("billing", &queue).unwrap(), Some(at));
    }
    assert_eq!(pulled, 32);
}

#[test]
fn t_e9_true_wants_all_a_price_some_and_an_unknown_property_none() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    for price in ["10", "30"] {
        for _ in 0..10 {
            let message = Message::new("orders", price).property("price", price).property("region", "eu");
            producer.send(message).unwrap();
        }
    }
    assert_eq!(drain(&sql_consumer(&store, "all", "TRUE")).len(), 20);
    assert_eq!(drain(&sql_consumer(&store, "some", "price > 20")), vec!["30"; 10]);
    let between = "price BETWEEN 5 AND 15 AND region IS NOT NULL";
    assert_eq!(drain(&sql_consumer(&store, "between", between)), vec!["10"; 10]);
    assert!(drain(&sql_consumer(&store, "none", "unknown = 'x'")).is_empty());
}

#[test]
fn a20_an_expression_that_is_none_is_refused_before_a_consumer_is_made() {
    let error = Filter::sql("price >").unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "filter", .. }), "{error}");
    assert!(error.to_string().contains("at column 8"), "{error}");
}
