//! What do timers do?
