//! Which messages may be sent?

use super::Message;
use super::outgoing::When;
use super::properties::{NAME_END, PROPERTIES_LEN_MAX, VALUE_END};
use crate::error::{Error, Reason, Result};
use crate::types::to_u64;

/// The most properties of the user's that a message may have.
const USER_PROPERTIES_MAX: usize = 128;
/// The start of names that RocketMQ never stores.
const TRANSIENT_PREFIX: &str = "__RMQ.TRANSIENT.";

/// Names that mean something to a broker or a client of RocketMQ, in order: a value of the user's there would forge a
/// delay, a transaction or another message's id.
const RESERVED: [&str; 67] = [
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "E_T",
    "INNER_BASE",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INNER_NUM",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_GROUP",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PROPERTY_FORWARD_QUEUE_ID",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REDIRECT",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_LABEL",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSACTION_CHECK_TIMES",
    "TRANSFER_FLAG",
    "TRANS_OFFSET",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
    "__POCKETMQ_ACK",
    "__POCKETMQ_EXPIRES_IN",
    "__POCKETMQ_FAILURE",
    "__SHARDINGKEY",
];
/// The last of the reserved names, which has lower-case letters and so stands apart from the order.
const TRANSACTION_ID: &str = "__transactionId__";

/// Checks everything about a message but its topic, which is checked where it is looked up.
///
/// # Errors
///
/// `InvalidArgument` names the part and the cure, `MessageTooLarge` the limit.
pub(crate) fn check(message: &Message, body_len_max: u32) -> Result<()> {
    let body_len = to_u64(message.body().len());
    if body_len == 0 {
        return Err(Error::argument("body", "must have at least 1 byte"));
    }
    if body_len > u64::from(body_len_max) {
        return Err(Error::MessageTooLarge { len: body_len, max: u64::from(body_len_max) });
    }
    if let Some(tag) = message.tag_text() {
        check_tag(tag)?;
    }
    if message.delay_level_number() < 0 {
        return Err(Error::argument(
            "delay_level",
            "must not be negative: 0 is no delay, 1 to 18 are levels",
        ));
    }
    if message.delay_level_number() > 0 && message.when() != When::Now {
        return Err(Error::argument("delay", "there is a delay level as well: choose one"));
    }
    if message.expiry().is_some_and(|time| time.as_millis() == 0 || i64::try_from(time.as_millis()).is_err())
    {
        return Err(Error::argument("expires_in", "must be at least 1 ms, and below 292 million years"));
    }
    check_separators("key", message.joined_keys())?;
    check_separators("order_key", message.order_key_text().unwrap_or_default())?;
    check_properties(message)
}

fn check_tag(tag: &str) -> Result<()> {
    check_separators("tag", tag)?;
    if tag.contains('\0') {
        return Err(Error::argument("tag", "must not contain NUL"));
    }
    if tag.contains("||") {
        return Err(Error::argument(
            "tag",
            "must not contain ||, which separates the tags of a filter: a message has one tag",
        ));
    }
    if tag.trim() != tag {
        return Err(Error::argument("tag", "must not begin or end with a blank: no filter could name it"));
    }
    Ok(())
}

fn check_properties(message: &Message) -> Result<()> {
    let count = message.properties().len();
    if count > USER_PROPERTIES_MAX {
        let reason = format!("there are {count}, and at most {USER_PROPERTIES_MAX} are allowed");
        return Err(Error::argument("properties", reason));
    }
    let own = [
        message.tag_text().unwrap_or_default(),
        message.joined_keys(),
        message.order_key_text().unwrap_or_default(),
    ];
    let mut len: usize = own.iter().map(|text| text.len()).sum();
    for (name, value) in message.properties() {
        check_property(name, value)?;
        len = len.saturating_add(name.len() + value.len() + 2);
    }
    // The exact length is known when the record is drafted; this bound keeps what is drafted small.
    if len > PROPERTIES_LEN_MAX {
        let reason = format!("{len} bytes, and at most {PROPERTIES_LEN_MAX} fit a record");
        return Err(Error::argument("properties", reason));
    }
    Ok(())
}

