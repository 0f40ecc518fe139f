//! What is a message, before it is sent and after it has been read back?
//!
//! A record of the commit log is laid out in [`draft`] and read by [`record`]; both follow `docs/format.md` byte for
//! byte. Nothing here touches a file.

pub(crate) mod check;
pub(crate) mod codec;
pub(crate) mod compress;
mod crc;
pub(crate) mod draft;
pub(crate) mod exchange;
pub(crate) mod ids;
pub(crate) mod inflate;
pub(crate) mod outgoing;
pub(crate) mod owned;
pub(crate) mod properties;
mod recall;
pub(crate) mod record;
pub(crate) mod sys_flag;
pub(crate) mod tags;

#[cfg(feature = "serde")]
pub use codec::Json;
pub use codec::{Codec, CodecError};
pub use compress::CompressionType;
pub use ids::MessageId;
pub use outgoing::Message;
pub use owned::OwnedMessage;
pub use properties::Properties;
pub use recall::RecallHandle;
