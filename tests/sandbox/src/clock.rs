//! The real clock and real randomness: the fakes live in the same time as the program they serve.

use jiff::Timestamp;

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "the fakes are a world of their own, with the real time"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, as EC2 and GitHub print it: `2026-01-02T03:04:05.000Z`.
pub(crate) fn millis(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// As `2026-01-02T03:04:05Z`.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `digits` random hexadecimal digits.
pub(crate) fn random_hex(digits: usize) -> String {
    let mut text: String = random_bytes(digits.div_ceil(2))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    text.truncate(digits);
    text
}

/// `length` random characters of `alphabet`.
pub(crate) fn random_of(alphabet: &[u8], length: usize) -> String {
    random_bytes(length)
        .iter()
        .map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()]))
        .collect()
}

/// Capital letters and digits, as access key ids have them.
pub(crate) const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters and digits.
pub(crate) const ALPHANUMERIC: &[u8] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `length` random bytes.
pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    if getrandom::fill(&mut bytes).is_err() {
        // No source of randomness at all; uniqueness is all that the fakes need.
        let seed = now().as_nanosecond().to_le_bytes();
        for (byte, seed) in bytes.iter_mut().zip(seed.iter().cycle()) {
            *byte = *seed;
        }
    }
    bytes
}

/// A random UUID.
pub(crate) fn uuid() -> String {
    let digits = random_hex(30);
    let (a, b, c, d, e) = (
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[15..18],
        &digits[18..],
    );
    format!("{a}-{b}-4{c}-a{d}-{e}")
}
