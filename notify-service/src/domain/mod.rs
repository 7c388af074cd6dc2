//! What a person is told, and in which order. Pure: no I/O, no clock, no contracts.

pub(crate) mod allowance;
pub(crate) mod backoff;
pub(crate) mod money;
pub(crate) mod movement;
pub(crate) mod notification;
pub(crate) mod position;
pub(crate) mod telling;
