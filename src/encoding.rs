//! Text in payloads, by the encodings that Node's `Buffer` knows.
//!
//! A payload is bytes. Where both sides agree that it is text, [`Encoding::encode`] makes the payload of a text and
//! [`Encoding::decode`] the text of a payload; what cannot be is an error that names the place, never a replacement character.
//!
//! ```
//! # use gearwheel::{Job, encoding::Encoding};
//! let utf16: Encoding = "utf16le".parse()?;
//! let job = Job::new("greet", utf16.encode("hé")?);
//! assert_eq!(job.payload()[..], [b'h', 0, 0xe9, 0]);
//! assert_eq!(utf16.decode(job.payload())?, "hé");
//! # Ok::<(), gearwheel::encoding::EncodingError>(())
//! ```

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD, DecodeError, HEXLOWER, HEXLOWER_PERMISSIVE};

/// How bytes and text stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// `utf8`, `utf-8`
    Utf8,
    /// `ascii`: seven bits a character.
    Ascii,
    /// `latin1`, `binary`: a byte a character, U+0000 to U+00FF.
    Latin1,
    /// `utf16le`, `utf-16le`, `ucs2`, `ucs-2`: two bytes a code unit, low byte first.
    Utf16Le,
    /// `base64`: the text is base64 of the bytes, with padding.
    Base64,
    /// `base64url`: with the letters for URLs, without padding.
    Base64Url,
    /// `hex`: the text is two lower-case digits a byte; upper-case ones are read, too.
    Hex,
}

/// Bytes or text that an [`Encoding`] cannot stand for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// Not a name that Node's `Buffer` knows.
    #[error("{name:?} is no encoding: expected utf8, ascii, latin1, binary, utf16le, ucs2, base64, base64url or hex")]
    UnknownName {
        /// The name.
        name: Box<str>,
    },
    /// A text that has no bytes in this encoding.
    #[error("byte {position} of the text cannot be {encoding}")]
    BadText {
        /// The encoding.
        encoding: Encoding,
        /// Where in the text, counted in bytes from 0.
        position: usize,
    },
    /// Bytes that are no text in this encoding.
    #[error("byte {position} of the payload is no {encoding}")]
    BadBytes {
        /// The encoding.
        encoding: Encoding,
        /// Where in the payload, counted from 0.
        position: usize,
    },
}

impl Encoding {
    /// The bytes that `text` stands for, like Node's `Buffer.from(text, encoding)`, but strict.
    ///
    /// # Errors
    /// [`EncodingError::BadText`] with the place of the first character that cannot be.
    pub fn encode(self, text: &str) -> Result<Bytes, EncodingError> {
        let bad = |position| EncodingError::BadText { encoding: self, position };
        let narrow = |most: char| {
            let byte =
                move |(position, c): (usize, char)| u8::try_from(c).ok().filter(|_| c <= most).ok_or(bad(position));
            text.char_indices().map(byte).collect::<Result<Vec<_>, _>>()
        };
        let decoded = |result: Result<Vec<u8>, DecodeError>| result.map_err(|error| bad(error.position));
        match self {
            Self::Utf8 => Ok(text.as_bytes().to_vec()),
            Self::Ascii => narrow('\u{7f}'),
            Self::Latin1 => narrow('\u{ff}'),
            Self::Utf16Le => Ok(text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            Self::Base64 => decoded(BASE64.decode(text.as_bytes())),
            Self::Base64Url => decoded(BASE64URL_NOPAD.decode(text.as_bytes())),
            Self::Hex => decoded(HEXLOWER_PERMISSIVE.decode(text.as_bytes())),
        }
        .map(Bytes::from)
    }

    /// The text that stands for `bytes`, like Node's `buffer.toString(encoding)`, but strict.
    ///
    /// # Errors
    /// [`EncodingError::BadBytes`] with the place of the first byte that cannot be.
    pub fn decode(self, bytes: &[u8]) -> Result<String, EncodingError> {
        let bad = |position| EncodingError::BadBytes { encoding: self, position };
        match self {
            Self::Utf8 => core::str::from_utf8(bytes).map(String::from).map_err(|error| bad(error.valid_up_to())),
            Self::Ascii => match bytes.iter().position(|byte| !byte.is_ascii()) {
                Some(position) => Err(bad(position)),
                None => Ok(bytes.iter().map(|&byte| char::from(byte)).collect()),
            },
            Self::Latin1 => Ok(bytes.iter().map(|&byte| char::from(byte)).collect()),
            Self::Utf16Le => {
                let (units, odd) = bytes.as_chunks();
                if !odd.is_empty() {
                    return Err(bad(bytes.len() - 1));
                }
                let mut position = 0;
                let characters =
                    char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))).map(|character| {
                        let character = character.map_err(|_| bad(position))?;
                        position += 2 * character.len_utf16();
                        Ok(character)
                    });
                characters.collect()
            }
            Self::Base64 => Ok(BASE64.encode(bytes)),
            Self::Base64Url => Ok(BASE64URL_NOPAD.encode(bytes)),
            Self::Hex => Ok(HEXLOWER.encode(bytes)),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "utf8",
            Self::Ascii => "ascii",
            Self::Latin1 => "latin1",
            Self::Utf16Le => "utf16le",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
            Self::Hex => "hex",
        })
    }
}

