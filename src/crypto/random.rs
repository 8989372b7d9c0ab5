//! Random bytes and random texts, from the operating system through aws-lc.

use crate::model::{Alphabet, SecretBytes};

use super::CryptoError;

const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const ASCII: &[u8] =
    b"!#$%&()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~";

/// Fills `out` with random bytes.
///
/// # Errors
/// [`CryptoError::Random`].
pub fn fill(out: &mut [u8]) -> Result<(), CryptoError> {
    aws_lc_rs::rand::fill(out).map_err(|_| CryptoError::Random)
}

/// `N` random bytes.
///
/// # Errors
/// [`CryptoError::Random`].
pub fn bytes<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// A random text of `length` characters, each drawn with the same probability from the alphabet.
///
/// # Errors
/// [`CryptoError::Random`].
pub fn generate_text(alphabet: Alphabet, length: u16) -> Result<SecretBytes, CryptoError> {
    let characters = characters(alphabet);
    let wanted = usize::from(length);
    let mut text = zeroize::Zeroizing::new(Vec::with_capacity(wanted));
    let mut pool = zeroize::Zeroizing::new([0_u8; 128]);
    while text.len() < wanted {
        fill(pool.as_mut_slice())?;
        let missing = wanted - text.len();
        text.extend(
            pool.iter()
                .filter_map(|byte| pick(characters, *byte))
                .take(missing),
        );
    }
    Ok(SecretBytes::new(std::mem::take(&mut *text)))
}

const fn characters(alphabet: Alphabet) -> &'static [u8] {
    match alphabet {
        Alphabet::Alphanumeric => ALPHANUMERIC,
        Alphabet::Hex => HEX,
        Alphabet::Ascii => ASCII,
    }
}

/// The character for a random byte; none for the bytes at the top which would make some characters likelier than others.
fn pick(characters: &[u8], byte: u8) -> Option<u8> {
    let (byte, count) = (usize::from(byte), characters.len());
    let fair = 256 - 256 % count;
    if byte < fair {
        characters.get(byte % count).copied()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_text_has_the_length_and_the_alphabet_asked_for() {
        for (alphabet, count) in [
            (Alphabet::Alphanumeric, 62),
            (Alphabet::Hex, 16),
            (Alphabet::Ascii, 90),
        ] {
            assert_eq!(characters(alphabet).len(), count);
            for length in [0, 1, 16, 127, 128, 129, 1024, u16::MAX] {
                let text = generate_text(alphabet, length).unwrap();
                assert_eq!(text.len(), usize::from(length));
                assert!(text.expose().iter().all(|c| characters(alphabet).contains(c)));
            }
        }
    }

    #[test]
    fn the_ascii_alphabet_is_printable_without_space_quotes_backslash_and_backtick() {
        let expected: Vec<u8> = (0x21..=0x7e).filter(|c| !b"\"'\\`".contains(c)).collect();
        assert_eq!(ASCII, expected);
    }

    #[test]
    fn every_character_is_equally_likely() {
        for characters in [ALPHANUMERIC, HEX, ASCII] {
            let mut counts = std::collections::BTreeMap::new();
            for byte in 0..=u8::MAX {
                if let Some(character) = pick(characters, byte) {
                    *counts.entry(character).or_insert(0) += 1;
                }
            }
            assert_eq!(counts.len(), characters.len());
            assert!(counts.values().all(|count| *count == 256 / characters.len()));
        }
    }

    #[test]
    fn two_texts_and_two_draws_differ() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        let texts = (
            generate_text(Alphabet::Hex, 32).unwrap(),
            generate_text(Alphabet::Hex, 32).unwrap(),
        );
        assert_ne!(texts.0.expose(), texts.1.expose());
    }
}
