//! Lower-case hex, as digests, MACs and ids are written.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes two digits for each byte; `out` is twice as long as `bytes`.
pub fn write(bytes: &[u8], out: &mut [u8]) {
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ];
    }
}

pub fn text(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len() * 2];
    write(bytes, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_becomes_two_digits() {
        assert_eq!(text(&[0x00, 0x1f, 0xa0, 0xff]), "001fa0ff");
        assert_eq!(text(&[]), "");
    }
}
