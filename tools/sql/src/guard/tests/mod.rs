//! The guard against its cases: the recorded ones, our own, every position of an expression, and random nestings.

mod cases;
mod positions;

use super::*;

/// Roles, tables and catalog of the cases.
pub(super) fn role(name: &str) -> Role {
    let tables = ["events", "orders", "drop_requests", "kw_columns", "v_orders", "orders_v", "mv_totals", "huge"];
    let limits: &[&str] = if name == "data_analyst" {
        &["SELECT_ONLY", "MAX_ROWS_10000", "MAX_EXECUTION_TIME_30s"]
    } else {
        &["MAX_ROWS_10000", "MAX_EXECUTION_TIME_30s"]
    };
    let spec = RoleSpec {
        limits: limits.iter().map(ToString::to_string).collect(),
        tables: tables.iter().map(|t| format!("public.{t}")).chain(["analytics.*".to_owned()]).collect(),
        ..RoleSpec::default()
    };
    Role::new(&spec).unwrap()
}

pub(super) fn facts() -> Facts {
    let columns = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    let relation = |name: &str, rows, columns| {
        (("public".to_owned(), name.to_owned()), RelationFacts { rows: Some(rows), columns })
    };
    Facts {
        search_path: vec!["public".to_owned()],
        relations: BTreeMap::from([
            relation("events", 20_000, columns(&["id", "msg", "payload", "created_at", "updated_at", "deleted_at"])),
            relation("orders", 20_000, columns(&["id", "event_id", "amount", "status", "created_at"])),
            relation("drop_requests", 10, columns(&["id"])),
            relation("huge", 50_000_000, columns(&["id", "body"])),
        ]),
    }
}

pub(super) fn verdict(sql: &str, role_name: &str, environment: Environment) -> Decision {
    judge(sql, &role(role_name), environment, &facts())
}
