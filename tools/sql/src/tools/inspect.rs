//! Tools that look at the shape of things: `list_tables`, `describe_table`, `table_privileges`, `compare_schema`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{App, Call, sqlite, table};
use crate::config::{Connection, Database, Relation, quoted};
use crate::error::{Result, SqlError};
use crate::guard::{Effect, Environment};

/// Most relations in one answer.
const RELATIONS_MAX: usize = 2_000;
/// Most columns of a contract.
const CONTRACT_COLUMNS_MAX: usize = 2_000;

/// Arguments of `list_tables`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListTables {
    /// Name of a connection.
    pub connection: String,
    /// Only this schema.
    pub schema: Option<String>,
}

/// One relation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TableBrief {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `table`, `view`, `materialized view` or `foreign table`.
    pub kind: String,
    /// About how many rows; absent for a view.
    pub rows: Option<i64>,
}

/// Relations of a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tables {
    /// Where the connection leads.
    pub environment: Environment,
    /// Those that the role may use.
    pub tables: Vec<TableBrief>,
}

/// Arguments of `describe_table` and `table_privileges`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfTable {
    /// Name of a connection.
    pub connection: String,
    /// `schema.table`, or a table of the connection's first schema.
    pub table: String,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ColumnShape {
    /// Name.
    pub name: String,
    /// Type in the database's words.
    pub data_type: String,
    /// Whether it may be null.
    pub nullable: bool,
    /// Default, as written.
    pub default: Option<String>,
}

/// Shape of a relation.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shape {
    /// Schema and name.
    pub table: String,
    /// Columns in order.
    pub columns: Vec<ColumnShape>,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// Keys, checks and indexes as written.
    pub constraints: Vec<String>,
    /// What its owner says of it.
    pub comment: Option<String>,
}

/// One privilege.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Grant {
    /// Who has it; `PUBLIC` is everyone.
    pub grantee: String,
    /// `SELECT`, `INSERT` and so on.
    pub privilege: String,
    /// Whether they may pass it on.
    pub grantable: bool,
}

/// Who may do what with a table.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Privileges {
    /// Schema and name.
    pub table: String,
    /// Its owner, who may do everything.
    pub owner: String,
    /// Granted privileges.
    pub grants: Vec<Grant>,
    /// Whether the grantees may use the schema: those who may not see no table in it.
    pub schema_usage: Vec<String>,
    /// The account of this connection.
    pub connected_as: String,
}

/// Arguments of `compare_schema`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareSchema {
    /// Name of the connection that is looked at.
    pub connection: String,
    /// Table there.
    pub table: String,
    /// Connection to compare with; the same one if absent.
    pub with_connection: Option<String>,
    /// Table to compare with; the same name if absent.
    pub with_table: Option<String>,
    /// Columns that are expected, by name with their type (empty: any), in place of a table to compare with.
    pub contract: Option<BTreeMap<String, String>>,
}

/// A column whose type is another.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TypeChange {
    /// Column.
    pub column: String,
    /// Type that was expected.
    pub expected: String,
    /// Type that is there.
    pub found: String,
}

/// A column that probably has another name now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rename {
    /// Name that was expected.
    pub from: String,
    /// Name that is there.
    pub to: String,
    /// Why it looks like that.
    pub because: String,
}

/// Differences between two shapes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// What was looked at.
    pub table: String,
    /// What it was compared with.
    pub compared_with: String,
    /// Whether there is no difference.
    pub same: bool,
    /// Expected and not there.
    pub missing: Vec<String>,
    /// There and not expected.
    pub extra: Vec<String>,
    /// Of another type.
    pub changed: Vec<TypeChange>,
    /// Pairs of missing and extra columns that look like one.
    pub likely_renames: Vec<Rename>,
}

