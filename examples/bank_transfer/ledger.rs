//! What does a bank keep? A file with one line for each booking, and what follows from it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Accounts of a bank.
pub(crate) const ACCOUNTS: u64 = 10;

/// One booking: which transfer, which account, how much comes in; what goes out is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Booking {
    /// The account.
    pub(crate) account: u64,
    /// What comes in.
    pub(crate) amount: i64,
}

/// A bank: its bookings by the key of the transfer, which is booked once however often it is told.
pub(crate) struct Bank {
    state: Mutex<State>,
    first: i64,
}

struct State {
    file: File,
    bookings: BTreeMap<String, Booking>,
    balances: BTreeMap<u64, i64>,
}

impl Bank {
    /// Reads a bank's file. Each account begins with `first`. A line that a crash cut off was never booked.
    ///
    /// # Errors
    ///
    /// What the file fails with.
    pub(crate) fn open(path: &Path, first: i64) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(u64::try_from(whole)?)?;
        let balances = (0..ACCOUNTS).map(|account| (account, first)).collect();
        let mut state = State { file, bookings: BTreeMap::new(), balances };
        for line in text.get(..whole).unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let (key, account, amount) = (words.next(), words.next(), words.next());
            let booking = Booking {
                account: account.ok_or("no account")?.parse()?,
                amount: amount.ok_or("no amount")?.parse()?,
            };
            state.note(key.ok_or("no key")?, booking);
        }
        Ok(Self { state: Mutex::new(state), first })
    }

    /// Books, unless the transfer is booked already or the account would go below nothing. `false`: it is not booked.
    ///
    /// # Errors
    ///
    /// What the file fails with.
    pub(crate) fn book(&self, key: &str, booking: Booking) -> Result<bool, Box<dyn Error>> {
        let mut state = self.state.lock().map_err(|_| "a booking has failed")?;
        if state.bookings.contains_key(key) {
            return Ok(true);
        }
        let balance = state.balances.get(&booking.account).copied().ok_or("no such account")?;
        if balance + booking.amount < 0 {
            return Ok(false);
        }
        // One write: it is in the file whole, or cut off and then not booked.
        let line = format!("{key} {} {}\n", booking.account, booking.amount);
        state.file.write_all(line.as_bytes())?;
        state.note(key, booking);
        Ok(true)
    }

    /// Tells whether a transfer is booked.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.state.lock().is_ok_and(|state| state.bookings.contains_key(key))
    }

    /// Returns the keys of all transfers that are booked.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state.lock().map(|state| state.bookings.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns what is in all accounts.
    pub(crate) fn sum(&self) -> i64 {
        self.state.lock().map_or(0, |state| state.balances.values().sum())
    }

    /// Returns what was in all accounts at first.
    pub(crate) fn first_sum(&self) -> i64 {
        (0..ACCOUNTS).map(|_| self.first).sum()
    }
}

impl State {
    fn note(&mut self, key: &str, booking: Booking) {
        self.bookings.insert(key.to_owned(), booking);
        *self.balances.entry(booking.account).or_default() += booking.amount;
    }
}

/// Where the two banks and their queue lie.
pub(crate) struct Place {
    /// The folder.
    pub(crate) dir: PathBuf,
}

impl Place {
    /// The file of the bank from which money goes.
    pub(crate) fn sender(&self) -> PathBuf {
        self.dir.join("sender.txt")
    }

    /// The file of the bank to which it goes.
    pub(crate) fn receiver(&self) -> PathBuf {
        self.dir.join("receiver.txt")
    }

    /// The store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }
}