fn check_property(name: &str, value: &str) -> Result<()> {
    let wrong = |reason: Reason| Err(Error::argument("property", reason));
    if name.trim().is_empty() {
        return wrong("its name must not be blank".into());
    }
    if value.trim().is_empty() {
        return wrong(format!("{name:?} must not have a blank value: leave the property out").into());
    }
    check_separators("property", name)?;
    check_separators("property", value)?;
    if is_reserved(name) {
        let cure = match name {
            "KEYS" => "use Message::key",
            "TAGS" => "use Message::tag",
            "WAIT" => "use Message::no_wait",
            "__SHARDINGKEY" => "use Message::order_key",
            "DELAY" => "use Message::delay_level",
            "__POCKETMQ_EXPIRES_IN" => "use Message::expires_in",
            _ => "choose another name",
        };
        return wrong(format!("{name:?} is one of RocketMQ's own: {cure}").into());
    }
    Ok(())
}

/// Tells whether a name means something to RocketMQ or to us.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.binary_search(&name).is_ok() || name == TRANSACTION_ID || name.starts_with(TRANSIENT_PREFIX)
}

/// Refuses the two bytes that separate properties: they would forge some.
fn check_separators(field: &'static str, text: &str) -> Result<()> {
    if text.bytes().any(|byte| byte == NAME_END || byte == VALUE_END) {
        return Err(Error::argument(field, "must not contain U+0001 or U+0002, which separate properties"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 4 * 1024 * 1024;

    fn message() -> Message {
        Message::new("orders", "hello")
    }

    fn field_of(message: &Message) -> &'static str {
        match check(message, MAX) {
            Err(Error::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a8_a_body_has_one_byte_to_the_limit() {
        assert_eq!(field_of(&Message::new("orders", "")), "body");
        check(&Message::new("orders", "x"), MAX).unwrap();
        check(&Message::new("orders", vec![0; MAX as usize]), MAX).unwrap();
        let error = check(&Message::new("orders", vec![0; MAX as usize + 1]), MAX).unwrap_err();
        assert!(matches!(error, Error::MessageTooLarge { len: 4_194_305, max: 4_194_304 }), "{error}");
    }

    #[test]
    fn a9_separators_are_refused_everywhere() {
        for separator in ["\u{1}", "\u{2}"] {
            let text = format!("a{separator}b");
            assert_eq!(field_of(&message().tag(text.clone())), "tag");
            assert_eq!(field_of(&message().key(&text)), "key");
            assert_eq!(field_of(&message().order_key(text.clone())), "order_key");
            assert_eq!(field_of(&message().property(text.clone(), "v")), "property");
            assert_eq!(field_of(&message().property("n", text)), "property");
        }
    }

    #[test]
    fn a9_blank_names_and_values_are_refused() {
        for (name, value) in [("", "v"), (" ", "v"), ("n", ""), ("n", " \t")] {
            assert_eq!(field_of(&message().property(name, value)), "property", "{name:?} {value:?}");
        }
    }

    #[test]
    fn h14_every_name_of_rocketmq_is_refused() {
        assert!(RESERVED.is_sorted());
        for name in RESERVED {
            assert_eq!(field_of(&message().property(name, "v")), "property", "{name}");
        }
        for name in ["__transactionId__", "__RMQ.TRANSIENT.X"] {
            assert_eq!(field_of(&message().property(name, "v")), "property", "{name}");
        }
        let error = check(&message().property("TAGS", "v"), MAX).unwrap_err();
        assert!(error.to_string().ends_with("use Message::tag"), "{error}");
        check(&message().property("delay", "1").property("Keys", "2"), MAX).unwrap();
    }

    #[test]
    fn a10_more_properties_than_fit_a_record_are_refused() {
        assert_eq!(field_of(&message().property("n", "v".repeat(32_768))), "properties");
        assert_eq!(field_of(&message().key("k".repeat(32_768))), "properties");
        let many = (0..129).fold(message(), |message, n| message.property(format!("n{n}"), "v"));
        assert_eq!(field_of(&many), "properties");
        check(&(0..128).fold(message(), |message, n| message.property(format!("n{n}"), "v")), MAX).unwrap();
    }

    #[test]
    fn a11_a_tag_that_no_filter_could_name_is_refused() {
        for tag in ["a||b", " a", "a\n", "a\0"] {
            assert_eq!(field_of(&message().tag(tag)), "tag", "{tag:?}");
        }
        for tag in ["", "a|b", "a b", "é", "*"] {
            check(&message().tag(tag), MAX).unwrap();
        }
        check(&message().tag("t".repeat(10_240)), MAX).unwrap();
    }

    #[test]
    fn a12_a_thousand_keys_are_allowed_and_split_at_blanks() {
        let message = message().keys((0..1_000).map(|n| format!("key-{n}"))).key("two keys");
        check(&message, MAX).unwrap();
        assert_eq!(message.key_texts().count(), 1_002);
    }
}
