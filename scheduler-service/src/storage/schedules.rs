//! Rows of schedules.

use jiff::Timestamp;
use platform::{Error, time};
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType, Query};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseTransaction, IntoActiveModel, QueryOrder,
    QuerySelect,
};

use super::{instant, micros};
use crate::domain::{Counts, Schedule, Status};

/// A row of `sms_schedules`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_schedules")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub user_id: Uuid,
    pub set_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub name: String,
    #[sea_orm(column_type = "Text")]
    pub message: String,
    #[sea_orm(column_type = "Text")]
    pub provider: String,
    #[sea_orm(column_type = "Text")]
    pub status: String,
    pub run_at: i64,
    pub claim_at: Option<i64>,
    pub charged_day: i64,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub version: i64,
    pub n_queued: i64,
    pub n_sending: i64,
    pub n_sent: i64,
    pub n_enroute: i64,
    pub n_delivrd: i64,
    pub n_undeliv: i64,
    pub n_expired: i64,
    pub n_rejectd: i64,
    pub n_deleted: i64,
    pub n_unknown: i64,
    pub n_cancelled: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<&Schedule> for Model {
    fn from(s: &Schedule) -> Self {
        use crate::domain::MessageState as M;
        Self {
            id: s.id,
            user_id: s.user_id,
            set_id: s.set_id,
            name: s.name.clone(),
            message: s.message.clone(),
            provider: s.provider.clone(),
            status: s.status.as_str().to_owned(),
            run_at: time::to_micros(s.run_at),
            claim_at: micros(s.claim_at),
            charged_day: s.charged_day,
            created_at: time::to_micros(s.created_at),
            started_at: micros(s.started_at),
            finished_at: micros(s.finished_at),
            version: s.version,
            n_queued: s.counts.of(M::Queued),
            n_sending: s.counts.of(M::Sending),
            n_sent: s.counts.of(M::Sent),
            n_enroute: s.counts.of(M::Enroute),
            n_delivrd: s.counts.of(M::Delivrd),
            n_undeliv: s.counts.of(M::Undeliv),
            n_expired: s.counts.of(M::Expired),
            n_rejectd: s.counts.of(M::Rejectd),
            n_deleted: s.counts.of(M::Deleted),
            n_unknown: s.counts.of(M::Unknown),
            n_cancelled: s.counts.of(M::Cancelled),
        }
    }
}

impl TryFrom<Model> for Schedule {
    type Error = Error;

    fn try_from(m: Model) -> Result<Self, Error> {
        let Some(status) = Status::parse(&m.status) else {
            return Err(Error::internal(anyhow::anyhow!(
                "schedule {} has the status {:?}",
                m.id,
                m.status
            )));
        };
        Ok(Self {
            id: m.id,
            user_id: m.user_id,
            set_id: m.set_id,
            name: m.name,
            message: m.message,
            provider: m.provider,
            status,
            run_at: time::from_micros(m.run_at),
            // In the order of MessageState::ALL.
            counts: Counts::from_array([
                m.n_queued,
                m.n_sending,
                m.n_sent,
                m.n_enroute,
                m.n_delivrd,
                m.n_undeliv,
                m.n_expired,
                m.n_rejectd,
                m.n_deleted,
                m.n_unknown,
                m.n_cancelled,
            ]),
            claim_at: instant(m.claim_at),
            charged_day: m.charged_day,
            created_at: time::from_micros(m.created_at),
            started_at: instant(m.started_at),
            finished_at: instant(m.finished_at),
            version: m.version,
        })
    }
}

