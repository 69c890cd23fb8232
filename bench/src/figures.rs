//! Figures: percentiles of durations, and the median of a few rounds with its spread.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Durations between a microsecond and a minute, to three digits.
#[derive(Debug)]
pub(crate) struct Durations(Option<Histogram<u64>>);

impl Durations {
    pub(crate) fn new() -> Self {
        // These bounds are good; if they were not, nothing would be counted and all tables be empty.
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).ok())
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// In milliseconds.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(f64::NAN, |histogram| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
    }
}

/// One figure, measured in several rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The latest.
    pub(crate) fn last(&self) -> Option<f64> {
        self.0.last().copied()
    }

    /// The figures of each round, beside those of another series.
    pub(crate) fn pairs(&self, other: &Self) -> impl Iterator<Item = (f64, f64)> {
        self.0.iter().copied().zip(other.0.iter().copied())
    }

    /// The middle one; of an even number, the mean of the middle two. `None` when there is none.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            even if even % 2 == 0 => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
            _ => Some(sorted[middle]),
        }
    }

    /// The median, and the spread behind it when there are several: `131 k (118 k–140 k)`.
    pub(crate) fn show(&self, write: impl Fn(f64) -> String) -> String {
        let Some(median) = self.median() else { return "–".to_owned() };
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self.0.len() {
            1 => write(median),
            _ => format!("{} ({}–{})", write(median), write(least), write(most)),
        }
    }
}

/// Three digits, thousands as `k`, millions as `M`.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if !v.is_finite() => "–".to_owned(),
        v if v >= 999_500.0 => format!("{} M", digits(v / 1e6)),
        v if v >= 9_995.0 => format!("{} k", digits(v / 1e3)),
        v if v >= 999.5 => format!("{v:.0}"),
        v => digits(v),
    }
}

fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_has_spread() {
        let samples = Samples(vec![3.0, 1.0, 2.0]);
        assert_eq!(samples.show(short), "2.00 (1.00–3.00)");
        assert_eq!(Samples(vec![1.0, 2.0]).median(), Some(1.5));
        assert_eq!(Samples::default().show(short), "–");
    }

    #[test]
    fn large_figures_are_abbreviated() {
        let rendered: Vec<_> = [0.654, 12.34, 131.2, 5_432.0, 131_234.0, 1_912_345.0].map(short).into();
        assert_eq!(rendered, ["0.65", "12.3", "131", "5432", "131 k", "1.91 M"]);
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut durations = Durations::new();
        (1..=100).for_each(|ms| durations.record(Duration::from_millis(ms)));
        assert!((durations.millis(0.5) - 50.0).abs() < 0.1 && (durations.millis(0.99) - 99.0).abs() < 0.1);
    }
}
