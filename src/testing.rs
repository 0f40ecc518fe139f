//! How is an application tested without waiting, and a store without threads?
//!
//! A [`TestStore`] lies in a temporary folder, runs on a clock that is moved by hand, and starts no thread: every call
//! does the work itself that it would wait for. Killing it leaves what SIGKILL would leave.

use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::clock::{Clock, ManualClock};
use crate::config::Background;
use crate::error::{Error, Result};
use crate::store::{Store, StoreBuilder};

/// The time of day at which a test begins: 14 November 2023, in milliseconds since 1970.
const START_MILLIS: i64 = 1_700_000_000_000;

type Settings = Arc<dyn Fn(StoreBuilder) -> StoreBuilder + Send + Sync>;

/// A store for tests: a temporary folder, a clock that stands still, no threads.
///
/// It reads like the [`Store`] that it holds. The folder goes when the last `TestStore` on it goes.
///
/// ```
/// # fn main() -> pocketmq::Result<()> {
/// use pocketmq::Message;
/// use pocketmq::testing::TestStore;
///
/// let store = TestStore::new();
/// store.producer("shop")?.send(Message::new("orders", "hello"))?;
/// let store = store.kill_process()?;
/// let consumer = store.consumer("billing").subscribe("orders", "*").build()?;
/// assert_eq!(consumer.recv()?.body_str()?, "hello");
/// # Ok(())
/// # }
/// ```
pub struct TestStore {
    store: Store,
    clock: Arc<ManualClock>,
    dir: Arc<TempDir>,
    settings: Settings,
}

impl Default for TestStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TestStore {
    /// Opens an empty store with default settings.
    ///
    /// # Panics
    ///
    /// If there is no temporary folder or no space in it.
    #[must_use]
    pub fn new() -> Self {
        Self::builder(|builder| builder)
    }

    /// Opens an empty store with these settings. Clock and background are the test's own, whatever they say.
    ///
    /// # Panics
    ///
    /// If the settings are wrong, or there is no temporary folder or no space in it.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test has nobody to return this error to")]
    pub fn builder(settings: impl Fn(StoreBuilder) -> StoreBuilder + Send + Sync + 'static) -> Self {
        let dir = Arc::new(TempDir::new().expect("a temporary folder"));
        let clock = Arc::new(ManualClock::new(START_MILLIS));
        Self::open(dir, clock, Arc::new(settings)).expect("a store in a temporary folder")
    }

    fn open(dir: Arc<TempDir>, clock: Arc<ManualClock>, settings: Settings) -> Result<Self> {
        let builder = settings(Store::builder(dir.path().join("store")));
        let hands: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let store = builder.clock(hands).background(Background::Manual).open()?;
        Ok(Self { store, clock, dir, settings })
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the clock.
    #[must_use]
    pub const fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// Returns the folder of the store.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    /// Moves the clock, and does what becomes due: as many steps as it takes.
    ///
    /// # Errors
    ///
    /// What that work fails with.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.clock.advance(by);
        self.store.step()?;
        while self.store.is_behind() {
            self.store.step()?;
        }
        Ok(())
    }

    /// Stops as SIGKILL does, with nothing flushed or written down, and opens the folder again.
    ///
    /// # Errors
    ///
    /// What the opening fails with.
    pub fn kill_process(self) -> Result<Self> {
        self.store.kill();
        Self::open(self.dir, self.clock, self.settings)
    }

    /// Closes the store cleanly and opens the folder again.
    ///
    /// # Errors
    ///
    /// What closing or opening fails with.
    pub fn reopen(self) -> Result<Self> {
        self.store.close()?;
        Self::open(self.dir, self.clock, self.settings)
    }

    /// Closes the store cleanly and opens the folder again with other settings.
    ///
    /// # Errors
    ///
    /// What closing or opening fails with.
    pub fn reopen_with(
        self,
        settings: impl Fn(StoreBuilder) -> StoreBuilder + Send + Sync + 'static,
    ) -> Result<Self> {
        self.store.close()?;
        Self::open(self.dir, self.clock, Arc::new(settings))
    }

    /// Stops as SIGKILL does and hands out the folder, for a test that changes files in it before it opens them.
    #[must_use]
    pub fn kill_into_folder(self) -> TestFolder {
        self.store.kill();
        TestFolder { dir: self.dir, clock: self.clock, settings: self.settings }
    }
}

/// The folder of a test store that is not open.
pub struct TestFolder {
    dir: Arc<TempDir>,
    clock: Arc<ManualClock>,
    settings: Settings,
}

impl TestFolder {
    /// Returns the folder of the store.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    /// Opens it again.
    ///
    /// # Errors
    ///
    /// What the opening fails with.
    pub fn open(self) -> Result<TestStore, Error> {
        TestStore::open(self.dir, self.clock, self.settings)
    }
}

impl fmt::Debug for TestFolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestFolder").field("path", &Path::new(&self.path())).finish_non_exhaustive()
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestStore").field("path", &self.path()).finish_non_exhaustive()
    }
}
