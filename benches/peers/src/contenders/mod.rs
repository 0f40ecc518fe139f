//! Who takes part? One file for each, behind [`Log`](crate::contender::Log).

mod commitlog;
mod fjall;
mod khata;
mod logdb;
mod okaywal;
pub mod ours;
mod persistent_queue;
mod raft_engine;
mod redb;
mod rocketmq_store;
mod sqlite;
mod walrus;
mod yaque;

use crate::contender::Contender;

pub fn all() -> Vec<Contender> {
    vec![
        ours::LIKE_FOR_LIKE,
        ours::WITH_DEFAULTS,
        khata::CONTENDER,
        commitlog::CONTENDER,
        yaque::CONTENDER,
        raft_engine::CONTENDER,
        logdb::CONTENDER,
        fjall::CONTENDER,
        redb::CONTENDER,
        sqlite::CONTENDER,
        okaywal::CONTENDER,
        walrus::CONTENDER,
        persistent_queue::CONTENDER,
        rocketmq_store::CONTENDER,
    ]
}
