//! Rights of the service's role that exceed its needs.

use crate::store::{Store, StoreError};

impl Store {
    /// Describes excessive rights of the role, or returns `None`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn excessive_privileges(&self) -> Result<Option<&'static str>, StoreError> {
        const RIGHTS: &str = "select r.rolsuper, exists (
                select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = current_schema() and c.relkind in ('r', 'p') and pg_has_role(r.oid, c.relowner, 'member'))
            from pg_roles r where r.rolname = current_user";
        self.with_connection(async |client| {
            let row = client.query_one(RIGHTS, &[]).await?;
            let (is_superuser, is_owner): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
            Ok(match (is_superuser, is_owner) {
                (true, _) => Some("is a superuser"),
                (false, true) => Some("owns the tables"),
                (false, false) => None,
            })
        })
        .await
    }
}
