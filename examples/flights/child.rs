//! What does the process do that gets killed, and how does its parent kill it and learn what it had done?

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pocketmq::{Store, TopicConfig};

use crate::Failure;
use crate::check::{Checker, GROUPS, Reader};
use crate::events::{Events, TOPIC};
use crate::traffic::{self, PRODUCERS, QUEUES, SeenBefore};

/// What the child had reported when it died. More may be in the store.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// How many events of its share each producer thread had acknowledged.
    pub(crate) acknowledged: [usize; PRODUCERS],
    pub(crate) seen: SeenBefore,
    /// From the first message to the kill.
    pub(crate) took: Duration,
}

/// Sends and consumes until this process is killed. The producers stop short of the end, so there is always something
/// left for the parent. Returns only if the parent is gone.
pub(crate) fn run(dir: &Path, events: &Events) -> Result<(), Failure> {
    let store = Store::open(dir)?;
    store.create_topic(TOPIC, TopicConfig::queues(QUEUES))?;
    let reader = Reader::new(events);
    let never_all = AtomicBool::new(false);
    let consumers =
        GROUPS.iter().map(|group| Ok((traffic::consumer(&store, *group)?, Checker::new(&reader, *group))));
    let consumers: Vec<_> = consumers.collect::<Result<_, Failure>>()?;
    say("ready")?;
    thread::scope(|scope| {
        for (consumer, mut checker) in consumers {
            let never_all = &never_all;
            scope.spawn(move || {
                stop_on_failure(traffic::consume(&consumer, &mut checker, never_all, say_seen))
            });
        }
        for thread in 0..PRODUCERS {
            let store = &store;
            scope.spawn(move || {
                let share = traffic::share(events, thread);
                let part = share.iter().copied().take(share.len() - share.len() / 4);
                let sent =
                    traffic::send(store, events, part, |count| say(&format!("acked {thread} {count}")));
                stop_on_failure(sent);
            });
        }
        // The parent holds the other end and writes nothing: this ends when the parent does.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(2)
    })
}

/// A worker's failure ends the whole process, so that the parent notices.
fn stop_on_failure(result: Result<(), Failure>) {
    if let Err(failure) = result {
        eprintln!("child: {failure}");
        std::process::exit(1);
    }
}

fn say_seen(checker: &Checker<'_>) -> Result<(), Failure> {
    let mut line = format!("seen {}", checker.group().name);
    for (queue, next) in checker.next() {
        write!(line, " {queue}:{next}")?;
    }
    say(&line)
}

/// Writes one line in one piece: it is in the pipe when this returns, and stays there when the process dies.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// Starts the child, kills it in the middle of its work, and returns what it had reported by then.
pub(crate) fn run_and_kill(
    dir: &Path,
    input: Option<&Path>,
    events: &Events,
    bar: &ProgressBar,
) -> Result<Reported, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--child").arg(dir).args(input).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let reported = listen(&mut child, events.count() / 2, bar);
    // Also where listening failed: no child outlives this call.
    child.kill()?;
    let status = child.wait()?;
    let reported = reported?;
    if status.signal() != Some(9) {
        return Err(format!("the child ended by itself before it could be killed: {status}").into());
    }
    Ok(reported)
}

/// Reads the child's reports, kills it when it has sent `enough`, and reads on to what it said last.
fn listen(child: &mut Child, enough: usize, bar: &ProgressBar) -> Result<Reported, Failure> {
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    let mut reported = Reported::default();
    let mut started = Instant::now();
    let mut killed = false;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if line == "ready" {
            started = Instant::now();
        }
        understand(&line, &mut reported);
        let sent: usize = reported.acknowledged.iter().sum();
        bar.set_position(u64::try_from(sent)?);
        if !killed && sent >= enough {
            reported.took = started.elapsed();
            child.kill()?;
            killed = true;
        }
    }
    Ok(reported)
}

/// Takes note of a line. A line that the kill cut short is no report.
fn understand(line: &str, reported: &mut Reported) {
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("acked"), Some(thread)) => {
            let slot = thread.parse().ok().and_then(|thread: usize| reported.acknowledged.get_mut(thread));
            if let (Some(slot), Some(count)) = (slot, words.next().and_then(|count| count.parse().ok())) {
                *slot = count;
            }
        }
        (Some("seen"), Some(group)) => {
            let queues = words.filter_map(|word| word.split_once(':'));
            for (queue, next) in queues.filter_map(|(queue, next)| queue.parse().ok().zip(next.parse().ok()))
            {
                reported.seen.insert((group.to_owned(), queue), next);
            }
        }
        _ => {}
    }
}