/// Relations that the role may use.
///
/// # Errors
/// If the catalog cannot be read.
pub async fn list_tables(app: &App, args: ListTables, call: &Call) -> Result<Tables> {
    let connection = app.connection(&args.connection)?;
    let schemas = args.schema.map_or_else(|| connection.schemas.clone(), |schema| vec![schema]);
    let mut tables = match connection.database {
        Database::Postgres(_) => {
            let sql = "SELECT n.nspname::text, c.relname::text, \
                         CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' \
                         ELSE 'table' END, \
                         CASE WHEN c.relkind IN ('r', 'p', 'm') AND c.reltuples >= 0 THEN c.reltuples::bigint END \
                       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                       WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname::text = ANY($1) ORDER BY 1, 2 LIMIT $2";
            let most = i64::try_from(RELATIONS_MAX).unwrap_or(i64::MAX);
            let read =
                app.postgres(connection, call, Effect::Reads, async |t| Ok(t.query(sql, &[&schemas, &most]).await?));
            let brief = |row: &tokio_postgres::Row| TableBrief {
                schema: row.get(0),
                name: row.get(1),
                kind: row.get(2),
                rows: row.get(3),
            };
            read.await?.iter().map(brief).collect()
        }
        Database::Sqlite(_) => sqlite(connection, call, Effect::Reads, |lite| lite_tables(lite.own())).await?,
    };
    tables.retain(|t: &TableBrief| connection.role.may_use(&t.schema, &t.name));
    Ok(Tables { environment: connection.environment, tables })
}

fn lite_tables(own: &rusqlite::Connection) -> Result<Vec<TableBrief>> {
    let sql = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite~_%' ESCAPE '~' \
               ORDER BY name LIMIT 2000";
    let mut found = own.prepare(sql)?;
    let named = found.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut tables = Vec::new();
    for pair in named {
        let (name, kind) = pair?;
        let count = format!("SELECT count(*) FROM {}", quoted(&name));
        let rows = if kind == "table" { Some(own.query_row(&count, [], |row| row.get(0))?) } else { None };
        tables.push(TableBrief { schema: "main".to_owned(), name, kind, rows });
    }
    Ok(tables)
}

/// Columns, keys and comment of a table.
///
/// # Errors
/// If there is no such table, or it is not the role's.
pub async fn describe_table(app: &App, args: OfTable, call: &Call) -> Result<Shape> {
    let connection = app.connection(&args.connection)?;
    let named = table(connection, &args.table)?;
    let shape = shape(app, connection, &named, call).await?;
    if shape.columns.is_empty() {
        return Err(SqlError::not_found(format!("no table {named} on connection {}", connection.name)));
    }
    Ok(shape)
}

async fn shape(app: &App, connection: &Connection, named: &Relation, call: &Call) -> Result<Shape> {
    match connection.database {
        Database::Postgres(_) => postgres_shape(app, connection, named, call).await,
        Database::Sqlite(_) => {
            let named = named.clone();
            sqlite(connection, call, Effect::Reads, move |lite| lite_shape(lite.own(), &named)).await
        }
    }
}

async fn postgres_shape(app: &App, connection: &Connection, named: &Relation, call: &Call) -> Result<Shape> {
    let at = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1 ";
    let columns = format!(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, \
           pg_catalog.pg_get_expr(d.adbin, d.adrelid) {at} \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
         WHERE c.relname = $2 ORDER BY a.attnum"
    );
    let key = format!(
        "SELECT a.attname::text {at} JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey) \
         WHERE c.relname = $2 ORDER BY array_position(i.indkey::int2[], a.attnum)"
    );
    let rules = format!(
        "SELECT x.conname || ' ' || pg_catalog.pg_get_constraintdef(x.oid) {at} \
         JOIN pg_catalog.pg_constraint x ON x.conrelid = c.oid WHERE c.relname = $2 \
         UNION ALL SELECT pg_catalog.pg_get_indexdef(i.indexrelid) {at} \
         JOIN pg_catalog.pg_index i ON i.indrelid = c.oid WHERE c.relname = $2 ORDER BY 1"
    );
    let comment = format!("SELECT pg_catalog.obj_description(c.oid, 'pg_class') {at} WHERE c.relname = $2");
    app.postgres(connection, call, Effect::Reads, async |t| {
        let (schema, name) = (&named.schema, &named.name);
        let words = async |sql: &str| -> Result<Vec<String>> {
            Ok(t.query(sql, &[schema, name]).await?.iter().filter_map(|row| row.get::<_, Option<String>>(0)).collect())
        };
        let column = |row: &tokio_postgres::Row| ColumnShape {
            name: row.get(0),
            data_type: row.get(1),
            nullable: row.get(2),
            default: row.get(3),
        };
        Ok(Shape {
            table: named.to_string(),
            columns: t.query(&columns, &[schema, name]).await?.iter().map(column).collect(),
            primary_key: words(&key).await?,
            constraints: words(&rules).await?,
            comment: words(&comment).await?.into_iter().next(),
        })
    })
    .await
}

