//! SMS schedules, their messages, uploads under way and the daily quota.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(schedules()).await?;
        manager.create_table(messages()).await?;
        manager.create_table(uploads()).await?;
        manager.create_table(daily_recipients()).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "sms_daily_recipients",
            "sms_uploads",
            "sms_messages",
            "sms_schedules",
        ] {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

fn schedules() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table("sms_schedules")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("set_id").uuid().not_null())
        .col(ColumnDef::new("name").text().not_null())
        .col(ColumnDef::new("message").text().not_null())
        .col(ColumnDef::new("provider").text().not_null())
        .col(ColumnDef::new("status").text().not_null())
        .col(ColumnDef::new("run_at").big_integer().not_null())
        .col(ColumnDef::new("claim_at").big_integer().null())
        .col(ColumnDef::new("charged_day").big_integer().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("started_at").big_integer().null())
        .col(ColumnDef::new("finished_at").big_integer().null())
        .col(ColumnDef::new("version").big_integer().not_null());
    for count in [
        "n_queued",
        "n_sending",
        "n_sent",
        "n_enroute",
        "n_delivrd",
        "n_undeliv",
        "n_expired",
        "n_rejectd",
        "n_deleted",
        "n_unknown",
        "n_cancelled",
    ] {
        table.col(ColumnDef::new(count).big_integer().not_null().default(0));
    }
    table
}

fn messages() -> TableCreateStatement {
    Table::create()
        .table("sms_messages")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("set_id").uuid().not_null())
        .col(ColumnDef::new("phone").text().not_null())
        .col(ColumnDef::new("state").text().not_null())
        .col(ColumnDef::new("attempt").big_integer().not_null())
        .col(ColumnDef::new("provider_message_id").text().null())
        .col(ColumnDef::new("due_at").big_integer().null())
        .col(ColumnDef::new("pause_us").big_integer().not_null())
        .col(ColumnDef::new("deadline_at").big_integer().null())
        .col(ColumnDef::new("sent_at").big_integer().null())
        .col(ColumnDef::new("updated_at").big_integer().not_null())
        .col(ColumnDef::new("error").text().not_null())
        .to_owned()
}

fn uploads() -> TableCreateStatement {
    Table::create()
        .table("sms_uploads")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("touched_at").big_integer().not_null())
        .to_owned()
}

fn daily_recipients() -> TableCreateStatement {
    Table::create()
        .table("sms_daily_recipients")
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("day").big_integer().not_null())
        .col(ColumnDef::new("recipients").big_integer().not_null())
        .primary_key(Index::create().col("user_id").col("day"))
        .to_owned()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &str, table: &'static str, columns: &[&'static str], unique: bool| {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        if unique {
            index.unique();
        }
        index
    };
    vec![
        index("sms_schedules_set", "sms_schedules", &["set_id"], true),
        index(
            "sms_schedules_user",
            "sms_schedules",
            &["user_id", "id"],
            false,
        ),
        index("sms_schedules_claim", "sms_schedules", &["claim_at"], false),
        // One number once in a set: what tells duplicates apart in a file of any size.
        index(
            "sms_messages_phone",
            "sms_messages",
            &["set_id", "phone"],
            true,
        ),
        index(
            "sms_messages_state",
            "sms_messages",
            &["set_id", "state", "phone"],
            false,
        ),
        index("sms_messages_due", "sms_messages", &["due_at"], false),
        index("sms_uploads_touched", "sms_uploads", &["touched_at"], false),
    ]
}
