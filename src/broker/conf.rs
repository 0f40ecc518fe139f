//! What must a RocketMQ broker be told that takes this folder over? `broker.conf` says it, in RocketMQ's own words.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::storage::Disk;
use crate::types::BrokerName;

/// The file's name, in the broker's folder.
pub(crate) const FILE: &str = "broker.conf";
/// The longest file that is read, in bytes.
const LEN_MAX: u64 = 1 << 20;
/// The first port that RocketMQ's brokers listen on.
const PORT: u16 = 10_911;

/// The settings in a `broker.conf` that shape the files, and every other line as it stood.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokerConf {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Line {
    Setting(String, String),
    Other(String),
}

impl BrokerConf {
    /// Reads a file; one that is absent is empty.
    pub(crate) fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>> {
        let Some(bytes) = disk.read(path, LEN_MAX)? else { return Ok(None) };
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::corrupt(path, 0, format!("is not UTF-8: {}", error.utf8_error())))?;
        Ok(Some(Self::parse(&text)))
    }

    /// Takes a text of `name=value` lines, `#` before a comment.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| match line.split_once('=') {
            Some((name, value)) if !line.trim_start().starts_with(['#', '!']) => {
                Line::Setting(name.trim().to_owned(), value.trim().to_owned())
            }
            _ => Line::Other(line.to_owned()),
        });
        Self { lines: lines.collect() }
    }

    /// Returns a setting.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.lines.iter().rev().find_map(|line| match line {
            Line::Setting(key, value) if key == name && !value.is_empty() => Some(value.as_str()),
            _ => None,
        })
    }

    /// Returns a setting that is a number; one that is none is an error naming it.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<u64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.replace('_', "").parse();
        number.map(Some).map_err(|_| Error::config(name, format!("{text:?} in {FILE} is not a number")))
    }

    /// Changes or adds a setting.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        for line in &mut self.lines {
            if let Line::Setting(key, old) = line
                && key == name
            {
                *old = value;
                return;
            }
        }
        self.lines.push(Line::Setting(name.to_owned(), value));
    }

    /// Removes a setting.
    pub(crate) fn remove(&mut self, name: &str) {
        self.lines.retain(|line| !matches!(line, Line::Setting(key, _) if key == name));
    }

    /// Adds a comment line.
    pub(crate) fn comment(&mut self, text: &str) {
        self.lines.push(Line::Other(format!("# {text}")));
    }

    /// Returns the broker's name.
    pub(crate) fn broker_name(&self) -> Result<Option<BrokerName>> {
        self.get("brokerName").map(BrokerName::new).transpose().map_err(Error::from)
    }

    /// Returns the address that goes into records as the store host.
    pub(crate) fn host(&self) -> Result<Option<SocketAddr>> {
        let port = match self.number("listenPort")? {
            Some(port) => u16::try_from(port)
                .map_err(|_| Error::config("listenPort", format!("{port} in {FILE} is not a port")))?,
            None if self.get("brokerIP1").is_none() => return Ok(None),
            None => PORT,
        };
        let ip = self.get("brokerIP1").unwrap_or("127.0.0.1");
        let ip: IpAddr =
            ip.parse().map_err(|_| Error::config("brokerIP1", format!("{ip:?} is not an address")))?;
        Ok(Some(SocketAddr::new(ip, port)))
    }

    /// Returns the folder of the commit log, if it lies elsewhere.
    pub(crate) fn commit_log_dir(&self) -> Option<PathBuf> {
        self.get("storePathCommitLog").map(PathBuf::from)
    }

    /// Names the feature that these settings turn on and that we cannot carry.
    pub(crate) fn unsupported(&self) -> Option<String> {
        let on = |name| self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if self.get("storePathCommitLog").is_some_and(|path| path.contains(',')) {
            return Some("several commit-log paths (storePathCommitLog with more than one folder)".into());
        }
        if let Some(kind) = self.get("storeType").filter(|kind| !kind.eq_ignore_ascii_case("default")) {
            return Some(format!("storeType={kind} (RocksDB)"));
        }
        let switch =
            ["enableDLegerCommitLog", "enableControllerMode", "duplicationEnable", "indexRocksDBEnable"];
        switch.into_iter().find(|name| on(name)).map(|name| format!("{name}=true"))
    }
}

impl std::fmt::Display for BrokerConf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.iter().try_for_each(|line| match line {
            Line::Setting(name, value) => writeln!(formatter, "{name}={value}"),
            Line::Other(text) => writeln!(formatter, "{text}"),
        })
    }
}

/// Returns the store host of the shard number `shard` of a new store.
pub(crate) fn default_host(shard: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT.saturating_add(shard.saturating_mul(10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_changed_and_written_back_with_everything_else_as_it_was() {
        let mut conf = BrokerConf::parse("# mine\nbrokerName = broker-x\nfoo=bar=baz\n\nlistenPort=10921\n");
        assert_eq!(conf.get("brokerName"), Some("broker-x"));
        assert_eq!(conf.get("foo"), Some("bar=baz"));
        assert_eq!(conf.host().unwrap(), Some("127.0.0.1:10921".parse().unwrap()));
        conf.set("listenPort", 10_931);
        conf.set("maxIndexNum", 7);
        assert_eq!(
            conf.to_string(),
            "# mine\nbrokerName=broker-x\nfoo=bar=baz\n\nlistenPort=10931\nmaxIndexNum=7\n"
        );
    }

    #[test]
    fn b13_a_feature_that_cannot_be_carried_is_named() {
        for (text, named) in [
            ("storeType=defaultRocksDB", "RocksDB"),
            ("enableDLegerCommitLog=true", "enableDLegerCommitLog"),
            ("storePathCommitLog=/a,/b", "several commit-log paths"),
        ] {
            let feature = BrokerConf::parse(text).unsupported().unwrap();
            assert!(feature.contains(named), "{feature}");
        }
        assert_eq!(BrokerConf::parse("storeType=default\nenableDLegerCommitLog=false").unsupported(), None);
    }

    #[test]
    fn the_store_hosts_of_new_shards_differ() {
        assert_eq!(default_host(0).to_string(), "127.0.0.1:10911");
        assert_eq!(default_host(3).to_string(), "127.0.0.1:10941");
    }
}
