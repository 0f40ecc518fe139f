//! What does a producer do about a half message that is not as safe as it has to be?

use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::commitlog::MessageView;
use crate::storage::RealDisk;
use crate::storage::faulty::{FaultyDisk, Operation};
use crate::sync::Mutex;
use crate::txn::LocalTransactionState;

#[test]
fn f132_a_half_message_that_is_not_flushed_in_time_is_rolled_back_and_no_work_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(Arc::new(RealDisk));
    let faults = Arc::clone(disk.faults());
    let builder = Store::builder(dir.path()).flush(FlushPolicy::Sync).free_space_min(0);
    let builder = builder.sync_flush_timeout(Duration::from_millis(1));
    let store = Store::open_with(builder, Arc::new(disk)).unwrap();
    let bank = store.transaction_producer("bank", |_: &MessageView| LocalTransactionState::Unknown).unwrap();
    drop(bank.begin(Message::new("transfers", "warm up")).map(Transaction::rollback));
    // Whoever flushes the log from now on waits until the test lets go.
    let ((entered, has_entered), (let_go, gate)) = (channel(), channel::<()>());
    let gate = Mutex::new(gate);
    faults.meanwhile(move |operation, path| {
        let flushes = operation == Operation::MapSync && path.to_string_lossy().contains("commitlog/");
        if flushes && entered.send(()).is_ok() {
            // The test has ended, or lets everybody go.
            let _ = gate.lock().recv();
        }
    });
    std::thread::scope(|scope| {
        let other = store.producer("other").unwrap();
        scope.spawn(move || other.send(Message::new("other", "x")));
        has_entered.recv().unwrap();
        let error = bank.begin(Message::new("transfers", "x")).unwrap_err();
        assert!(matches!(error, Error::Timeout), "{error}");
        let receipt = bank
            .send_in_transaction(Message::new("transfers", "x"), |_| panic!("no work may be done"))
            .unwrap();
        assert_eq!(receipt.receipt().status(), SendStatus::FlushDiskTimeout);
        assert_eq!(receipt.state(), LocalTransactionState::Rollback);
        assert!(receipt.trouble().is_none());
        drop((let_go, has_entered));
    });
    assert!(store.admin().half_messages(10).unwrap().is_empty());
    store.close().unwrap();
}
