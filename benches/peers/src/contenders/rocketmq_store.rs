//! rocketmq-store 1.0.0: the store of rocketmq-rust, a port of Apache RocketMQ's.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use cheetah_string::CheetahString;
use dashmap::DashMap;
use rocketmq_model::common::config::TopicConfig;
use rocketmq_model::common::message::message_ext::MessageExt;
use rocketmq_model::common::message::message_ext_broker_inner::MessageExtBrokerInner;
use rocketmq_model::common::message::message_single::Message;
use rocketmq_runtime::{RuntimeConfig, RuntimeOwner};
use rocketmq_store::{
    BrokerReplicationStore as _, BrokerStorePort as _, FlushDiskType, LocalFileMessageStore,
    MessageStoreConfig, PutMessageStatus, StoreRuntimeConfig,
};
use rocketmq_store_local::commit_log::append::micro_batch::MicroBatchPolicy;

use crate::contender::{Can, Contender, Load, Log, Place, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "rocketmq-store 1.0.0",
    open,
    can: Can { relaxed: true, durable: true, batch: false, keys: true, read: false, reopen: false },
    about: "the Rust port of RocketMQ's store; appends go through its commit log; not read here: its pulls are for a broker",
};

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let config = RuntimeConfig {
        worker_threads: 2,
        thread_name: "rocketmq-store".to_owned(),
        ..RuntimeConfig::default()
    };
    let owner = RuntimeOwner::plan(config).map_err(|e| anyhow!("{e:?}"))?.build().context("a runtime")?;
    let flush_disk_type = match place.flush {
        Flush::Async => FlushDiskType::AsyncFlush,
        Flush::Sync => FlushDiskType::SyncFlush,
    };
    let config = MessageStoreConfig {
        store_path_root_dir: place.dir.to_string_lossy().to_string().into(),
        flush_disk_type,
        ha_listen_port: 0,
        timer_wheel_enable: false,
        mapped_file_size_commit_log: 256 << 20,
        ..MessageStoreConfig::default()
    };
    let mut store = LocalFileMessageStore::new(
        Arc::new(config),
        MicroBatchPolicy::disabled(1).context("a policy")?,
        Arc::new(StoreRuntimeConfig::default()),
        Arc::new(DashMap::<CheetahString, Arc<TopicConfig>>::new()),
        None,
        false,
        owner.root_context().component("comparison"),
    )
    .context("a store")?
    .context("a configuration")?;
    store.wire_owned_root_dependencies().context("wire the store")?;
    owner.block_on(async {
        store.init().await.context("initialize")?;
        ensure!(store.load().await, "the store did not load");
        store.start().await.context("start")
    })?;
    Ok(Box::new(Port(Arc::new(Shared { owner, store }))))
}

struct Shared {
    owner: RuntimeOwner,
    store: LocalFileMessageStore,
}

struct Port(Arc<Shared>);

impl Log for Port {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Puts { shared: Arc::clone(&self.0), load: Arc::clone(load) }))
    }
}

struct Puts {
    shared: Arc<Shared>,
    load: Arc<Load>,
}

impl Writer for Puts {
    fn append(&mut self, n: u64) -> Result<()> {
        let mut message = Message::builder()
            .topic(CheetahString::from_static_str("bench"))
            .body(self.load.body.clone())
            .build_unchecked();
        if let Some(key) = self.load.key(n) {
            message.set_keys(CheetahString::from(key));
        }
        let mut inner = MessageExtBrokerInner {
            message_ext_inner: MessageExt { message, ..Default::default() },
            ..Default::default()
        };
        inner.message_ext_inner.set_queue_id((n % 4) as i32);
        let log = self.shared.store.get_commit_log();
        let result = self.shared.owner.block_on(log.put_message(inner));
        let status = result.put_message_status();
        ensure!(status == PutMessageStatus::PutOk, "put returned {status:?}");
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        self.append_many(n, self.load.batch as u64)
    }
}
