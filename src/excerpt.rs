//! How bytes are shown: their beginning, and how many they are. A payload has no place in a log.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt::{self, Write as _};

use bytes::Bytes;

/// The most bytes that `Debug` shows of what was sent or is to be sent.
const SHOWN: usize = 64;
/// The most characters of a value that may be anything.
const TOLD: usize = 768;
/// The most bytes that are shown of a text for people, such as what a worker threw.
const READ: usize = 4 << 10;

/// The beginning of bytes: with `Debug` as those of [`Bytes`] are shown, with `Display` as a text.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl<'a> Excerpt<'a> {
    /// Shows the first bytes by `show`, and says how many there are where those are not all.
    fn cut(
        &self,
        f: &mut fmt::Formatter<'_>,
        most: usize,
        show: impl FnOnce(&'a [u8], &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        match self.0.get(..most) {
            Some(start) if start.len() < self.0.len() => {
                show(start, f)?;
                write!(f, "... ({} bytes)", self.0.len())
            }
            _ => show(self.0, f),
        }
    }
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut(f, SHOWN, |start, f| fmt::Debug::fmt(&Bytes::copy_from_slice(start), f))
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut(f, READ, |start, f| f.write_str(&String::from_utf8_lossy(start)))
    }
}

/// A value of any type, of whose `Debug` the beginning is shown where it is long: it may be bytes.
pub(crate) struct Beginning<'a, T>(pub(crate) &'a T);

impl<T: fmt::Debug> fmt::Debug for Beginning<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pretty = f.alternate();
        let mut cut = Cut { f, length: 0 };
        if pretty { write!(cut, "{:#?}", self.0) } else { write!(cut, "{:?}", self.0) }?;
        match cut.length {
            ..=TOLD => Ok(()),
            length => write!(f, "... ({length} characters)"),
        }
    }
}

/// Lets the first [`TOLD`] characters of a text through, and counts them all.
struct Cut<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    length: usize,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = TOLD.saturating_sub(self.length);
        self.length += text.chars().count();
        let end = text.char_indices().nth(left).map_or(text.len(), |(end, _)| end);
        self.f.write_str(text.get(..end).unwrap_or_default())
    }
}

/// A field as `Debug` is to show it: bytes as an [`Excerpt`], all else as it is.
pub(crate) struct Shown<'a, T>(pub(crate) &'a T);

impl<'a> Shown<'a, Bytes> {
    pub(crate) fn shown(&self) -> Excerpt<'a> {
        Excerpt(self.0)
    }
}

impl<'a> Shown<'a, Box<[u8]>> {
    pub(crate) fn shown(&self) -> Excerpt<'a> {
        Excerpt(self.0)
    }
}

impl<'a> Shown<'a, Option<Bytes>> {
    pub(crate) fn shown(&self) -> Option<Excerpt<'a>> {
        self.0.as_deref().map(Excerpt)
    }
}

impl<'a, E> Shown<'a, Result<Bytes, E>> {
    pub(crate) fn shown(&self) -> Result<Excerpt<'a>, &'a E> {
        self.0.as_deref().map(Excerpt)
    }
}

/// What the methods above, which come first, do not show.
pub(crate) trait AsItIs<'a, T> {
    fn shown(&self) -> &'a T;
}

impl<'a, T: fmt::Debug> AsItIs<'a, T> for Shown<'a, T> {
    fn shown(&self) -> &'a T {
        self.0
    }
}

/// Implements `Debug` as a derive does, but for bytes, which it cuts. The compiler refuses to have a variant or a field left out.
macro_rules! debug {
    (struct $Type:ident { $($field:ident),+ }) => {
        impl core::fmt::Debug for $Type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let Self { $($field),+ } = self;
                $crate::excerpt::debug!(@fields f, $Type { $($field),+ })
            }
        }
    };
    (enum $Type:ident { $($Variant:ident $(($one:ident))? $({ $($field:ident),+ $(,)? })?),+ $(,)? }) => {
        impl core::fmt::Debug for $Type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self {
                    $(Self::$Variant $(($one))? $({ $($field),+ })? => {
                        $crate::excerpt::debug!(@fields f, $Variant $(($one))? $({ $($field),+ })?)
                    })+
                }
            }
        }
    };
    (@fields $f:ident, $Name:ident) => {
        $f.write_str(stringify!($Name))
    };
    (@fields $f:ident, $Name:ident ($one:ident)) => {{
        #[allow(unused_imports, reason = "some have nothing but bytes")]
        use $crate::excerpt::AsItIs as _;
        $f.debug_tuple(stringify!($Name)).field(&$crate::excerpt::Shown($one).shown()).finish()
    }};
    (@fields $f:ident, $Name:ident { $($field:ident),+ }) => {{
        #[allow(unused_imports, reason = "some have nothing but bytes")]
        use $crate::excerpt::AsItIs as _;
        $f.debug_struct(stringify!($Name))
            $(.field(stringify!($field), &$crate::excerpt::Shown($field).shown()))+
            .finish()
    }};
}

pub(crate) use debug;

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn as_many_bytes_as_are_shown_are_shown_as_they_are() {
        let bytes = Bytes::from(alloc::vec![b'\0'; SHOWN]);
        assert_eq!(format!("{:?}", Excerpt(&bytes)), format!("{bytes:?}"));
        let bytes = Bytes::from(alloc::vec![b'"'; SHOWN + 1]);
        assert_eq!(format!("{:?}", Excerpt(&bytes)), format!("{:?}... (65 bytes)", bytes.slice(..SHOWN)));
    }

    #[test]
    fn a_value_of_any_type_is_shown_in_the_same_form_up_to_a_length() {
        let short = [Some("größer"); 20];
        assert_eq!(format!("{:?}", Beginning(&short)), format!("{short:?}"));
        assert_eq!(format!("{:#?}", Beginning(&short)), format!("{short:#?}"));
        let long = ["ß"; 1000];
        let all = format!("{long:?}");
        let told: String = all.chars().take(TOLD).collect();
        assert_eq!(format!("{:?}", Beginning(&long)), format!("{told}... (5000 characters)"));
    }

    #[test]
    fn a_text_is_cut_wherever_that_is() {
        assert_eq!(format!("{}", Excerpt("größer".as_bytes())), "größer");
        let long = "ß".repeat(READ);
        let text = format!("{}", Excerpt(&long.as_bytes()[1..]));
        assert!(text.ends_with("ß\u{fffd}... (8191 bytes)"), "{text}");
    }
}
