//! Is every promise kept by every kind of consumer, whoever comes, goes, dies and is slow?

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::event::Mode;
use crate::game::{Game, Move, moves};
use crate::judge;

fn keeps_its_promises(mode: Mode, tag: Option<&'static str>, moves: &[Move]) {
    let history = Game::new(mode, tag).play(moves);
    let violations = judge(&history);
    if !violations.is_empty() {
        history.entries.iter().for_each(|(now, event)| println!("{now} {event:?}"));
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

/// The same few histories each time, for the gate; `POCKETMQ_HISTORIES=1000` searches through others, by hand.
fn histories() -> ProptestConfig {
    let count = std::env::var("POCKETMQ_HISTORIES").ok().and_then(|count| count.parse().ok());
    let rng_seed = if count.is_some() { RngSeed::Random } else { RngSeed::Fixed(4_711) };
    ProptestConfig {
        cases: count.unwrap_or(12),
        rng_seed,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(histories())]

    #[test]
    fn f7_loops_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::Loop, None, &moves);
    }

    #[test]
    fn f7_loops_with_a_filter_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::Loop, Some("even"), &moves);
    }

    #[test]
    fn f7_loops_in_order_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::LoopOrderly, None, &moves);
    }

    #[test]
    fn f7_handlers_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::Push, None, &moves);
    }

    #[test]
    fn f7_handlers_in_order_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::PushOrderly, Some("odd"), &moves);
    }

    #[test]
    fn f7_leases_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::Simple, None, &moves);
    }

    #[test]
    fn f7_leases_in_order_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::SimpleOrderly, None, &moves);
    }

    #[test]
    fn f7_pulls_keep_their_promises(moves in moves()) {
        keeps_its_promises(Mode::Pull, Some("even"), &moves);
    }

    #[test]
    fn f7_broadcasting_keeps_its_promises(moves in moves()) {
        keeps_its_promises(Mode::Broadcast, None, &moves);
    }
}
