//! Indexes of what is due hold nothing else: neither the queued nor the final messages, which are nearly all.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Index, table and columns; the first is the time.
const DUE: [(&str, &str, &[&str]); 2] = [
    ("sms_messages_due", "sms_messages", &["due_at"]),
    ("sms_schedules_claim", "sms_schedules", &["claim_at", "id"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table, columns) in DUE {
            drop(manager, name, table).await?;
            let mut create = index(name, table, columns);
            create.and_where(Expr::col(columns[0]).is_not_null());
            manager.create_index(create).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table, columns) in DUE {
            drop(manager, name, table).await?;
            manager
                .create_index(index(name, table, &columns[..1]))
                .await?;
        }
        Ok(())
    }
}

async fn drop(manager: &SchemaManager<'_>, name: &str, table: &'static str) -> Result<(), DbErr> {
    let gone = Index::drop().name(name).table(table).to_owned();
    manager.drop_index(gone).await
}

fn index(name: &str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(*column);
    }
    index
}
