//! Does the door keep its promises?
