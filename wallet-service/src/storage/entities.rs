//! The rows, without behaviour. Times are unix microseconds, amounts minor units.

/// An account and its running balance.
pub(crate) mod account {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "accounts")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        /// Owner; null for an external account.
        pub user_id: Option<Uuid>,
        /// Name of the funding source; null for a user's account.
        pub source: Option<String>,
        pub currency: String,
        pub posted_minor: i64,
        pub pending_minor: i64,
        /// Null where the balance may be anything.
        pub floor_minor: Option<i64>,
        pub version: i64,
        pub status: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One line in the book of one account.
pub(crate) mod entry {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "entries")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i64,
        pub transaction_id: Uuid,
        pub amount_minor: i64,
        pub balance_minor: i64,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A transaction with both of its sides.
pub(crate) mod transaction {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "transactions")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub kind: String,
        pub status: String,
        pub currency: String,
        pub amount_minor: i64,
        /// Who gives; null for the world outside.
        pub from_user_id: Option<Uuid>,
        pub from_account_id: Option<Uuid>,
        /// Posted balance of the giving account right after; null when nothing was posted.
        pub from_balance_minor: Option<i64>,
        /// Who takes; null when nobody answered to the name.
        pub to_user_id: Option<Uuid>,
        pub to_account_id: Option<Uuid>,
        pub to_balance_minor: Option<i64>,
        /// Name of the external source; null between users.
        pub source: Option<String>,
        pub description: String,
        pub category: String,
        /// Why it was refused; null otherwise.
        pub reason: Option<String>,
        /// Scope and text of the idempotency key that it was asked for with.
        pub request_scope: String,
        pub request_key: String,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A user as the wallet knows them.
pub(crate) mod payee {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "payees")]
    pub(crate) struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: Uuid,
        pub handle: String,
        pub email_hash: Vec<u8>,
        pub state: String,
        pub version: i64,
        pub created_at: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub(crate) enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
