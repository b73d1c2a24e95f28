//! Stage 6: the time-bounded grant of one secret to one requester.
//!
//! The machine is a pure function; the engine performs its effects.
