//! What does the person who started it get to see: a bar while it works, one line of numbers at the end.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Failure;
use crate::child::Reported;
use crate::lookup::Lookups;
use crate::resume::{Audit, Resumed};

/// Makes the bar. It is drawn on standard error, and only on a terminal.
pub(crate) fn bar(events: usize) -> Result<ProgressBar, Failure> {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} events  {msg}")?;
    Ok(ProgressBar::new(u64::try_from(events)?).with_style(style))
}

/// Everything that was counted and measured.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) events: usize,
    pub(crate) recovery: Duration,
    pub(crate) reported: Reported,
    pub(crate) resumed: Resumed,
    pub(crate) audit: Audit,
    pub(crate) lookups: Lookups,
}

impl Summary {
    fn lost(&self) -> usize {
        self.resumed.lost_by_the_kill + self.resumed.missing + self.audit.missing + self.lookups.missing
    }

    fn out_of_order(&self) -> usize {
        self.resumed.out_of_order + self.audit.tally.out_of_order
    }

    /// Tells whether nothing was lost and nothing out of order.
    pub(crate) fn is_good(&self) -> bool {
        self.lost() == 0 && self.out_of_order() == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, recovery, reported, resumed, audit, lookups } = self;
        let acknowledged: usize = reported.acknowledged.iter().sum();
        let sent = acknowledged + (events - resumed.found);
        let [joined, left, hung] = resumed.crew.counts();
        write!(
            formatter,
            "events={events} consumed={} lost={} out_of_order={} redelivered={} resent={} at_kill={} \
             members_joined={joined} members_left={left} members_hung={hung} \
             sent_per_s={} consumed_per_s={} lookups_per_s={} recovery_ms={} recovered_per_s={}",
            resumed.consumed,
            self.lost(),
            self.out_of_order(),
            resumed.redelivered,
            resumed.resent.max(audit.tally.resent),
            resumed.found,
            per_second(sent, reported.took + resumed.sending),
            per_second(audit.tally.consumed, audit.took),
            per_second(lookups.count, lookups.took),
            recovery.as_millis(),
            per_second(resumed.found, *recovery),
        )
    }
}

fn per_second(count: usize, took: Duration) -> u128 {
    let count = u128::try_from(count).unwrap_or(u128::MAX);
    count.saturating_mul(1_000_000) / took.as_micros().max(1)
}
