//! Does every broker of a store have the same topics, and does everybody learn of a change at once?

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::broker::BrokerOptions;
use crate::clock::ManualClock;
use crate::config::{AutoCreate, Background, FileSizes, Permission, StoreConfig, TopicConfig};
use crate::storage::RealDisk;
use crate::sync::Parker;

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

fn config(auto_create: AutoCreate) -> Arc<StoreConfig> {
    let sizes =
        FileSizes { commit_log: 65_536, consume_queue_units: 100, index_slots: 16, index_entries: 64 };
    let background = Background::Manual;
    Arc::new(StoreConfig {
        auto_create,
        sizes,
        background,
        free_space_min: Some(0),
        ..StoreConfig::default()
    })
}

fn cluster(dir: &Path, names: &[&str], auto_create: AutoCreate) -> Arc<Cluster> {
    let config = config(auto_create);
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_700_000_000_000));
    let brokers = (0..).zip(names).map(|(shard, name)| {
        let options = BrokerOptions {
            dir: dir.join(name),
            log_dir: None,
            name: BrokerName::new(name).unwrap(),
            shard,
            conf: None,
            config: Arc::clone(&config),
            disk: Arc::new(RealDisk),
            clock: Arc::clone(&clock),
            progress: None,
        };
        Broker::open(options).unwrap()
    });
    Cluster::new(brokers.collect(), config, clock, &mut Vec::new()).unwrap()
}

fn shown(queues: &[RouteQueue]) -> Vec<String> {
    queues.iter().map(|entry| entry.queue().to_string()).collect()
}

#[test]
fn t_l1_a_topic_is_made_on_all_brokers_and_its_queues_are_sorted_by_broker_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["b", "a", "c"], AutoCreate::Off);
    cluster.create_topic(&name("orders"), TopicConfig::queues(2)).unwrap();
    let route = cluster.route("orders").unwrap();
    let all = ["orders@a:0", "orders@a:1", "orders@b:0", "orders@b:1", "orders@c:0", "orders@c:1"];
    assert_eq!(shown(&route.write), all);
    assert_eq!(shown(&route.read), all);
    assert!(Arc::ptr_eq(&route, &cluster.route("orders").unwrap()));
    // A topic that one broker lacks: the others have it still, and making it again gives it to that one.
    cluster.brokers()[0].delete_topic(&name("orders")).unwrap();
    cluster.changed(&name("orders"));
    assert_eq!(shown(&cluster.route("orders").unwrap().write), all[2..]);
    cluster.create_topic(&name("orders"), TopicConfig::queues(2)).unwrap();
    assert_eq!(shown(&cluster.route("orders").unwrap().write), all);
}

#[test]
fn f41_a_topic_made_by_sending_is_made_on_all_brokers_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a", "b"], AutoCreate::Queues(3));
    assert_eq!(cluster.route_or_create("orders").unwrap().write.len(), 6);
    assert_eq!(cluster.topic_names(), [name("orders")]);
    for topic in ["%RETRY%billing", "%DLQ%billing"] {
        assert!(matches!(cluster.route_or_create(topic), Err(Error::TopicNotFound(_))), "{topic}");
    }
}

#[test]
fn f39_a_topic_is_not_made_by_sending_where_the_store_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a"], AutoCreate::Off);
    let error = cluster.route_or_create("orders").unwrap_err();
    assert!(matches!(error, Error::TopicNotFound(_)), "{error}");
    assert!(cluster.topic_names().is_empty());
    let error = cluster.route_or_create("or/ders").unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { field: "topic", .. }), "{error}");
}

#[test]
fn f42_readers_and_writers_see_their_own_number_of_queues_and_permission() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a"], AutoCreate::Off);
    let orders = name("orders");
    let config = TopicConfig { read_queues: 4, ..TopicConfig::queues(2) };
    cluster.create_topic(&orders, config).unwrap();
    let route = cluster.route("orders").unwrap();
    assert_eq!((route.write.len(), route.read.len()), (2, 4));
    let beyond = MessageQueue::new(orders.clone(), BrokerName::new("a").unwrap(), 2);
    assert!(route.write_queue(&beyond).is_err() && route.read_queue(&beyond).is_ok());
    let version = cluster.version();
    let read_only = TopicConfig { permission: Permission::READ_ONLY, ..config };
    cluster.update_topic(&orders, read_only).unwrap();
    assert!(cluster.version() > version);
    let route = cluster.route("orders").unwrap();
    assert!(matches!(route.check_sendable(), Err(Error::PermissionDenied { denied: "written", .. })));
    let write_only = TopicConfig { permission: Permission::WRITE_ONLY, ..config };
    cluster.update_topic(&orders, write_only).unwrap();
    let error = cluster.route("orders").unwrap().read_queue(&beyond).unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { denied: "read", .. }), "{error}");
}

