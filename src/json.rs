//! Values as JSON in payloads, by serde.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::Job;

/// A value that is no JSON, or JSON that is no such value. It tells line and column.
pub use serde_json::Error as JsonError;

/// The payload that `value` is as JSON.
///
/// # Errors
/// The value has no JSON, such as a map with keys that are no strings.
pub fn to_payload(value: &impl Serialize) -> Result<Bytes, JsonError> {
    serde_json::to_vec(value).map(Bytes::from)
}

/// The value that a payload is.
///
/// ```
/// # use gearwheel::json;
/// let payload = json::to_payload(&("resize", 640))?;
/// assert_eq!(payload, r#"["resize",640]"#);
/// assert_eq!(json::from_payload::<(String, u32)>(&payload)?, ("resize".into(), 640));
/// # Ok::<(), json::JsonError>(())
/// ```
///
/// # Errors
/// The payload is no JSON, or not that of a `T`.
pub fn from_payload<T: DeserializeOwned>(payload: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(payload)
}

impl Job {
    /// A foreground job of normal priority whose payload is `value` as JSON.
    ///
    /// # Errors
    /// As [`to_payload`].
    pub fn json(function: impl Into<Bytes>, value: &impl Serialize) -> Result<Self, JsonError> {
        Ok(Self::new(function, to_payload(value)?))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::string::String;

    use super::*;

    #[test]
    fn a_value_goes_there_and_back_and_what_is_none_is_refused() {
        let job = Job::json("resize", &("a.png", 640)).expect("a value");
        assert_eq!((job.function(), &job.payload()[..]), (&b"resize"[..], &br#"["a.png",640]"#[..]));
        let (name, size): (String, u32) = from_payload(job.payload()).expect("the same");
        assert_eq!((&*name, size), ("a.png", 640));
        assert!(from_payload::<u32>(job.payload()).is_err());
        assert!(from_payload::<u32>(b"").is_err());
        // Keys of objects are texts.
        assert!(to_payload(&BTreeMap::from([((1, 2), 3)])).is_err());
    }
}