impl FromStr for Encoding {
    type Err = EncodingError;

    /// By any of the names that Node's `Buffer` takes, in any case.
    fn from_str(name: &str) -> Result<Self, EncodingError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "utf8" | "utf-8" => Self::Utf8,
            "ascii" => Self::Ascii,
            "latin1" | "binary" => Self::Latin1,
            "utf16le" | "utf-16le" | "ucs2" | "ucs-2" => Self::Utf16Le,
            "base64" => Self::Base64,
            "base64url" => Self::Base64Url,
            "hex" => Self::Hex,
            _ => return Err(EncodingError::UnknownName { name: name.into() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Encoding::{Ascii, Base64, Base64Url, Hex, Latin1, Utf8, Utf16Le};
    use alloc::string::ToString;

    #[test]
    fn texts_and_bytes_are_nodes() {
        for (encoding, text, bytes) in [
            (Utf8, "hé€", &b"h\xc3\xa9\xe2\x82\xac"[..]),
            (Ascii, "plain", b"plain"),
            (Latin1, "h\u{e9}\u{ff}", b"h\xe9\xff"),
            (Utf16Le, "h\u{1f600}", b"h\0\x3d\xd8\x00\xde"),
            (Base64, "//79", b"\xff\xfe\xfd"),
            (Base64, "/w==", b"\xff"),
            (Base64Url, "__79_w", b"\xff\xfe\xfd\xff"),
            (Hex, "00ff0a", b"\x00\xff\x0a"),
        ] {
            assert_eq!(encoding.encode(text).as_deref(), Ok(bytes), "{encoding} {text}");
            assert_eq!(encoding.decode(bytes).as_deref(), Ok(text), "{encoding} {text}");
            assert_eq!(encoding.to_string().parse(), Ok(encoding));
        }
        assert_eq!(Hex.encode("FF").as_deref(), Ok(&b"\xff"[..]));
    }

    #[test]
    fn what_cannot_be_is_named_with_its_place() {
        for (encoding, text, position) in [(Ascii, "aé", 1), (Latin1, "éé€", 4), (Base64, "ab!d", 2), (Hex, "0g", 1)]
        {
            assert_eq!(encoding.encode(text), Err(EncodingError::BadText { encoding, position }), "{encoding} {text}");
        }
        for (encoding, bytes, position) in
            [(Utf8, &b"ab\xff"[..], 2), (Ascii, b"a\x80", 1), (Utf16Le, b"a\0b", 2), (Utf16Le, b"a\0\x00\xd8b\0", 2)]
        {
            assert_eq!(encoding.decode(bytes), Err(EncodingError::BadBytes { encoding, position }), "{encoding}");
        }
        assert!(matches!("utf7".parse::<Encoding>(), Err(EncodingError::UnknownName { .. })));
    }
}