#[test]
fn a_topic_that_exists_otherwise_is_not_overwritten_by_making_it() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a"], AutoCreate::Off);
    let orders = name("orders");
    cluster.create_topic(&orders, TopicConfig::queues(2)).unwrap();
    cluster.create_topic(&orders, TopicConfig::queues(2)).unwrap();
    let error = cluster.create_topic(&orders, TopicConfig::queues(3)).unwrap_err();
    assert!(error.to_string().contains("update_topic"), "{error}");
    assert_eq!(cluster.route("orders").unwrap().write.len(), 2);
    let missing = cluster.update_topic(&name("other"), TopicConfig::queues(3)).unwrap_err();
    assert!(matches!(missing, Error::TopicNotFound(_)), "{missing}");
}

#[test]
fn a_topic_of_rocketmqs_own_can_be_neither_made_nor_changed_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a"], AutoCreate::Queues(4));
    for topic in ["TBW102", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "rmq_sys_x"] {
        let (topic, config) = (name(topic), TopicConfig::queues(1));
        for refused in [
            cluster.create_topic(&topic, config),
            cluster.update_topic(&topic, config),
            cluster.delete_topic(&topic),
        ] {
            assert!(matches!(refused, Err(Error::InvalidArgument { field: "topic", .. })), "{topic}");
        }
    }
    for topic in ["%RETRY%g", "%DLQ%g"] {
        assert!(cluster.create_topic(&name(topic), TopicConfig::queues(1)).is_err(), "{topic}");
    }
    for count in [0, 65_536] {
        assert!(cluster.create_topic(&name("orders"), TopicConfig::queues(count)).is_err(), "{count}");
    }
}

#[test]
fn f45_who_waits_for_a_topic_is_woken_when_it_is_made_and_by_every_broker() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a", "b"], AutoCreate::Off);
    let orders = name("orders");
    let bed = Arc::new(Parker::default());
    cluster.arrivals(&orders).register(&bed);
    let woken = || bed.park_until(crate::sync::deadline_in(std::time::Duration::ZERO));
    assert!(!woken());
    cluster.create_topic(&orders, TopicConfig::queues(1)).unwrap();
    assert!(woken());
    for broker in cluster.brokers() {
        broker.topic("orders").unwrap().notify();
        assert!(woken());
    }
    cluster.delete_topic(&orders).unwrap();
    assert!(woken() && cluster.route("orders").is_none());
    cluster.create_topic(&orders, TopicConfig::queues(1)).unwrap();
    assert!(woken());
    cluster.brokers()[1].topic("orders").unwrap().notify();
    assert!(woken());
    cluster.close().unwrap();
    assert!(woken());
}

#[test]
fn members_of_a_group_share_one_thing_for_as_long_as_one_of_them_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a"], AutoCreate::Off);
    let (groups, group) = (cluster.groups(), GroupName::new("billing").unwrap());
    let meet = |circle: &Circle, made: u32| groups.meet(&group, circle, || made);
    let broadcasting = |name: &str| Circle::Broadcasting(name.into());
    let first = meet(&Circle::Clustering, 1).unwrap();
    assert!(Arc::ptr_eq(&first, &meet(&Circle::Clustering, 2).unwrap()));
    let error = meet(&broadcasting("a"), 3).unwrap_err();
    assert!(error.to_string().contains("has clustering members"), "{error}");
    drop(first);
    let (one, other) = (meet(&broadcasting("a"), 4).unwrap(), meet(&broadcasting("b"), 5).unwrap());
    assert_eq!((*one, *other), (4, 5));
    let error = meet(&Circle::Clustering, 6).unwrap_err();
    assert!(error.to_string().contains("has broadcasting members"), "{error}");
    let _producers: Vec<_> = (0..3).map(|_| cluster.seat_producer(&group).unwrap()).collect();
}

#[test]
fn the_round_over_the_queues_visits_each_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), &["a", "b"], AutoCreate::Queues(4));
    let route = cluster.route_or_create("orders").unwrap();
    let turns: Vec<_> = (0..16).map(|_| route.next_turn()).collect();
    let first = turns[0];
    assert_eq!(turns, (0..16).map(|n| (first + n) % 8).collect::<Vec<_>>());
}
