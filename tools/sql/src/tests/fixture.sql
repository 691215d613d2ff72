-- What the recorded cases speak of, and two accounts that own nothing of it.
CREATE ROLE agent_ro LOGIN;
CREATE ROLE agent_rw LOGIN;
CREATE ROLE etl LOGIN;
CREATE TABLE events (id int PRIMARY KEY, msg text, payload jsonb, created_at timestamptz NOT NULL, updated_at timestamptz, deleted_at timestamptz);
INSERT INTO events SELECT g, 'event ' || g, jsonb_build_object('user', jsonb_build_object('id', g % 50)),
  timestamptz '2026-03-01 00:00+00' + g * interval '1 minute' FROM generate_series(1, 20000) g;
CREATE TABLE orders (id serial PRIMARY KEY, event_id int, amount numeric(12,2), status text, created_at timestamptz NOT NULL DEFAULT '2026-03-31 12:00+00');
INSERT INTO orders (event_id, amount, status) SELECT g, CASE WHEN g % 10 = 0 THEN NULL ELSE g * 1.5 END, CASE WHEN g % 2 = 0 THEN 'paid' ELSE 'new' END FROM generate_series(1, 40) g;
CREATE TABLE drop_requests (id int);
CREATE TABLE kw_columns ("update" text);
CREATE TABLE payroll (id int, salary int);
INSERT INTO payroll VALUES (1, 100);
CREATE TABLE huge (id int, body text);
CREATE VIEW v_orders AS SELECT id, status FROM orders;
CREATE VIEW orders_v AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW mv_totals AS SELECT status, sum(amount) AS total FROM orders GROUP BY status;
CREATE PROCEDURE rebuild_totals() LANGUAGE sql AS 'REFRESH MATERIALIZED VIEW mv_totals';
CREATE FUNCTION side_effect_fn() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER AS 'INSERT INTO payroll VALUES (2, 2); SELECT 1';
CREATE FUNCTION evil(orders) RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER AS 'INSERT INTO payroll VALUES (3, 3); SELECT 1';
CREATE VIEW v_calls_side_effect_fn AS SELECT side_effect_fn() AS x;
CREATE SCHEMA analytics;
CREATE SCHEMA dq;
CREATE SCHEMA ops;
CREATE TABLE dq.quarantine (source_table text NOT NULL, source_pk text NOT NULL, business_date date, reason text NOT NULL,
  payload jsonb, quarantined_by text NOT NULL DEFAULT current_user, quarantined_at timestamptz NOT NULL DEFAULT now(),
  released_at timestamptz, PRIMARY KEY (source_table, source_pk));
CREATE TABLE ops.column_map (pipeline text NOT NULL, source_column text NOT NULL, target_column text NOT NULL, PRIMARY KEY (pipeline, target_column));
INSERT INTO ops.column_map VALUES ('sales', 'unit_price', 'unit_price');
GRANT USAGE ON SCHEMA public, analytics, dq, ops TO agent_ro, agent_rw, etl;
GRANT SELECT ON ALL TABLES IN SCHEMA public, dq, ops TO agent_ro;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, dq, ops TO agent_rw;
GRANT CREATE ON SCHEMA public, ops TO agent_rw;
GRANT SELECT ON events TO agent_rw WITH GRANT OPTION;
GRANT SELECT ON orders TO agent_rw WITH GRANT OPTION;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO agent_rw;
REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean), pg_catalog.pg_sleep(float8), pg_catalog.lo_create(oid),
  pg_catalog.lo_from_bytea(oid, bytea), pg_catalog.pg_notify(text, text), pg_catalog.pg_advisory_lock(bigint),
  pg_catalog.pg_cancel_backend(int), pg_catalog.pg_logical_emit_message(boolean, text, text),
  pg_catalog.query_to_xml(text, boolean, boolean, text), pg_catalog.ts_stat(text) FROM PUBLIC;
ANALYZE;
UPDATE pg_class SET reltuples = 50000000 WHERE relname = 'huge';
