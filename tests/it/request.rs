//! Does a request get its reply, or a typed error in time?

use std::time::Duration;

use pocketmq::testing::TestStore;
use pocketmq::{
    Error, Filter, FlushPolicy, HandlerResult, Message, MessageView, Outcome, OwnedMessage, PushConsumer,
    Store, TopicConfig,
};

const SECONDS: Duration = Duration::from_secs(20);

/// Answers every request with its own body, and something more.
fn answering(store: &Store) -> PushConsumer {
    let replier = store.producer("answers").unwrap();
    let group = store.consumer("answers").subscribe("asked", "*");
    let answer = move |request: &MessageView| -> HandlerResult {
        let body = format!("{} to you too", request.body_str()?);
        replier.send(request.reply(body)?.tag("answer").property("n", "v"))?;
        Ok(())
    };
    group.listen(2, answer).unwrap()
}

fn ask(store: &Store, body: &str) -> Result<OwnedMessage, Error> {
    store.producer("shop").unwrap().request(Message::new("asked", body.to_owned()).key("k"), SECONDS)
}

#[test]
fn t_a32_e8_a_request_gets_its_reply_and_both_have_rocketmqs_properties() {
    for flush in [FlushPolicy::Async, FlushPolicy::Sync] {
        let store = TestStore::builder(move |builder| builder.flush(flush));
        store.create_topic("asked", TopicConfig::queues(1)).unwrap();
        let worker = answering(&store);
        let reply = ask(&store, "hello").unwrap();
        assert_eq!(reply.body_str().unwrap(), "hello to you too");
        assert_eq!(
            (reply.topic(), reply.tag(), reply.property("n")),
            ("DefaultCluster_REPLY_TOPIC", "answer", Some("v"))
        );
        let queue = store.queues("asked").unwrap().remove(0);
        let request =
            store.pull(&queue, &Filter::all(), pocketmq::QueueOffset::ZERO, 1).unwrap().messages.remove(0);
        for name in ["CORRELATION_ID", "REPLY_TO_CLIENT", "TTL"] {
            assert_eq!(request.property(name), reply.property(name), "{name}");
        }
        assert_eq!(
            (request.property("TTL"), request.property("REPLY_TO_CLIENT")),
            (Some("20000"), Some("shop"))
        );
        assert_eq!((request.property("MSG_TYPE"), reply.property("MSG_TYPE")), (None, Some("reply")));
        // A second one is another one.
        assert_ne!(
            ask(&store, "again").unwrap().property("CORRELATION_ID"),
            reply.property("CORRELATION_ID")
        );
        drop(worker);
    }
}

#[test]
fn t_a32_e8_a_request_that_nobody_answers_ends_in_time_and_is_stored() {
    let store = TestStore::new();
    let error = ask(&store, "anybody?").unwrap_err();
    assert!(matches!(error, Error::RequestTimeout(_)), "{error}");
    assert_eq!(error.outcome(), Outcome::MayExist);
    let consumer = store.consumer("late").subscribe("asked", "*").build().unwrap();
    let request = consumer.recv().unwrap();
    let id = request.property("CORRELATION_ID").unwrap().to_owned();
    assert!(error.to_string().contains(&id), "{error}");
    // A late reply is stored like any message, and reaches nobody.
    let receipt = store.producer("late").unwrap().send(request.reply("too late").unwrap()).unwrap();
    assert!(store.message(receipt.message_id()).unwrap().is_some());
    request.ack().unwrap();
    assert!(matches!(ask(&store, "again"), Err(Error::RequestTimeout(_))));
}

#[test]
fn e8_with_threads_many_ask_at_once_and_each_gets_its_own_answer_and_a_close_wakes_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let worker = answering(&store);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for m in 0..20 {
                    let body = format!("{n} {m}");
                    let reply = ask(store, &body).unwrap();
                    assert_eq!(reply.body_str().unwrap(), format!("{body} to you too"));
                }
            });
        }
    });
    let error = store.producer("x").unwrap().request(Message::new("nobody", "?"), Duration::from_millis(1));
    assert!(matches!(error, Err(Error::RequestTimeout(_))), "{error:?}");
    worker.shutdown(SECONDS).unwrap();
    std::thread::scope(|scope| {
        let asking = store.clone();
        let asked = scope.spawn(move || {
            let producer = asking.producer("shop").unwrap();
            producer.request(Message::new("nobody", "?"), Duration::from_secs(600))
        });
        // Closed once the request is there.
        let consumer = store.consumer("sees").subscribe("nobody", "*").build().unwrap();
        while consumer.recv().unwrap().property("TTL") != Some("600000") {}
        store.close().unwrap();
        assert!(matches!(asked.join().unwrap(), Err(Error::Closed)));
    });
}

#[test]
fn e8_what_is_no_request_has_no_reply_and_a_wrong_one_is_refused() {
    let store = TestStore::new();
    let producer = store.producer("shop").unwrap();
    producer.send(Message::new("asked", "no question")).unwrap();
    let consumer = store.consumer("answers").subscribe("asked", "*").build().unwrap();
    let message = consumer.recv().unwrap();
    assert!(matches!(message.reply("x"), Err(Error::InvalidArgument { field: "request", .. })));
    message.ack().unwrap();
    let delayed = Message::new("asked", "x").delay(SECONDS);
    assert!(matches!(producer.request(delayed, SECONDS), Err(Error::InvalidArgument { field: "delay", .. })));
    let none = producer.request(Message::new("asked", "x"), Duration::ZERO);
    assert!(matches!(none, Err(Error::InvalidArgument { field: "timeout", .. })));
    let forged = Message::new("asked", "x").property("CORRELATION_ID", "1");
    assert!(matches!(producer.send(forged), Err(Error::InvalidArgument { .. })));
    let error = producer.request(Message::new("asked", ""), SECONDS).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "body", .. }), "{error}");
    assert!(consumer.try_recv().unwrap().is_none());
    // Replies need no topic made by hand, also where sending makes none.
    let strict = TestStore::builder(|builder| builder.auto_create_topics(pocketmq::AutoCreate::Off));
    strict.create_topic("asked", TopicConfig::queues(1)).unwrap();
    let worker = answering(&strict);
    assert!(ask(&strict, "hello").is_ok());
    drop(worker);
    strict.store().close().unwrap();
    assert!(strict.producer("x").is_err());
}