fn lite_shape(own: &rusqlite::Connection, named: &Relation) -> Result<Shape> {
    let mut found = own.prepare("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)")?;
    let mut primary_key = Vec::new();
    let mut columns = Vec::new();
    let mut rows = found.query([&named.name])?;
    while let Some(row) = rows.next()? {
        let column = ColumnShape {
            name: row.get(0)?,
            data_type: row.get(1)?,
            nullable: row.get::<_, i64>(2)? == 0,
            default: row.get(3)?,
        };
        if row.get::<_, i64>(4)? > 0 {
            primary_key.push(column.name.clone());
        }
        columns.push(column);
    }
    let mut indexes =
        own.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL ORDER BY name")?;
    let constraints = indexes.query_map([&named.name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Shape { table: named.to_string(), columns, primary_key, constraints, comment: None })
}

/// Who may do what with a table.
///
/// # Errors
/// If there is no such table, or it is not the role's.
pub async fn table_privileges(app: &App, args: OfTable, call: &Call) -> Result<Privileges> {
    let connection = app.connection(&args.connection)?;
    let named = table(connection, &args.table)?;
    let owner = "SELECT pg_catalog.pg_get_userbyid(c.relowner)::text, current_user::text FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let who = "CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END";
    let grants = format!(
        "SELECT {who}, x.privilege_type, x.is_grantable FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
         LATERAL pg_catalog.aclexplode(COALESCE(c.relacl, pg_catalog.acldefault('r', c.relowner))) x \
         WHERE n.nspname = $1 AND c.relname = $2 AND x.grantee <> c.relowner ORDER BY 1, 2"
    );
    let usage = format!(
        "SELECT DISTINCT {who} FROM pg_catalog.pg_namespace n, \
         LATERAL pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) x \
         WHERE n.nspname = $1 AND x.privilege_type = 'USAGE' ORDER BY 1"
    );
    app.postgres(connection, call, Effect::Reads, async |t| {
        let found = t.query_opt(owner, &[&named.schema, &named.name]).await?;
        let found =
            found.ok_or_else(|| SqlError::not_found(format!("no table {named} on connection {}", connection.name)))?;
        let grant =
            |row: &tokio_postgres::Row| Grant { grantee: row.get(0), privilege: row.get(1), grantable: row.get(2) };
        Ok(Privileges {
            table: named.to_string(),
            owner: found.get(0),
            grants: t.query(&grants, &[&named.schema, &named.name]).await?.iter().map(grant).collect(),
            schema_usage: t.query(&usage, &[&named.schema]).await?.iter().map(|row| row.get(0)).collect(),
            connected_as: found.get(1),
        })
    })
    .await
}

/// Differences between a table and another one, or a contract.
///
/// # Errors
/// If one of the tables does not exist, or is not the role's.
pub async fn compare_schema(app: &App, args: CompareSchema, call: &Call) -> Result<Comparison> {
    let connection = app.connection(&args.connection)?;
    let named = table(connection, &args.table)?;
    let found =
        describe_table(app, OfTable { connection: args.connection.clone(), table: args.table.clone() }, call).await?;
    let (compared_with, expected) = match args.contract {
        Some(contract) if contract.len() > CONTRACT_COLUMNS_MAX => {
            return Err(SqlError::invalid(format!("a contract has at most {CONTRACT_COLUMNS_MAX} columns")));
        }
        Some(contract) => ("contract".to_owned(), contract.into_iter().collect::<Vec<_>>()),
        None => {
            let other = args.with_connection.unwrap_or(args.connection);
            let table = args.with_table.unwrap_or(args.table);
            let shape = describe_table(app, OfTable { connection: other.clone(), table }, call).await?;
            let columns = shape.columns.into_iter().map(|c| (c.name, c.data_type)).collect();
            (format!("{} on {other}", shape.table), columns)
        }
    };
    Ok(compare(named.to_string(), compared_with, &expected, &found.columns))
}

fn compare(table: String, compared_with: String, expected: &[(String, String)], found: &[ColumnShape]) -> Comparison {
    let there = |name: &str| found.iter().find(|column| column.name == name);
    let wanted = |name: &str| expected.iter().any(|(expected, _)| expected == name);
    let missing: Vec<&(String, String)> = expected.iter().filter(|(name, _)| there(name).is_none()).collect();
    let extra: Vec<&ColumnShape> = found.iter().filter(|column| !wanted(&column.name)).collect();
    let changed: Vec<TypeChange> = expected
        .iter()
        .filter_map(|(name, data_type)| {
            let column =
                there(name).filter(|c| !data_type.is_empty() && !c.data_type.eq_ignore_ascii_case(data_type))?;
            Some(TypeChange { column: name.clone(), expected: data_type.clone(), found: column.data_type.clone() })
        })
        .collect();
    let likely_renames = missing.iter().filter_map(|wanted| rename(wanted, &extra, expected, found)).collect();
    Comparison {
        same: missing.is_empty() && extra.is_empty() && changed.is_empty(),
        missing: missing.iter().map(|(name, _)| name.clone()).collect(),
        extra: extra.iter().map(|column| column.name.clone()).collect(),
        changed,
        likely_renames,
        table,
        compared_with,
    }
}

/// A missing column and an extra one of its type, at its place or with words in common.
fn rename(
    (name, data_type): &(String, String),
    extra: &[&ColumnShape],
    expected: &[(String, String)],
    found: &[ColumnShape],
) -> Option<Rename> {
    let same_type = |column: &&&ColumnShape| data_type.is_empty() || column.data_type.eq_ignore_ascii_case(data_type);
    let place = expected.iter().position(|(other, _)| other == name);
    let words = |text: &str| text.split('_').map(str::to_lowercase).collect::<Vec<_>>();
    let alike =
        |column: &ColumnShape| words(&column.name).iter().any(|word| word.len() > 2 && words(name).contains(word));
    let placed =
        |column: &ColumnShape| !data_type.is_empty() && found.iter().position(|c| c.name == column.name) == place;
    let candidates: Vec<&&ColumnShape> = extra.iter().filter(same_type).collect();
    let (to, because) = match candidates.as_slice() {
        [only] => (&only.name, "the only new column of its type"),
        several => match several.iter().find(|column| placed(column)) {
            Some(column) => (&column.name, "a new column of its type at its place"),
            None => {
                (&several.iter().find(|column| alike(column))?.name, "a new column of its type with a word in common")
            }
        },
    };
    Some(Rename { from: name.clone(), to: to.clone(), because: because.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_column_is_found_among_several_new_ones() {
        let column = |name: &str, data_type: &str| ColumnShape {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            nullable: true,
            default: None,
        };
        let expected = [("id", "bigint"), ("unit_price", "numeric(10,2)"), ("qty", "integer")]
            .map(|(name, data_type)| (name.to_owned(), data_type.to_owned()));
        let found = [
            column("id", "bigint"),
            column("price_per_unit", "numeric(10,2)"),
            column("discount", "numeric(10,2)"),
            column("qty", "bigint"),
        ];
        let answer = compare("t".to_owned(), "contract".to_owned(), &expected, &found);
        assert!(!answer.same);
        assert_eq!(answer.missing, ["unit_price"]);
        assert_eq!(answer.extra, ["price_per_unit", "discount"]);
        assert_eq!(answer.changed.iter().map(|c| c.column.as_str()).collect::<Vec<_>>(), ["qty"]);
        let [rename] = answer.likely_renames.as_slice() else { panic!("{answer:?}") };
        assert_eq!((rename.from.as_str(), rename.to.as_str()), ("unit_price", "price_per_unit"));
    }
}
