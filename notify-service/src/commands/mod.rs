//! What changes state, one use case a file.

pub(crate) mod acknowledge;
pub(crate) mod delete_notification;
pub(crate) mod deliver;
pub(crate) mod gather;
pub(crate) mod mark_all_read;
pub(crate) mod mark_notification;
pub(crate) mod queue_mail;
pub(crate) mod send_mail;
pub(crate) mod send_mails;
pub(crate) mod send_test;
pub(crate) mod trim;
