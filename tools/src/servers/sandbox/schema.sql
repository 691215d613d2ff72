-- The warehouse of one environment. Prefixes tell the layer: src_ as delivered, stg_ typed, fact_ and dim_ published,
-- ops_ what the orchestrator and the data platform keep, _ the server's own books (no query can read them).

CREATE TABLE stg_flights (
  business_date TEXT NOT NULL, src_row INTEGER NOT NULL, carrier TEXT NOT NULL, flight INTEGER NOT NULL, tailnum TEXT,
  origin TEXT NOT NULL, dest TEXT NOT NULL, scheduled_at TEXT NOT NULL, sched_dep_time INTEGER NOT NULL, dep_time INTEGER,
  dep_delay INTEGER, arr_delay INTEGER, air_time INTEGER, distance INTEGER NOT NULL,
  PRIMARY KEY (business_date, src_row)) STRICT, WITHOUT ROWID;

CREATE TABLE fact_daily_carrier (
  business_date TEXT NOT NULL, carrier TEXT NOT NULL, flights INTEGER NOT NULL, cancelled INTEGER NOT NULL,
  delayed_15 INTEGER NOT NULL, dep_delay_minutes INTEGER NOT NULL, arr_delay_minutes INTEGER NOT NULL,
  PRIMARY KEY (business_date, carrier)) STRICT, WITHOUT ROWID;

CREATE TABLE fact_daily_route (
  business_date TEXT NOT NULL, origin TEXT NOT NULL, dest TEXT NOT NULL, flights INTEGER NOT NULL, cancelled INTEGER NOT NULL,
  delayed_15 INTEGER NOT NULL, dep_delay_minutes INTEGER NOT NULL, arr_delay_minutes INTEGER NOT NULL,
  PRIMARY KEY (business_date, origin, dest)) STRICT, WITHOUT ROWID;

