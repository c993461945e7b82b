//! Growing a buffer without leaving what it held behind.

use zeroize::{Zeroize, Zeroizing};

/// Appends `bytes` to `out`. When the capacity does not do, the contents move to a larger allocation and the old one
/// is wiped first: `Vec` itself would free it as it is.
pub fn append_wiping(out: &mut Vec<u8>, bytes: &[u8]) {
    let needed = out.len().saturating_add(bytes.len());
    if needed > out.capacity() {
        let mut larger = Vec::with_capacity(needed.max(out.capacity().saturating_mul(2)));
        larger.extend_from_slice(out);
        out.zeroize();
        *out = larger;
    }
    out.extend_from_slice(bytes);
}

pub(super) fn append_char(out: &mut Vec<u8>, character: char) {
    let mut utf8 = Zeroizing::new([0_u8; 4]);
    append_wiping(out, character.encode_utf8(utf8.as_mut()).as_bytes());
}

/// An empty buffer that is wiped on drop.
pub(super) fn buffer(capacity: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(capacity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_the_contents() {
        let mut out = Vec::with_capacity(2);
        for _ in 0..100 {
            append_wiping(&mut out, "aé".as_bytes());
            append_char(&mut out, '€');
        }
        assert_eq!(String::from_utf8(out).unwrap(), "aé€".repeat(100));
    }
}
