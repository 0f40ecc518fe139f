//! Do a message and the acknowledgement in it stay together, whatever fails and whenever the process or the power ends?

use super::damage::copy_of;
use super::disk::{POLICIES, committed, open_sound, position_key};
use super::sweeps::OPERATIONS;
use super::*;
use crate::error::Result;
use crate::storage::faulty::FaultyDisk;

/// A folder with messages to consume, and a group at their beginning.
fn prepared(flush: FlushPolicy) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let broker = open_sound(dir.path(), flush);
    fill(&broker, 12);
    put(&broker, "out", 0, b"none", "k");
    broker.positions().position(&position_key(), QueueOffset::ZERO).unwrap();
    broker.close().unwrap();
    dir
}

fn put_joined(broker: &Broker, next: u64, waits: bool) -> Result<Stored> {
    let ack = JoinedAck {
        broker: broker.name().clone(),
        key: position_key(),
        position: broker.positions().get(&position_key()).unwrap(),
        next: QueueOffset::new(next),
    };
    let mut properties = Vec::new();
    crate::message::properties::append(
        &mut properties,
        crate::message::properties::name::ACK,
        &ack.property(),
    );
    let body = vec![b'x'; 3_000];
    let message = PutMessage { properties: &properties, ..message(&body) };
    let topic = broker.topic("out").unwrap();
    broker.put_joined(&ack, waits, || broker.put(&topic, 0, &message, WaitForFlush::Later))
}

/// Consumes and produces, with everything that moves positions to disk in between, until something fails.
fn work(broker: &Broker) -> Result<()> {
    for n in 1..=8 {
        put_joined(broker, n, n % 3 != 0)?;
        match n % 4 {
            1 => broker.flush_and_dispatch().map(drop)?,
            3 => broker.flush()?,
            _ => {}
        }
        if n == 6 {
            // One that nobody wants a message for: it waits for those before it.
            let position = broker.positions().get(&position_key()).unwrap();
            broker.commit_position(&position, QueueOffset::new(n))?;
        }
    }
    Ok(())
}

/// Zeroes what of the log was not flushed, as a power loss does that keeps everything else.
fn lose_power(dir: &Path, flushed: u64) {
    for entry in std::fs::read_dir(dir.join("commitlog")).unwrap() {
        let path = entry.unwrap().path();
        let start: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let from = usize::try_from(flushed.saturating_sub(start)).unwrap().min(bytes.len());
        bytes[from..].fill(0);
        std::fs::write(&path, bytes).unwrap();
    }
}

/// Tells how many messages there are, if the group has acknowledged as many.
fn judge(dir: &Path, flush: FlushPolicy, what: &str) -> u64 {
    let mut count = 0;
    // The second opening finds what the first one has made of it.
    for _ in 0..2 {
        let broker = open_sound(dir, flush);
        count = bodies(&broker, "out", 0).len() as u64 - 1;
        assert_eq!(committed(&broker), count, "{what}: {}", broker.recovery());
        broker.kill();
    }
    count
}

#[test]
fn d10_a_message_and_its_acknowledgement_stay_together_whatever_fails() {
    for flush in POLICIES {
        let dir = prepared(flush);
        for operation in OPERATIONS {
            for earlier in 0.. {
                let copy = copy_of(dir.path());
                let disk = FaultyDisk::new(Arc::new(RealDisk));
                let faults = Arc::clone(disk.faults());
                let options = BrokerOptions { disk: Arc::new(disk), ..options(copy.path(), config(flush)) };
                let broker = Broker::open(options).unwrap();
                let before = faults.count(operation);
                faults.fail_after(operation, earlier);
                let worked = work(&broker);
                let flushed = broker.log.flushed().get();
                let asked = faults.count(operation) - before;
                let what = format!("{flush:?} {operation:?} {earlier} {worked:?}");
                let lost = copy_of(copy.path());
                lose_power(lost.path(), flushed);
                broker.kill();
                let kept = judge(copy.path(), flush, &what);
                let after_power = judge(lost.path(), flush, &what);
                assert!(after_power <= kept, "{what}");
                assert!(worked.is_err() || kept == 8, "{what}: {kept}");
                if asked <= earlier {
                    assert!(worked.is_ok(), "{what}");
                    break;
                }
            }
        }
    }
}

#[test]
fn t_g10_a_position_that_was_moved_stays_where_it_is_whatever_the_log_acknowledges() {
    for flush in POLICIES {
        let dir = prepared(flush);
        let broker = open_sound(dir.path(), flush);
        for n in 1..=5 {
            put_joined(&broker, n, true).unwrap();
        }
        let held = broker.positions().get(&position_key()).unwrap();
        broker.reset_position(&position_key(), QueueOffset::new(2)).unwrap();
        assert!(!held.is_current());
        broker.kill();
        drop(broker);
        let broker = open_sound(dir.path(), flush);
        assert_eq!(committed(&broker), 2);
        put_joined(&broker, 3, false).unwrap();
        broker.kill();
        drop(broker);
        assert_eq!(committed(&open_sound(dir.path(), flush)), 3);
    }
}

#[test]
fn d10_the_cell_of_a_position_that_moves_on_before_each_flush_ends_follows_a_step_behind() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path());
    let positions = broker.positions();
    let position = positions.position(&position_key(), QueueOffset::ZERO).unwrap();
    let cell = || Positions::peek(&RealDisk, &dir.path().join("pocketmq")).unwrap().entries[0].1.get();
    positions.commit_behind(&position, QueueOffset::new(1), 100);
    assert_eq!((positions.settle(50), cell()), (Some(0), 0));
    positions.commit_behind(&position, QueueOffset::new(2), 200);
    assert_eq!((positions.settle(150), cell()), (Some(100), 1));
    positions.commit_behind(&position, QueueOffset::new(3), 300);
    assert_eq!((positions.settle(250), cell()), (Some(200), 2));
    assert_eq!((positions.settle(300), cell()), (None, 3));
    assert!(!positions.any_waits());
}