CREATE TABLE dim_airline (carrier TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE dim_airport (faa TEXT PRIMARY KEY, name TEXT NOT NULL, tzone TEXT) STRICT, WITHOUT ROWID;

-- Which delivered column feeds which staged column; the stage task builds its statement from it.
CREATE TABLE ops_column_map (
  dataset TEXT NOT NULL, position INTEGER NOT NULL, column_name TEXT NOT NULL, source_column TEXT NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('TEXT', 'INTEGER')), PRIMARY KEY (dataset, column_name)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_contract (
  dataset TEXT NOT NULL, column_name TEXT NOT NULL, max_null_rate REAL NOT NULL, is_key INTEGER NOT NULL,
  PRIMARY KEY (dataset, column_name)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_deliveries (
  business_date TEXT NOT NULL, run_id TEXT NOT NULL, columns TEXT NOT NULL, rows INTEGER NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (business_date, run_id)) STRICT, WITHOUT ROWID;

CREATE TABLE ops_grants (
  principal TEXT NOT NULL, table_name TEXT NOT NULL, privilege TEXT NOT NULL CHECK (privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')),
  PRIMARY KEY (principal, table_name, privilege)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_access_policy (
  principal TEXT NOT NULL, table_name TEXT NOT NULL, privilege TEXT NOT NULL,
  PRIMARY KEY (principal, table_name, privilege)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_grant_log (at TEXT NOT NULL, statement TEXT NOT NULL, executed_by TEXT NOT NULL) STRICT;

CREATE TABLE ops_quarantine (
  quarantine_id INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, business_date TEXT NOT NULL, rule TEXT NOT NULL,
  reason TEXT NOT NULL, rows INTEGER NOT NULL, at TEXT NOT NULL, released_at TEXT) STRICT;
CREATE TABLE ops_quarantined_rows (
  quarantine_id INTEGER NOT NULL, business_date TEXT NOT NULL, src_row INTEGER NOT NULL, payload TEXT NOT NULL,
  PRIMARY KEY (quarantine_id, src_row)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_holds (
  hold_id INTEGER PRIMARY KEY AUTOINCREMENT, table_name TEXT NOT NULL, business_date TEXT NOT NULL, reason TEXT NOT NULL,
  at TEXT NOT NULL, released_at TEXT) STRICT;
CREATE TABLE ops_migrations (
  name TEXT PRIMARY KEY, up TEXT NOT NULL, down TEXT NOT NULL, state TEXT NOT NULL, at TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE ops_runs (
  run_id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, business_date TEXT NOT NULL, trigger TEXT NOT NULL, attempt INTEGER NOT NULL,
  state TEXT NOT NULL, started_at TEXT NOT NULL, finished_at TEXT NOT NULL, error TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE ops_tasks (
  run_id TEXT NOT NULL, position INTEGER NOT NULL, task TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
  rows_in INTEGER NOT NULL, rows_out INTEGER NOT NULL, exception TEXT, message TEXT, PRIMARY KEY (run_id, position)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_log (
  run_id TEXT NOT NULL, task TEXT NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (run_id, task, line)) STRICT, WITHOUT ROWID;
CREATE TABLE ops_run_stats (
  business_date TEXT PRIMARY KEY, run_id TEXT NOT NULL, rows_extracted INTEGER NOT NULL, rows_staged INTEGER NOT NULL,
  rows_quarantined INTEGER NOT NULL, flights_published INTEGER NOT NULL, null_rates TEXT NOT NULL, published_at TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE _meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE _effects (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, tool TEXT NOT NULL, arguments TEXT NOT NULL, idempotency_key TEXT, outcome TEXT NOT NULL, time TEXT NOT NULL) STRICT;
CREATE TABLE _idempotency (
  key TEXT PRIMARY KEY, tool TEXT NOT NULL, arguments TEXT NOT NULL, result TEXT NOT NULL, effect INTEGER NOT NULL) STRICT, WITHOUT ROWID;

INSERT INTO ops_column_map VALUES
  ('stg_flights', 1, 'carrier', 'carrier', 'TEXT'), ('stg_flights', 2, 'flight', 'flight', 'INTEGER'),
  ('stg_flights', 3, 'tailnum', 'tailnum', 'TEXT'), ('stg_flights', 4, 'origin', 'origin', 'TEXT'),
  ('stg_flights', 5, 'dest', 'dest', 'TEXT'), ('stg_flights', 6, 'scheduled_at', 'time_hour', 'TEXT'),
  ('stg_flights', 7, 'sched_dep_time', 'sched_dep_time', 'INTEGER'), ('stg_flights', 8, 'dep_time', 'dep_time', 'INTEGER'),
  ('stg_flights', 9, 'dep_delay', 'dep_delay', 'INTEGER'), ('stg_flights', 10, 'arr_delay', 'arr_delay', 'INTEGER'),
  ('stg_flights', 11, 'air_time', 'air_time', 'INTEGER'), ('stg_flights', 12, 'distance', 'distance', 'INTEGER');

INSERT INTO ops_contract VALUES
  ('stg_flights', 'carrier', 0.0, 1), ('stg_flights', 'flight', 0.0, 1), ('stg_flights', 'origin', 0.0, 1),
  ('stg_flights', 'dest', 0.0, 1), ('stg_flights', 'scheduled_at', 0.0, 1), ('stg_flights', 'sched_dep_time', 0.0, 0),
  ('stg_flights', 'distance', 0.0, 0);

INSERT INTO ops_access_policy
  SELECT 'etl_writer', t.column1, p.column1
  FROM (VALUES ('src_flights'), ('stg_flights'), ('fact_daily_carrier'), ('fact_daily_route')) t,
       (VALUES ('SELECT'), ('INSERT'), ('DELETE')) p;
INSERT INTO ops_access_policy
  SELECT 'reporting', column1, 'SELECT'
  FROM (VALUES ('fact_daily_carrier'), ('fact_daily_route'), ('dim_airline'), ('dim_airport'));
INSERT INTO ops_grants SELECT * FROM ops_access_policy;
