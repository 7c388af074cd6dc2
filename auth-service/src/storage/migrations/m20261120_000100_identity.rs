//! Users, sessions, tokens, revocations and failed attempts.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::*;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261120_000100_identity"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(users(manager.get_database_backend()))
            .await?;
        manager.create_table(sessions()).await?;
        manager.create_table(refresh_tokens()).await?;
        manager.create_table(email_tokens()).await?;
        manager.create_table(revocations()).await?;
        manager.create_table(attempts()).await?;
        let indexes: [(&str, &[&'static str]); 10] = [
            ("users", &["name_search", "id"]),
            ("users", &["last_name_search", "id"]),
            ("sessions", &["user_id", "ended_at"]),
            ("sessions", &["expires_at"]),
            ("refresh_tokens", &["session_id"]),
            ("refresh_tokens", &["expires_at"]),
            ("email_tokens", &["user_id", "created_at"]),
            ("email_tokens", &["expires_at"]),
            ("revocations", &["revoked_at"]),
            ("attempts", &["last_at"]),
        ];
        for (table, columns) in indexes {
            let mut index = Index::create();
            index
                .name(format!("{table}_{}", columns.join("_")))
                .table(table);
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            "attempts",
            "revocations",
            "email_tokens",
            "refresh_tokens",
            "sessions",
            "users",
        ];
        for table in tables {
            manager
                .drop_table(Table::drop().table(table).to_owned())
                .await?;
        }
        Ok(())
    }
}

fn users(backend: DbBackend) -> TableCreateStatement {
    // In the order of code points, as SQLite sorts anyway: a search is a range of it.
    let sorted = |name: &'static str| {
        let mut column = ColumnDef::new(name);
        column.string().not_null();
        if backend == DbBackend::Postgres {
            column.extra("COLLATE \"C\"");
        }
        column
    };
    Table::create()
        .table("users")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("handle").string().not_null().unique_key())
        .col(ColumnDef::new("first_name").string().not_null())
        .col(ColumnDef::new("last_name").string().not_null())
        .col(sorted("name_search"))
        .col(sorted("last_name_search"))
        .col(ColumnDef::new("email").string().not_null())
        .col(
            ColumnDef::new("email_normalised")
                .string()
                .not_null()
                .unique_key(),
        )
        .col(ColumnDef::new("email_verified").boolean().not_null())
        .col(ColumnDef::new("role").string().not_null())
        .col(ColumnDef::new("password_hash").string().not_null())
        .col(ColumnDef::new("time_zone").string().not_null())
        .col(ColumnDef::new("locale").string().not_null())
        .col(ColumnDef::new("version").big_integer().not_null())
        .col(ColumnDef::new("grants_version").big_integer().not_null())
        .col(ColumnDef::new("verification_mail_at").big_integer().null())
        .col(ColumnDef::new("notice_at").big_integer().null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("updated_at").big_integer().not_null())
        .to_owned()
}

fn sessions() -> TableCreateStatement {
    Table::create()
        .table("sessions")
        .col(ColumnDef::new("id").uuid().not_null().primary_key())
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("device_name").string().not_null())
        .col(ColumnDef::new("ip").string().not_null())
        .col(ColumnDef::new("user_agent").string().not_null())
        .col(ColumnDef::new("remembered").boolean().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("last_seen_at").big_integer().not_null())
        .col(ColumnDef::new("expires_at").big_integer().not_null())
        .col(ColumnDef::new("ended_at").big_integer().null())
        .col(ColumnDef::new("end_reason").string().null())
        .foreign_key(&mut belongs_to("sessions", "user_id", "users"))
        .to_owned()
}

fn refresh_tokens() -> TableCreateStatement {
    Table::create()
        .table("refresh_tokens")
        .col(ColumnDef::new("hash").binary().not_null().primary_key())
        .col(ColumnDef::new("session_id").uuid().not_null())
        .col(ColumnDef::new("expires_at").big_integer().not_null())
        .col(ColumnDef::new("rotated_at").big_integer().null())
        .foreign_key(&mut belongs_to("refresh_tokens", "session_id", "sessions"))
        .to_owned()
}

fn email_tokens() -> TableCreateStatement {
    Table::create()
        .table("email_tokens")
        .col(ColumnDef::new("hash").binary().not_null().primary_key())
        .col(ColumnDef::new("user_id").uuid().not_null())
        .col(ColumnDef::new("email_normalised").string().not_null())
        .col(ColumnDef::new("created_at").big_integer().not_null())
        .col(ColumnDef::new("expires_at").big_integer().not_null())
        .foreign_key(&mut belongs_to("email_tokens", "user_id", "users"))
        .to_owned()
}

fn revocations() -> TableCreateStatement {
    Table::create()
        .table("revocations")
        .col(ColumnDef::new("session_id").uuid().not_null().primary_key())
        .col(ColumnDef::new("revoked_at").big_integer().not_null())
        .col(ColumnDef::new("until").big_integer().not_null())
        .to_owned()
}

fn attempts() -> TableCreateStatement {
    Table::create()
        .table("attempts")
        .col(ColumnDef::new("subject").string().not_null().primary_key())
        .col(ColumnDef::new("failures").integer().not_null())
        .col(ColumnDef::new("first_at").big_integer().not_null())
        .col(ColumnDef::new("last_at").big_integer().not_null())
        .to_owned()
}

fn belongs_to(
    table: &'static str,
    column: &'static str,
    owner: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("{table}_{column}_fk"))
        .from(table, column)
        .to(owner, "id")
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}
