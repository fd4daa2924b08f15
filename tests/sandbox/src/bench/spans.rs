//! Spans of time: which of them waited for which, and how long any of them lasted.

use std::time::{Duration, Instant};

/// From when to when.
pub(crate) type Span = (Instant, Instant);

/// Sorts what overlaps into waves. There are as many of them as the longest chain has links in
/// which each one begins only after the one before has ended: so many round trips are serial.
pub(crate) fn waves<T>(mut items: Vec<(Span, T)>) -> Vec<Vec<T>> {
    items.sort_by_key(|(span, _)| *span);
    let mut waves: Vec<Vec<T>> = Vec::new();
    let mut first_end: Option<Instant> = None;
    for ((start, end), item) in items {
        match (waves.last_mut(), first_end) {
            (Some(wave), Some(first)) if start < first => {
                wave.push(item);
                first_end = Some(first.min(end));
            }
            _ => {
                waves.push(vec![item]);
                first_end = Some(end);
            }
        }
    }
    waves
}

/// How long at least one of the spans lasted.
pub(crate) fn covered(mut spans: Vec<Span>) -> Duration {
    spans.sort_unstable();
    let mut sum = Duration::ZERO;
    let mut covered_until = None;
    for (start, end) in spans {
        let start = covered_until.map_or(start, |until| start.max(until));
        sum += end.saturating_duration_since(start);
        covered_until = Some(covered_until.map_or(end, |until| end.max(until)));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans in milliseconds from one moment on.
    fn spans(times: &[(u64, u64)]) -> Vec<Span> {
        let zero = Instant::now();
        let at = |time: u64| zero + Duration::from_millis(time);
        times
            .iter()
            .map(|(start, end)| (at(*start), at(*end)))
            .collect()
    }

    fn waves_of(times: &[(u64, u64)]) -> Vec<Vec<usize>> {
        waves(spans(times).into_iter().zip(0..).collect())
    }

    #[test]
    fn what_overlaps_is_one_wave() {
        assert!(waves_of(&[]).is_empty());
        assert_eq!(
            waves_of(&[(0, 100), (5, 105), (99, 120)]),
            [vec![0, 1, 2]],
            "side by side"
        );
        assert_eq!(
            waves_of(&[(300, 400), (0, 100), (100, 200), (210, 290)]),
            [[1], [2], [3], [0]],
            "one after the other, whatever their order"
        );
    }

    #[test]
    fn a_chain_beside_one_slow_call_counts_in_full() {
        // The second and the third are serial, though both overlap with the first.
        assert_eq!(
            waves_of(&[(0, 500), (10, 100), (110, 200)]),
            [vec![0, 1], vec![2]]
        );
        // A wave ends with the first of its answers: what starts then may have waited for it.
        assert_eq!(
            waves_of(&[(0, 100), (10, 40), (50, 90), (95, 120)]),
            [vec![0, 1], vec![2], vec![3]]
        );
    }

    #[test]
    fn time_is_counted_once() {
        let covered = |times| covered(spans(times)).as_millis();
        assert_eq!(covered(&[]), 0);
        assert_eq!(covered(&[(10, 20), (30, 35)]), 15);
        assert_eq!(covered(&[(0, 10), (5, 20), (6, 8), (20, 25)]), 25);
        assert_eq!(covered(&[(100, 200), (0, 150), (120, 130)]), 200);
    }
}
