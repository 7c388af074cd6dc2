//! Recipients, streams, acknowledgements, inbox and mails.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            recipients(),
            stream_heads(),
            stream_events(),
            acknowledgements(),
            notifications(),
            mails(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "mails",
            "notifications",
            "stream_acknowledgements",
            "stream_events",
            "stream_heads",
            "recipients",
        ] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

fn recipients() -> TableCreateStatement {
    Table::create()
        .table("recipients")
        .col(ColumnDef::new("user_id").uuid().not_null().primary_key())
        .col(ColumnDef::new("handle").text().not_null())
        .col(ColumnDef::new("version").big_integer().not_null())
        .to_owned()
}

fn stream_heads() -> TableCreateStatement {
    Table::create()
        .table("stream_heads")
        .col(ColumnDef::new("user_id").uuid().not_null().primary_key())
        .col(ColumnDef::new("head").big_integer().not_null())
        .col(ColumnDef::new("first_kept").big_integer().not_null())
        .col(ColumnDef::new("unread").big_integer().not_null())
        .col(ColumnDef::new("entries").big_integer().not_null())
        .col(ColumnDef::new("tests_until").big_integer().not_null())
        .to_owned()
}

fn stream_events() -> TableCreateStatement {
    Table::create()
        .table("stream_events")
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("seq").big_integer().not_null())
        .col(ColumnDef::new("topic").text().not_null())
        .col(ColumnDef::new("event").text().not_null())
        .col(ColumnDef::new("at").big_integer().not_null())
        .col(ColumnDef::new("stored_at").big_integer().not_null())
        .col(ColumnDef::new("data_json").text().not_null())
        .col(ColumnDef::new("traceparent").text().not_null())
        .primary_key(Index::create().col("user_id").col("seq"))
        .to_owned()
}

fn acknowledgements() -> TableCreateStatement {
    Table::create()
        .table("stream_acknowledgements")
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("device").text().not_null())
        .col(ColumnDef::new("seq").big_integer().not_null())
        .col(ColumnDef::new("updated_at").big_integer().not_null())
        .primary_key(Index::create().col("user_id").col("device"))
        .to_owned()
}

fn notifications() -> TableCreateStatement {
    Table::create()
        .table("notifications")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("kind").text().not_null())
        .col(ColumnDef::new("priority").text().not_null())
        .col(ColumnDef::new("title").text().not_null())
        .col(ColumnDef::new("text").text().not_null())
        .col(ColumnDef::new("entity_type").text().not_null())
        .col(ColumnDef::new("entity_id").text().not_null())
        .col(ColumnDef::new("read").boolean().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .to_owned()
}

fn mails() -> TableCreateStatement {
    Table::create()
        .table("mails")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("event_id").uuid().not_null().unique_key())
        .col(ColumnDef::new("user_id").text().not_null())
        .col(ColumnDef::new("template").text().not_null())
        .col(ColumnDef::new("locale").text().not_null())
        .col(ColumnDef::new("sealed").blob())
        .col(ColumnDef::new("state").text().not_null())
        .col(ColumnDef::new("attempts").big_integer().not_null())
        .col(ColumnDef::new("due_at").big_integer().not_null())
        .col(ColumnDef::new("expires_at").big_integer().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("updated_at").big_integer().not_null())
        .col(ColumnDef::new("last_error").text().not_null())
        .col(ColumnDef::new("traceparent").text().not_null())
        .to_owned()
}

fn indexes() -> [IndexCreateStatement; 7] {
    [
        // The inbox, newest first, whole or by read state.
        Index::create()
            .name("notifications_by_owner")
            .table("notifications")
            .col("user_id")
            .col("id")
            .to_owned(),
        Index::create()
            .name("notifications_by_owner_and_state")
            .table("notifications")
            .col("user_id")
            .col("read")
            .col("id")
            .to_owned(),
        // What retention removes.
        Index::create()
            .name("stream_events_by_age")
            .table("stream_events")
            .col("stored_at")
            .to_owned(),
        Index::create()
            .name("notifications_by_age")
            .table("notifications")
            .col("created_at")
            .to_owned(),
        Index::create()
            .name("stream_heads_by_entries")
            .table("stream_heads")
            .col("entries")
            .to_owned(),
        Index::create()
            .name("stream_acknowledgements_by_age")
            .table("stream_acknowledgements")
            .col("updated_at")
            .to_owned(),
        // What the mail worker claims.
        Index::create()
            .name("mails_due")
            .table("mails")
            .col("state")
            .col("due_at")
            .to_owned(),
    ]
}
