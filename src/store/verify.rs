//! Is everything in a folder what it should be?

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::{StoreBuilder, folders};
use crate::broker::{Broker, RecoveryProgress, VerifiedBroker};
use crate::error::Result;
use crate::storage::{Disk, PrivateDisk};

/// What the verification of a folder found: [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The brokers in the folder.
    pub brokers: Vec<VerifiedBroker>,
}

impl VerifyReport {
    /// Tells whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.brokers.iter().all(VerifiedBroker::is_sound)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, broker) in self.brokers.iter().enumerate() {
            let between = if place > 0 { "\n" } else { "" };
            write!(formatter, "{between}{broker}")?;
        }
        Ok(())
    }
}

/// Reads everything in the folder of a store, or of a RocketMQ broker, and says what is not as it should be: every record
/// with its checksums, every message in its queue, its keys in the index, and positions. Reads only, and takes no lock: nothing is
/// changed, whatever is found. Blocks for as long as that takes; `progress` is told how far it has come in the log of each
/// broker, every 64 MiB.
///
/// Nobody should have the store open: what is written meanwhile may look wrong. Verify a
/// [snapshot](crate::Store::snapshot) instead.
///
/// ```
/// use pocketmq::{Message, Store};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// store.producer("shop")?.send(Message::new("orders", "hello"))?;
/// store.close()?;
/// let report = pocketmq::verify(dir.path(), |_| ())?;
/// assert!(report.is_sound(), "{report}");
/// assert_eq!(report.brokers[0].records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// `InvalidConfig` where the folder holds no store; `Unsupported` for a feature of RocketMQ's that cannot be carried;
/// `Corrupt` where a file is so wrong that nothing can be said of the rest; `ConfigMismatch`; `Io`.
pub fn verify(
    dir: impl AsRef<Path>,
    progress: impl Fn(&RecoveryProgress) + Send + Sync + 'static,
) -> Result<VerifyReport> {
    let builder = StoreBuilder::new(dir.as_ref().to_path_buf()).on_recovery_progress(progress);
    let disk: Arc<dyn Disk> = Arc::new(PrivateDisk::new());
    let all = folders::find(&builder, &disk)?;
    let mut brokers = all.iter().map(Broker::verify).collect::<Result<Vec<_>>>()?;
    brokers.sort_by(|one, other| one.broker.cmp(&other.broker));
    Ok(VerifyReport { brokers })
}
