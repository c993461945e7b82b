//! Padding, so that a value's stored size tells little: ISO/IEC 7816-4 (`80`, then zeros) to 16, 32, 64, 128
//! or 256 bytes, above that to a Padmé length (Nikitin et al., "Reducing Metadata Leakage from Encrypted
//! Files and Communication with PURBs", section 4), which costs at most 12 %.

const MARKER: u8 = 0x80;
const SMALL_BUCKETS_BYTES: [usize; 5] = [16, 32, 64, 128, 256];

/// The bytes that a value of `value_bytes` takes once padded; `None` if that does not fit the machine.
pub fn padded_length(value_bytes: usize) -> Option<usize> {
    let marked = value_bytes.checked_add(1)?;
    if let Some(bucket) = SMALL_BUCKETS_BYTES.into_iter().find(|bucket| marked <= *bucket) {
        return Some(bucket);
    }
    // Padmé: of a length with exponent E, only the ⌊log2 E⌋ + 1 bits after the first may be set.
    let exponent = marked.ilog2();
    let zero_bits = exponent - (exponent.ilog2() + 1);
    marked.checked_next_multiple_of(1_usize.checked_shl(zero_bits)?)
}

/// Appends `value`, the marker and zeros to `buffer`. It never grows if it has room for [`padded_length`]
/// more bytes, and so leaves no copy of the value behind.
pub(super) fn pad_into(buffer: &mut Vec<u8>, value: &[u8], padded_bytes: usize) {
    let start = buffer.len();
    buffer.extend_from_slice(value);
    buffer.push(MARKER);
    buffer.resize(start.saturating_add(padded_bytes), 0);
}

/// Pads the value that `buffer` holds, under the same condition.
pub(super) fn pad_in_place(buffer: &mut Vec<u8>, padded_bytes: usize) {
    buffer.push(MARKER);
    buffer.resize(padded_bytes, 0);
}

/// The length of the value within `padded`, or `None` if padding would never have made this: no marker, or
/// more or fewer zeros than the value's length asks for.
///
/// Looks at every byte without branching on any, so that its time tells `padded.len()` and nothing else. (The
/// padding is authenticated before; this is a second line.)
pub(super) fn unpadded_length(padded: &[u8]) -> Option<usize> {
    let mut last_index = 0_usize;
    let mut last_byte = 0_u8;
    for (index, &byte) in padded.iter().enumerate() {
        let keep_byte = u8::from(byte != 0).wrapping_neg();
        let keep_index = usize::from(byte != 0).wrapping_neg();
        last_byte = (last_byte & !keep_byte) | (byte & keep_byte);
        last_index = (last_index & !keep_index) | (index & keep_index);
    }
    // From here on a branch tells only that the padding is unsound, which the caller reports anyway.
    let canonical = padded_length(last_index) == Some(padded.len());
    (canonical && last_byte == MARKER).then_some(last_index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pad(value: &[u8]) -> Vec<u8> {
        let padded_bytes = padded_length(value.len()).unwrap();
        let mut buffer = Vec::with_capacity(padded_bytes);
        pad_into(&mut buffer, value, padded_bytes);
        assert_eq!(buffer.len(), padded_bytes);
        assert_eq!(buffer.capacity(), padded_bytes, "the buffer grew and left a copy of the value");
        buffer
    }

    #[test]
    fn lengths_at_the_edges() {
        let expected = [
            (0, 16),
            (15, 16),
            (16, 32),
            (31, 32),
            (32, 64),
            (63, 64),
            (64, 128),
            (127, 128),
            (128, 256),
            (255, 256),
            (256, 272),
            (271, 272),
            (272, 288),
            (1000, 1024),
            (1023, 1024),
            (1024, 1088),
            (65_535, 65_536),
            (65_536, 67_584),
        ];
        for (value_bytes, padded_bytes) in expected {
            assert_eq!(padded_length(value_bytes), Some(padded_bytes), "{value_bytes}");
        }
        assert_eq!(padded_length(usize::MAX), None);
        assert_eq!(padded_length(usize::MAX - 1), None);
    }

    #[test]
    fn a_padded_length_is_a_fixed_point_and_never_shrinks() {
        let mut before = 0;
        for value_bytes in 0..70_000 {
            let padded_bytes = padded_length(value_bytes).unwrap();
            assert!(padded_bytes > value_bytes && padded_bytes >= before);
            assert_eq!(padded_length(padded_bytes - 1), Some(padded_bytes));
            if value_bytes >= 256 {
                assert!((padded_bytes - value_bytes - 1) * 100 <= value_bytes * 12, "{value_bytes}");
            }
            before = padded_bytes;
        }
    }

    #[test]
    fn refuses_what_padding_never_makes() {
        assert_eq!(unpadded_length(&[]), None);
        assert_eq!(unpadded_length(&[0; 16]), None, "no marker");
        assert_eq!(unpadded_length(&[MARKER]), None, "not a bucket");
        let mut other_marker = pad(b"abc");
        other_marker[3] = 0x81;
        assert_eq!(unpadded_length(&other_marker), None);
        // A value of 3 bytes belongs into 16, one of 255 into 256: larger buckets are refused.
        for (value_bytes, wrong) in [(3, 32), (3, 64), (16, 64), (255, 272), (256, 288), (256, 512)] {
            let mut padded = vec![b'x'; value_bytes];
            padded.push(MARKER);
            padded.resize(wrong, 0);
            assert_eq!(unpadded_length(&padded), None, "{value_bytes} in {wrong}");
        }
    }

    /// Bytes among which zeros and markers are common.
    fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0), Just(MARKER), any::<u8>()], 0..most)
    }

    proptest! {
        #[test]
        fn unpadding_undoes_padding(value in bytes(1200)) {
            prop_assert_eq!(unpadded_length(&pad(&value)), Some(value.len()));
        }

        #[test]
        fn one_more_or_one_less_zero_is_refused(value in bytes(1200)) {
            let mut padded = pad(&value);
            padded.push(0);
            prop_assert_eq!(unpadded_length(&padded), None);
            padded.truncate(padded.len() - 2);
            prop_assert_ne!(unpadded_length(&padded), Some(value.len()));
        }

        #[test]
        fn never_panics(padded in bytes(300)) {
            if let Some(value_bytes) = unpadded_length(&padded) {
                prop_assert_eq!(pad(&padded[..value_bytes]), padded);
            }
        }
    }
}
