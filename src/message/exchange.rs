//! What makes a message a request, or the reply to one?
//!
//! RocketMQ's properties: both have the same `CORRELATION_ID`, `REPLY_TO_CLIENT` and `TTL`; a reply says so in `MSG_TYPE` and
//! goes to `<cluster>_REPLY_TOPIC`.

use super::Message;
use super::properties::{Properties, append, name};
use crate::error::{Error, Result};

/// The word by which a reply is known.
const REPLY: &str = "reply";
/// The cluster to which a message belongs that names none, as every message of ours.
const CLUSTER: &str = "DefaultCluster";

/// What a request and its reply have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Who asked.
    pub(crate) client: Box<str>,
    /// By what the reply finds its request.
    pub(crate) correlation: Box<str>,
    /// How many milliseconds the one who asked waits.
    pub(crate) ttl_millis: Box<str>,
    /// Whether this is the reply.
    pub(crate) is_reply: bool,
}

impl Exchange {
    /// Appends the properties.
    pub(super) fn append_to(&self, encoded: &mut Vec<u8>) {
        append(encoded, name::CORRELATION_ID, &self.correlation);
        append(encoded, name::REPLY_TO_CLIENT, &self.client);
        append(encoded, name::TTL, &self.ttl_millis);
        if self.is_reply {
            append(encoded, name::MESSAGE_TYPE, REPLY);
        }
    }
}

/// Returns the topic of the replies in a cluster.
fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

/// Returns the topic of the replies to messages of ours.
pub(crate) fn own_reply_topic() -> String {
    reply_topic(CLUSTER)
}

/// Makes the reply to a request with these properties.
pub(crate) fn reply_to(request: Properties<'_>, body: Vec<u8>) -> Result<Message> {
    let names = [name::CORRELATION_ID, name::REPLY_TO_CLIENT, name::TTL, name::CLUSTER];
    let [Some(correlation), Some(client), ttl, cluster] = request.pick(names) else {
        let reason = "is no request: only a message that Producer::request has sent can be replied to";
        return Err(Error::argument("request", reason));
    };
    let ttl_millis = ttl.unwrap_or_default().into();
    let exchange =
        Exchange { client: client.into(), correlation: correlation.into(), ttl_millis, is_reply: true };
    Ok(Message::new(reply_topic(cluster.unwrap_or(CLUSTER)), body).exchanging(exchange))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e8_a_reply_has_rocketmqs_properties_and_topic_and_a_plain_message_has_none() {
        let request =
            b"CORRELATION_ID\x01c-1\x02REPLY_TO_CLIENT\x01me\x02TTL\x013000\x02CLUSTER\x01golden\x02";
        let reply = reply_to(Properties::new(request), b"yes".to_vec()).unwrap();
        assert_eq!((reply.topic(), reply.body()), ("golden_REPLY_TOPIC", &b"yes"[..]));
        let mut encoded = Vec::new();
        let id = "7F00000100002A9F000000000000007C".parse().unwrap();
        reply.append_properties(&id, &mut encoded);
        let found = Properties::new(&encoded).pick(["CORRELATION_ID", "REPLY_TO_CLIENT", "TTL", "MSG_TYPE"]);
        assert_eq!(found, [Some("c-1"), Some("me"), Some("3000"), Some("reply")]);
        let error = reply_to(Properties::new(b"CORRELATION_ID\x01c\x02"), b"yes".to_vec()).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { field: "request", .. }), "{error}");
        assert_eq!(own_reply_topic(), "DefaultCluster_REPLY_TOPIC");
    }
}
