//! SQLite through rusqlite 0.39: a table of messages, in WAL mode.

use std::sync::{Arc, Mutex};

use anyhow::{Result, anyhow};
use rusqlite::{Connection, params};

use crate::contender::{Can, Contender, Load, Log, Place, Tally, Writer};
use crate::job::Flush;

pub const CONTENDER: Contender = Contender {
    name: "rusqlite 0.39",
    open,
    can: Can { relaxed: true, durable: true, batch: true, keys: true, read: true, reopen: true },
    about: "WAL mode, synchronous OFF or FULL, one connection behind a mutex, a transaction for each append",
};

const INSERT: &str = "INSERT INTO messages (key, body) VALUES (?1, ?2)";

fn open(place: &Place) -> Result<Box<dyn Log>> {
    let connection = Connection::open(place.dir.join("queue.sqlite"))?;
    let synchronous = if place.flush == Flush::Sync { "FULL" } else { "OFF" };
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY, key TEXT, body BLOB NOT NULL);
         CREATE INDEX IF NOT EXISTS keys ON messages (key) WHERE key IS NOT NULL;"
    ))?;
    Ok(Box::new(Sqlite { connection: Arc::new(Mutex::new(connection)) }))
}

struct Sqlite {
    connection: Arc<Mutex<Connection>>,
}

impl Log for Sqlite {
    fn writer(&self, load: &Arc<Load>) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Inserts { connection: Arc::clone(&self.connection), load: Arc::clone(load) }))
    }

    fn read_all(&self, read: &mut Tally) -> Result<()> {
        let connection = self.connection.lock().map_err(|_| anyhow!("a writer panicked"))?;
        let mut select = connection.prepare("SELECT body FROM messages ORDER BY number")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            read.body(row.get_ref(0)?.as_blob()?);
        }
        Ok(())
    }
}

struct Inserts {
    connection: Arc<Mutex<Connection>>,
    load: Arc<Load>,
}

impl Writer for Inserts {
    fn append(&mut self, n: u64) -> Result<()> {
        let connection = self.connection.lock().map_err(|_| anyhow!("a writer panicked"))?;
        connection.prepare_cached(INSERT)?.execute(params![self.load.key(n), self.load.body])?;
        Ok(())
    }

    fn append_batch(&mut self, n: u64) -> Result<()> {
        let mut connection = self.connection.lock().map_err(|_| anyhow!("a writer panicked"))?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for n in n..n + self.load.batch as u64 {
                insert.execute(params![self.load.key(n), self.load.body])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
