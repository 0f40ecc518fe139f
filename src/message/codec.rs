//! How does a value of the user's become a body, and a body a value?

use std::error::Error as StdError;

use super::Message;
use crate::error::{Error, Result};

/// What a [`Codec`] fails with: any error.
pub type CodecError = Box<dyn StdError + Send + Sync>;

/// Turns values of one type into bodies and back.
///
/// A codec is a value too, so it can hold a schema or a key. With the feature `serde` there is a ready one,
/// `Json`.
///
/// ```
/// use pocketmq::{Codec, CodecError, Message, Store};
///
/// struct Celsius;
///
/// impl Codec<f64> for Celsius {
///     fn encode(&self, value: &f64) -> Result<Vec<u8>, CodecError> {
///         Ok(value.to_string().into_bytes())
///     }
///     fn decode(&self, body: &[u8]) -> Result<f64, CodecError> {
///         Ok(std::str::from_utf8(body)?.parse()?)
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let receipt = store.producer("weather")?.send(Message::encoded("readings", &21.5, &Celsius)?)?;
/// let found = store.message(receipt.message_id())?.unwrap();
/// assert_eq!(found.decoded(&Celsius)?, 21.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec<T> {
    /// Makes the body of a message from a value.
    ///
    /// # Errors
    ///
    /// Whatever the codec likes; [`Message::encoded`] tells it on.
    fn encode(&self, value: &T) -> std::result::Result<Vec<u8>, CodecError>;

    /// Makes a value from the body of a message, as its sender had it.
    ///
    /// # Errors
    ///
    /// Whatever the codec likes; the `decoded` of a message tells it on.
    fn decode(&self, body: &[u8]) -> std::result::Result<T, CodecError>;
}

impl Message {
    /// Makes a message whose body is a value in the form that the codec gives it.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` with what the codec says.
    pub fn encoded<T>(
        topic: impl Into<std::borrow::Cow<'static, str>>,
        value: &T,
        codec: &impl Codec<T>,
    ) -> Result<Self> {
        let body = codec.encode(value);
        let body = body.map_err(|error| Error::argument("body", format!("cannot be encoded: {error}")))?;
        Ok(Self::new(topic, body))
    }

    /// Makes a message whose body is a value as JSON (feature `serde`).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` where the value has no form in JSON, such as a map with keys that are no text.
    ///
    /// ```
    /// use pocketmq::{Message, Store};
    ///
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// struct Order {
    ///     id: u64,
    ///     euros: u32,
    /// }
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let order = Order { id: 42, euros: 7 };
    /// let receipt = store.producer("shop")?.send(Message::json("orders", &order)?.key("42"))?;
    /// let found = store.message(receipt.message_id())?.unwrap();
    /// assert_eq!(found.json::<Order>()?, order);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "serde")]
    pub fn json<T: serde::Serialize>(
        topic: impl Into<std::borrow::Cow<'static, str>>,
        value: &T,
    ) -> Result<Self> {
        let body = serde_json::to_vec(value);
        let body = body.map_err(|error| Error::argument("body", format!("cannot be encoded: {error}")))?;
        Ok(Self::new(topic, body))
    }
}

/// Makes a value from a body that has been read.
pub(crate) fn decoded<T>(body: &[u8], codec: &impl Codec<T>) -> Result<T> {
    codec.decode(body).map_err(|error| cannot_decode(&*error))
}

/// Makes a value from a body that is JSON.
#[cfg(feature = "serde")]
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| cannot_decode(&error))
}

fn cannot_decode(error: &dyn StdError) -> Error {
    Error::argument("body", format!("cannot be decoded: {error}; body() gives the bytes as they are"))
}

/// JSON, for every type that serde knows (feature `serde`).
#[cfg(feature = "serde")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Json;

#[cfg(feature = "serde")]
impl Json {
    /// Returns the codec.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T) -> std::result::Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, body: &[u8]) -> std::result::Result<T, CodecError> {
        Ok(serde_json::from_slice(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refusing;

    impl Codec<u8> for Refusing {
        fn encode(&self, _: &u8) -> std::result::Result<Vec<u8>, CodecError> {
            Err("no ink".into())
        }

        fn decode(&self, _: &[u8]) -> std::result::Result<u8, CodecError> {
            Err("no glasses".into())
        }
    }

    #[test]
    fn what_a_codec_says_is_told_with_what_helps() {
        let error = Message::encoded("orders", &1_u8, &Refusing).unwrap_err();
        assert_eq!(error.to_string(), "invalid body: cannot be encoded: no ink");
        let error = decoded(b"x", &Refusing).unwrap_err();
        assert!(error.to_string().contains("no glasses; body() gives the bytes"), "{error}");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_is_written_and_read_and_its_errors_are_told() {
        let message = Message::json("orders", &[1, 2]).unwrap();
        assert_eq!(message.body(), b"[1,2]");
        assert_eq!(Message::encoded("orders", &vec![1, 2], &Json::new()).unwrap(), message);
        assert_eq!(from_json::<Vec<u8>>(b"[1,2]").unwrap(), [1, 2]);
        assert_eq!(decoded::<Vec<u8>>(b"[1,2]", &Json).unwrap(), [1, 2]);
        assert!(from_json::<Vec<u8>>(b"[1,").is_err());
        let no_json = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Message::json("t", &no_json), Err(Error::InvalidArgument { field: "body", .. })));
    }
}
