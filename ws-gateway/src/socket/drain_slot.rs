//! When a socket is closed during a drain: the closes spread over `DRAIN_SECONDS`.

/// The nth value of van der Corput's sequence in 0..1. Any run of consecutive values is spread evenly, so that the
/// open sockets close evenly over the drain window.
pub(crate) fn drain_slot(n: u64) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "the lowest bits make no difference to a delay")]
    let drain_slot = (n.reverse_bits() >> 40) as f32 / (1_u64 << 24) as f32;
    drain_slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drain_slots_fill_window_evenly() {
        assert_eq!([0, 1, 2, 3].map(drain_slot), [0.0, 0.5, 0.25, 0.75]);
        for first in [0, 1000, 123_456] {
            let mut tenths = [0; 10];
            for n in first..first + 1000 {
                tenths[(drain_slot(n) * 10.0) as usize] += 1;
            }
            assert!(tenths.iter().all(|count| (95..=105).contains(count)), "{tenths:?}");
        }
    }
}
