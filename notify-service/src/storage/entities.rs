//! The tables. Times are unix microseconds.

/// Who is who, as far as texts need it; may be erased.
pub(crate) mod recipients {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "recipients")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) user_id: Uuid,
        pub(crate) handle: String,
        pub(crate) version: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row a user: the numbers of the stream and the counts of the inbox. Whoever writes to either locks it first.
pub(crate) mod streams {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "stream_heads")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) user_id: Uuid,
        pub(crate) head: i64,
        pub(crate) first_kept: i64,
        pub(crate) unread: i64,
        /// Notifications in the inbox.
        pub(crate) entries: i64,
        /// When the user's allowance of test notifications is whole again.
        pub(crate) tests_until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The events of the streams.
pub(crate) mod stream_events {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "stream_events")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) user_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) seq: i64,
        pub(crate) topic: String,
        pub(crate) event: String,
        /// When it happened.
        pub(crate) at: i64,
        /// When it was written here; what retention goes by.
        pub(crate) stored_at: i64,
        pub(crate) data_json: String,
        pub(crate) traceparent: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// How far each device has read.
pub(crate) mod acknowledgements {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "stream_acknowledgements")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) user_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) device: String,
        pub(crate) seq: i64,
        pub(crate) updated_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The inbox.
pub(crate) mod notifications {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "notifications")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: Uuid,
        pub(crate) user_id: Uuid,
        pub(crate) kind: String,
        pub(crate) priority: String,
        pub(crate) title: String,
        pub(crate) text: String,
        pub(crate) entity_type: String,
        pub(crate) entity_id: String,
        pub(crate) read: bool,
        pub(crate) created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Mails to send and what became of them.
pub(crate) mod mails {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mails")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub(crate) id: Uuid,
        /// The fact that asked for it; a mail is sent once for each.
        #[sea_orm(unique)]
        pub(crate) event_id: Uuid,
        /// Whom the mail is about; empty when the address belongs to nobody.
        pub(crate) user_id: String,
        pub(crate) template: String,
        pub(crate) locale: String,
        /// Address and secret, sealed; gone once the mail was sent or is too late.
        pub(crate) sealed: Option<Vec<u8>>,
        pub(crate) state: String,
        /// How often it was taken up; also the fence of the lease.
        pub(crate) attempts: i64,
        /// When it may be taken up, first or again.
        pub(crate) due_at: i64,
        pub(crate) expires_at: i64,
        pub(crate) created_at: i64,
        pub(crate) updated_at: i64,
        pub(crate) last_error: String,
        pub(crate) traceparent: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
