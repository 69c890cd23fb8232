//! The table: a line a round as it happens, a line a fault at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::fault::Fault;
use super::observations::{ObservedCounts, sum, words};
use super::violations::Violations;

/// What one round of faults did.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) faults: Vec<Fault>,
    /// Messages acknowledged in this round.
    pub(super) acknowledged: usize,
    pub(super) findings: Violations,
    pub(super) counts: ObservedCounts,
    /// From the moment when the cause was gone until every conversation was live again; none when that did not come.
    pub(super) healed: Option<Duration>,
    /// Other violations, in words.
    pub(super) failures: Vec<String>,
}

impl Round {
    fn name(&self) -> String {
        self.faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(" + ")
    }

    /// Everything that must not be, in words.
    pub(super) fn verdict(&self) -> Vec<String> {
        let mut wrong = self.failures.clone();
        let Violations { lost, doubled, gaps, wrong: other, undelivered, details } = &self.findings;
        for (count, what) in [(lost, "lost"), (doubled, "doubled"), (gaps, "gaps"), (other, "wrong counts or marks")] {
            if *count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        wrong.extend(details.iter().take(10).cloned());
        wrong.extend(self.counts.hangs.iter().take(5).cloned());
        wrong.extend(self.counts.wrong.iter().take(10).cloned());
        let all = |holds: fn(Fault) -> bool| self.faults.iter().all(|fault| holds(*fault));
        if all(Fault::must_not_affect_senders) && !self.counts.sender_errors.is_empty() {
            wrong.push(format!("senders must not notice: {}", words(&self.counts.sender_errors)));
        }
        if all(Fault::must_not_affect_sockets) && (!self.counts.socket_ends.is_empty() || self.counts.moved > 0) {
            let ends = words(&self.counts.socket_ends);
            wrong.push(format!("sockets must stay open: {} moved, {ends}", self.counts.moved));
        }
        if self.faults == [Fault::ConversationLocked] && self.counts.troubled.len() > 1 {
            let troubled = self.counts.troubled.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            wrong.push(format!("the neighbours of a locked conversation must not notice: {troubled}"));
        }
        let refusals = self.counts.sender_errors.keys().filter(|error| error.starts_with("503")).count();
        if self.faults == [Fault::ApisDeployed] && refusals > 0 {
            wrong.push(format!("a deploy must reject no request: {}", words(&self.counts.sender_errors)));
        }
        if self.faults == [Fault::GatewaysDeployed] {
            let counts = [&self.counts.socket_ends, &self.counts.refused];
            for count in counts.into_iter().filter(|count| !count.is_empty()) {
                wrong.push(format!("a deploy must show no error to sockets: {}", words(count)));
            }
        }
        if !undelivered.is_empty() {
            wrong.push(format!("{} arrived and do not show as delivered", undelivered.len()));
        }
        if self.healed.is_none() {
            wrong.push("did not heal".to_owned());
        }
        wrong
    }
}

/// All rounds.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) rounds: Vec<Round>,
    /// What went wrong beside the rounds.
    pub(super) failures: Vec<String>,
}

const COLUMNS: [&str; 10] =
    ["acknowledged", "lost", "doubled", "gaps", "undelivered", "errors", "hangs", "moved", "resyncs", "healed in"];

impl Report {
    /// Whether nothing went wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.rounds.iter().all(|round| round.verdict().is_empty())
    }

    /// The head of the lines that are printed while it runs.
    pub(super) fn print_head() {
        print!("{:<48}", "fault");
        for column in COLUMNS {
            print!(" {column:>12}");
        }
        println!();
    }

    /// Adds a round and prints its line, and what was wrong.
    pub(super) fn add(&mut self, round: Round) {
        let line = Line::of([&round].into_iter());
        print!("{:<48}", round.name());
        for cell in line.cells() {
            print!(" {cell:>12}");
        }
        println!();
        let ObservedCounts { sender_errors, socket_ends, refused, .. } = &round.counts;
        for (participant, counts) in
            [("senders saw", sender_errors), ("sockets ended", socket_ends), ("sockets were refused", refused)]
        {
            if !counts.is_empty() {
                println!("    {participant}: {}", words(counts));
            }
        }
        for wrong in round.verdict() {
            println!("    WRONG: {wrong}");
        }
        self.rounds.push(round);
    }

    /// A line a fault, as Markdown; rounds of several faults are together in one.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut kinds: BTreeMap<Vec<Fault>, Vec<&Round>> = BTreeMap::new();
        for round in &self.rounds {
            let kind = if round.faults.len() == 1 { round.faults.clone() } else { Vec::new() };
            kinds.entry(kind).or_default().push(round);
        }
        let mut text = format!("| fault | rounds | {} |\n", COLUMNS.join(" | "));
        let _infallible = writeln!(text, "| --- |{}", " ---: |".repeat(COLUMNS.len() + 1));
        // Two at a time come last.
        for (kind, rounds) in
            kinds.iter().filter(|(kind, _)| !kind.is_empty()).chain(kinds.iter().filter(|(kind, _)| kind.is_empty()))
        {
            let name = kind.first().map_or("two at once", |fault| fault.name());
            let cells = Line::of(rounds.iter().copied()).cells().join(" | ");
            let _infallible = writeln!(text, "| {name} | {} | {cells} |", rounds.len());
        }
        let cells = Line::of(self.rounds.iter()).cells().join(" | ");
        let _infallible = writeln!(text, "| **all** | {} | {cells} |", self.rounds.len());
        text
    }

    /// Everything that was wrong, in words.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let of_rounds = self.rounds.iter().flat_map(|round| {
            let name = round.name();
            round.verdict().into_iter().map(move |wrong| format!("{name}: {wrong}"))
        });
        of_rounds.chain(self.failures.iter().cloned()).collect()
    }
}

/// The sum of some rounds.
struct Line {
    counts: [usize; 9],
    healed: Vec<Option<Duration>>,
}

impl Line {
    fn of<'a>(rounds: impl Iterator<Item = &'a Round>) -> Self {
        let mut line = Self { counts: [0; 9], healed: Vec::new() };
        for Round { acknowledged, findings, counts, healed, .. } in rounds {
            let numbers = [
                *acknowledged,
                findings.lost,
                findings.doubled,
                findings.gaps,
                findings.undelivered.len(),
                sum(&counts.sender_errors),
                counts.hangs.len(),
                counts.moved + sum(&counts.socket_ends),
                counts.resyncs,
            ];
            for (total, number) in line.counts.iter_mut().zip(numbers) {
                *total += number;
            }
            line.healed.push(*healed);
        }
        line.healed.sort_by_key(|healed| healed.unwrap_or(Duration::MAX));
        line
    }

    fn cells(&self) -> Vec<String> {
        let seconds = |healed: Option<&Option<Duration>>| match healed.copied().flatten() {
            Some(time) => format!("{:.1} s", time.as_secs_f64()),
            None => "never".to_owned(),
        };
        let healed = match self.healed.len() {
            0 | 1 => seconds(self.healed.first()),
            several => format!("{} (≤ {})", seconds(self.healed.get(several / 2)), seconds(self.healed.last())),
        };
        self.counts.iter().map(ToString::to_string).chain([healed]).collect()
    }
}