/// Adds a schedule.
pub(crate) async fn insert(tx: &DatabaseTransaction, schedule: &Schedule) -> Result<(), Error> {
    let row = Model::from(schedule).into_active_model().reset_all();
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Writes a schedule that this transaction has locked.
pub(crate) async fn save(tx: &DatabaseTransaction, schedule: &Schedule) -> Result<(), Error> {
    let row = Model::from(schedule).into_active_model().reset_all();
    Entity::update(row).exec(tx).await?;
    Ok(())
}

/// The user's schedule of an id.
pub(crate) async fn find(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Schedule>, Error> {
    let row = Entity::find_by_id(id)
        .filter(Column::UserId.eq(user_id))
        .one(db)
        .await?;
    row.map(Schedule::try_from).transpose()
}

/// The user's schedule of an id, locked until the transaction ends.
pub(crate) async fn lock_own(
    tx: &DatabaseTransaction,
    user_id: Uuid,
    id: Uuid,
) -> Result<Option<Schedule>, Error> {
    let row = Entity::find_by_id(id)
        .filter(Column::UserId.eq(user_id))
        .lock_exclusive()
        .one(tx)
        .await?;
    row.map(Schedule::try_from).transpose()
}

/// The schedule of an id, locked until the transaction ends; waits for whoever has locked it.
pub(crate) async fn lock(tx: &DatabaseTransaction, id: Uuid) -> Result<Vec<Schedule>, Error> {
    lock_where(tx, Column::Id.eq(id)).await
}

/// Schedules of these sets of recipients, locked in the order of their ids until the transaction ends.
pub(crate) async fn lock_by_sets(
    tx: &DatabaseTransaction,
    sets: &[Uuid],
) -> Result<Vec<Schedule>, Error> {
    lock_where(tx, Column::SetId.is_in(sets.iter().copied())).await
}

/// Schedules with something to claim at `now` that nobody else has locked, the longest waiting first, locked until the
/// transaction ends. Replicas that ask at once get different ones and nobody waits.
pub(crate) async fn lock_due(
    tx: &DatabaseTransaction,
    now: Timestamp,
    limit: u64,
) -> Result<Vec<Schedule>, Error> {
    let rows = Entity::find()
        .filter(Column::ClaimAt.lte(time::to_micros(now)))
        .order_by_asc(Column::ClaimAt)
        .order_by_asc(Column::Id)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(tx)
        .await?;
    rows.into_iter().map(Schedule::try_from).collect()
}

async fn lock_where(tx: &DatabaseTransaction, which: Expr) -> Result<Vec<Schedule>, Error> {
    let rows = Entity::find()
        .filter(which)
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(tx)
        .await?;
    rows.into_iter().map(Schedule::try_from).collect()
}

/// The schedule with something to claim at `now` that waits longest.
pub(crate) async fn first_due(
    db: &impl ConnectionTrait,
    now: Timestamp,
) -> Result<Option<Uuid>, Error> {
    let mut query = Query::select();
    query
        .column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::ClaimAt).lte(time::to_micros(now)))
        .order_by(Column::ClaimAt, sea_orm::Order::Asc)
        .order_by(Column::Id, sea_orm::Order::Asc)
        .limit(1);
    let row = db.query_one(&query).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
}

/// When the next schedule has something to claim.
pub(crate) async fn next_due(db: &impl ConnectionTrait) -> Result<Option<Timestamp>, Error> {
    let mut query = Query::select();
    query
        .expr(Expr::col(Column::ClaimAt).min())
        .from(Entity)
        .and_where(Expr::col(Column::ClaimAt).is_not_null());
    let row = db.query_one(&query).await?;
    let at = row
        .map(|row| row.try_get_by_index::<Option<i64>>(0))
        .transpose()?
        .flatten();
    Ok(instant(at))
}

/// Names of the providers of these sets of recipients.
pub(crate) async fn providers_of(
    db: &impl ConnectionTrait,
    sets: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<(Uuid, String)>, Error> {
    let rows = Entity::find()
        .select_only()
        .columns([Column::SetId, Column::Provider])
        .filter(Column::SetId.is_in(sets))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows)
}

/// A page of the user's schedules, newest first, of those with smaller ids than `before`.
pub(crate) async fn page(
    db: &impl ConnectionTrait,
    user_id: Uuid,
    status: Option<Status>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Schedule>, Error> {
    let mut query = Entity::find().filter(Column::UserId.eq(user_id));
    if let Some(status) = status {
        query = query.filter(Column::Status.eq(status.as_str()));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    let rows = query.order_by_desc(Column::Id).limit(limit).all(db).await?;
    rows.into_iter().map(Schedule::try_from).collect()
}
