//! The projection of users.

use sea_orm_migration::prelude::*;

pub(super) struct Payees;

impl MigrationName for Payees {
    fn name(&self) -> &str {
        "m20261120_000103_payees"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Payees {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("payees")
                    .col(ColumnDef::new("user_id").uuid().not_null().primary_key())
                    .col(ColumnDef::new("handle").string().not_null())
                    .col(ColumnDef::new("email_hash").binary().not_null())
                    .col(ColumnDef::new("state").string().not_null())
                    .col(ColumnDef::new("version").big_integer().not_null())
                    .col(ColumnDef::new("created_at").big_integer().not_null())
                    .to_owned(),
            )
            .await?;
        let index = |column: &'static str| {
            Index::create()
                .name(format!("payees_{column}"))
                .table("payees")
                .col(column)
                .to_owned()
        };
        // Unique, so that money can never go to one of two.
        manager
            .create_index(index("handle").unique().to_owned())
            .await?;
        // Not unique: an address can be freed and taken anew, and we may hear of it in any order.
        manager.create_index(index("email_hash")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .drop_table(Table::drop().table("payees").to_owned())
            .await
    }
}
