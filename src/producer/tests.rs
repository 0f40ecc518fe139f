//! Does a producer keep its promises?
