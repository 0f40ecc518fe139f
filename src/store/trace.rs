//! What did producers write down about a message?

use super::Store;
use crate::error::Result;
use crate::message::MessageId;
use crate::producer::{TRACE_TOPIC, TraceRecord};

impl Store {
    /// Returns what producers that trace wrote down about a message, newest first: usually one record. Empty where its
    /// producer did not trace, or the trace is gone.
    ///
    /// # Errors
    ///
    /// Those of a lookup by key ([`KeyQuery::fetch`](crate::KeyQuery::fetch)).
    ///
    /// ```
    /// use pocketmq::{Message, MessageTrace, Store};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// let producer = store.producer_builder("shop").message_trace(MessageTrace::On).build()?;
    /// let receipt = producer.send(Message::new("orders", "hello").key("order-42"))?;
    /// let trace = store.message_trace(receipt.message_id())?;
    /// assert_eq!((trace[0].group.as_str(), trace[0].keys.as_str()), ("shop", "order-42"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "queryMsgTraceById")]
    pub fn message_trace(&self, id: MessageId) -> Result<Vec<TraceRecord>> {
        let id = id.to_string();
        let mut found = Vec::new();
        for trace in self.query_by_key(TRACE_TOPIC, &id).fetch()? {
            found.extend(
                TraceRecord::read(&trace.body_str()?).into_iter().filter(|record| record.message_id == id),
            );
        }
        Ok(found)
    }
}
