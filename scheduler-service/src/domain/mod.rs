//! The rules, pure and synchronous: numbers, texts, times, and what a schedule and a message may become.

pub mod message;
pub mod phone;
pub mod recipients;
pub mod schedule;
pub mod text;
pub mod timing;

pub use message::MessageState;
pub use phone::{Numbering, Phone, Reject};
pub use recipients::{Rejected, Report};
pub use schedule::{Counts, Refusal, Schedule, Status};
