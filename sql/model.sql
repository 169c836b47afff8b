-- Model tables: promote, roll back, privileges, and tables that are not what they claim.
\getenv srcdir PG_ABS_SRCDIR
\set handmade :srcdir '/tests/handmade_model.sql'
\set QUIET on
\set ECHO none
\i :handmade
\set ECHO all
\set QUIET off
CREATE TABLE m OF llmapp.model_part (PRIMARY KEY (version, part));
\d m
-- no version, no live version, live version
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT handmade_version('m', 1, 2, 0, 1, 0);
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT llm_promote('m', 2);
SELECT llm_promote('m', 0);
SELECT llm_promote('m', -1);
SELECT llm_promote('m', 1);
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT llm_promote(NULL, 1), llm_drop_version('m', NULL);
-- promote and roll back
SELECT handmade_version('m', 2, 2, 0, 2, 1);
BEGIN;
SELECT llm_promote('m', 2);
SELECT llm_predict('m', '{1,2}'::real[]);
SAVEPOINT s;
SELECT llm_promote('m', 1);
SELECT llm_predict('m', '{1,2}'::real[]);
ROLLBACK TO s;
SELECT llm_predict('m', '{1,2}'::real[]);
ROLLBACK;
SELECT llm_predict('m', '{1,2}'::real[]);
-- a statement goes by its snapshot, a function's next statement by a new one
CREATE FUNCTION predict_and_promote() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    FOR version IN 1..2 LOOP
        PERFORM llm_promote('m', version);
        RETURN NEXT llm_predict('m', '{1,2}'::real[]);
    END LOOP;
    BEGIN
        UPDATE m SET meta = '{"live": 1}' WHERE version = 0;
        RETURN NEXT llm_predict('m', '{1,2}'::real[]);
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        RETURN NEXT llm_predict('m', '{1,2}'::real[]);
    END;
END $$;
SELECT * FROM predict_and_promote();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT llm_predict('m', x) FROM (VALUES ('{1,2}'::real[]), ('{3,4}')) AS v(x);
COMMIT;
-- drop
SELECT llm_drop_version('m', 2);
SELECT llm_drop_version('m', 3);
SELECT llm_drop_version('m', 0);
SELECT llm_promote('m', 1);
SELECT llm_drop_version('m', 2);
SELECT version, live, task, target, rows, metrics, bytes, job, problem FROM llmapp.model_versions WHERE model = 'm'::regclass;
-- the same number again is another version
SELECT handmade_version('m', 2, 2, 0, 3, 0);
BEGIN;
SELECT llm_promote('m', 2);
SELECT llm_predict('m', '{1,2}'::real[]);
DELETE FROM m WHERE version = 2;
SELECT handmade_version('m', 2, 2, 0, 0, 1);
SELECT llm_predict('m', '{1,2}'::real[]);
ROLLBACK;
BEGIN;
CREATE TABLE again OF llmapp.model_part (PRIMARY KEY (version, part));
SELECT handmade_version('again', 1, 2, 0, 1, 0);
SELECT llm_promote('again', 1);
SELECT llm_predict('again', '{1,2}'::real[]);
TRUNCATE again;
SELECT handmade_version('again', 1, 2, 0, 1, 1);
SELECT llm_promote('again', 1);
SELECT llm_predict('again', '{1,2}'::real[]);
DROP TABLE again;
CREATE TABLE again OF llmapp.model_part (PRIMARY KEY (version, part));
SELECT llm_predict('again', '{1,2}'::real[]);
ROLLBACK;
-- read-only transactions
BEGIN READ ONLY;
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT model, live_version, versions FROM llmapp.models WHERE name = 'm';
SELECT llm_promote('m', 1);
ROLLBACK;

-- privileges
CREATE ROLE regress_model_owner;
CREATE ROLE regress_model_reader LOGIN;
ALTER TABLE m OWNER TO regress_model_owner;
SET ROLE regress_model_reader;
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT llm_promote('m', 2);
SELECT llm_drop_version('m', 2);
SELECT name, owner, task, live_version, size > 0 AS sized, may_predict, problem FROM llmapp.models WHERE name = 'm';
SELECT count(*) FROM llmapp.model_versions;
SELECT count(*) FROM llmapp.model_settings;
RESET ROLE;
GRANT SELECT (meta) ON m TO regress_model_reader;
SET ROLE regress_model_reader;
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT count(data) FROM m;
SELECT name, owner, task, live_version, may_predict, problem FROM llmapp.models WHERE name = 'm';
SELECT version, setting, value, source FROM llmapp.model_settings WHERE model = 'm'::regclass ORDER BY 1, 2;
SELECT llm_promote('m', 2);
RESET ROLE;
-- rights are those of the user at each row, not of whoever opened the model
CREATE FUNCTION predict_as_owner(x real[]) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT llm_predict('m', x) $$;
REVOKE SELECT (meta) ON m FROM regress_model_reader;
SET ROLE regress_model_reader;
SELECT predict_as_owner('{1,2}');
SELECT llm_predict('m', '{1,2}'::real[]), predict_as_owner('{1,2}');
RESET ROLE;
-- promote needs the rights of what it writes; code that the owner attached runs for the owner only
GRANT SELECT, INSERT, UPDATE, DELETE ON m TO regress_model_reader;
SET ROLE regress_model_reader;
SELECT llm_promote('m', 2);
RESET ROLE;
CREATE FUNCTION trojan() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'runs as %', current_user; RETURN NEW; END $$;
CREATE TRIGGER trojan BEFORE UPDATE ON m FOR EACH ROW EXECUTE FUNCTION trojan();
SELECT llm_promote('m', 1);
SET ROLE regress_model_owner;
SELECT llm_promote('m', 1);
RESET ROLE;
DROP TRIGGER trojan ON m;
CREATE INDEX m_other ON m ((length(kind)));
SELECT llm_promote('m', 1);
DROP INDEX m_other;
SELECT llm_promote('m', 1);
REVOKE ALL ON m FROM regress_model_reader;
GRANT SELECT, INSERT ON m TO regress_model_reader;

-- relations that are not models
SELECT llm_predict(0, '{1,2}'::real[]);
SELECT llm_predict('pg_class', '{1,2}'::real[]);
SELECT llm_promote('pg_class', 1);
CREATE VIEW m_view AS SELECT * FROM m;
SELECT llm_predict('m_view', '{1,2}'::real[]);
CREATE TABLE m_copy AS SELECT * FROM m;
SELECT llm_predict('m_copy', '{1,2}'::real[]);
CREATE TABLE m_parts OF llmapp.model_part PARTITION BY LIST (version);
SELECT llm_predict('m_parts', '{1,2}'::real[]);
CREATE TABLE m_nokey OF llmapp.model_part;
INSERT INTO m_nokey SELECT * FROM m;
SELECT llm_predict('m_nokey', '{1,2}'::real[]);
CREATE UNIQUE INDEX ON m_nokey (version, part);
SELECT llm_predict('m_nokey', '{1,2}'::real[]);
CREATE TABLE m_otherkey OF llmapp.model_part (PRIMARY KEY (part, version));
SELECT llm_predict('m_otherkey', '{1,2}'::real[]);
CREATE TABLE m_deferred OF llmapp.model_part (PRIMARY KEY (version, part) DEFERRABLE);
SELECT llm_predict('m_deferred', '{1,2}'::real[]);
CREATE TABLE m_dropped (gone int, version int, part int, kind text, meta jsonb, data bytea, PRIMARY KEY (version, part));
ALTER TABLE m_dropped DROP COLUMN gone;
ALTER TABLE m_dropped OF llmapp.model_part;
SELECT llm_predict('m_dropped', '{1,2}'::real[]);
ALTER TABLE m ENABLE ROW LEVEL SECURITY;
SELECT llm_predict('m', '{1,2}'::real[]);
SELECT name, live_version, may_predict, problem FROM llmapp.models WHERE name = 'm';
ALTER TABLE m DISABLE ROW LEVEL SECURITY;
CREATE TABLE m_child (extra int) INHERITS (m_copy);
CREATE TABLE m_heir () INHERITS (m);
SELECT llm_predict('m', '{1,2}'::real[]);
DROP TABLE IF EXISTS m_heir;
SELECT name, may_predict, problem FROM llmapp.models WHERE problem IS NOT NULL ORDER BY name COLLATE "C";
DROP VIEW m_view;
DROP TABLE m_child, m_copy, m_parts, m_nokey, m_otherkey, m_deferred, m_dropped;

-- names that cannot become a model: refused before a job exists
CREATE TABLE taken (x int, y float8);
CREATE TABLE taken_model ();
CREATE DOMAIN taken_type AS int;
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."it's" ();
SELECT llm_train('taken', 'taken', target => 'y');
SELECT llm_train('taken_type', 'taken', target => 'y');
SELECT llm_train('"Odd schema"."it''s"', 'taken', target => 'y');
SELECT llm_train('pg_temp.fleeting', 'taken', target => 'y');
SELECT llm_train('no_schema.m', 'taken', target => 'y');
GRANT SELECT ON taken TO regress_model_reader;
GRANT USAGE ON SCHEMA "Odd schema" TO regress_model_reader;
SET ROLE regress_model_reader;
SELECT llm_train('"Odd schema".free', 'public.taken', target => 'y');
SELECT llm_train('public.m', 'public.taken', target => 'y');
RESET ROLE;
DROP TABLE "Odd schema"."it's";
DROP SCHEMA "Odd schema";
DROP TABLE taken, taken_model;
DROP DOMAIN taken_type;

-- rows that are not what they claim: each one an error, none a crash, and the views go on
CREATE TABLE hostile OF llmapp.model_part (PRIMARY KEY (version, part));
SELECT handmade_version('hostile', 1, 1000, 300, 1, 0);
SELECT llm_promote('hostile', 1);
-- What the model answers after a change, which is undone.
CREATE FUNCTION attack(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
    detail text;
    problems text;
BEGIN
    BEGIN
        EXECUTE change;
        BEGIN
            answer := 'predicts ' || llm_predict('hostile', array_fill(1::real, ARRAY[1000]));
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            answer := SQLSTATE || ': ' || CASE WHEN detail = '' THEN SQLERRM ELSE detail END;
        END;
        SELECT string_agg(concat_ws('|', m.live_version, v.version, v.trained_at, v.rows, s.setting), ',') INTO problems
        FROM llmapp.models m LEFT JOIN llmapp.model_versions v USING (model) LEFT JOIN llmapp.model_settings s USING (model);
        RAISE SQLSTATE 'ZZ000';
    EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
        RETURN answer;
    END;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT a.change, attack('UPDATE hostile SET ' || a.change) FROM (VALUES
    -- weights
    ($$part = 3 WHERE part = 2$$),
    ($$part = -1 WHERE part = 2$$),
    ($$part = 2147483647 WHERE part = 2$$),
    ($$data = o.data FROM hostile o WHERE hostile.part + o.part = 3 AND o.part > 0 AND hostile.part > 0$$),
    ($$data = set_byte(data, 77, 1) WHERE part = 2$$),
    ($$data = data || '\x00' WHERE part = 2$$),
    ($$data = substring(data FROM 2) WHERE part = 1$$),
    ($$data = '' WHERE part = 1$$),
    ($$data = NULL WHERE part = 1$$),
    ($$data = decode(repeat('00', 10000000), 'hex') WHERE part = 1$$),
    ($$kind = NULL WHERE part = 1$$),
    ($$kind = 'manifest' WHERE part = 1$$),
    -- head
    ($$kind = repeat('x', 10000000) WHERE version = 0$$),
    ($$kind = 'weights' WHERE version = 0$$),
    ($$meta = NULL WHERE version = 0$$),
    ($$meta = '{"live": 2}' WHERE version = 0$$),
    ($$meta = '{"live": 0}' WHERE version = 0$$),
    ($$meta = '{"live": -1}' WHERE version = 0$$),
    ($$meta = '{"live": 1e30}' WHERE version = 0$$),
    ($$meta = '{"live": "1"}' WHERE version = 0$$),
    ($$meta = '[]' WHERE version = 0$$),
    ($$meta = jsonb_build_object('live', 1, 'more', repeat('x', 10000)) WHERE version = 0$$),
    ($$version = 9 WHERE version = 0$$),
    -- manifest
    ($$version = 2147483647 WHERE version = 1$$),
    ($$part = -1 WHERE version = 1 AND part = 0$$),
    ($$kind = 'weights' WHERE version = 1 AND part = 0$$),
    ($$kind = NULL WHERE version = 1 AND part = 0$$),
    ($$meta = NULL WHERE version = 1$$),
    ($$meta = '{}' WHERE version = 1$$),
    ($$meta = '"text"' WHERE version = 1$$),
    ($$meta = '1e400' WHERE version = 1$$),
    ($$meta = (repeat('[', 3000) || repeat(']', 3000))::jsonb WHERE version = 1$$),
    ($$meta = jsonb_set(meta, '{format}', '2') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{weights,sha256}', '"00"') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{weights,sha256}', to_jsonb(repeat('0', 64))) WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{weights,bytes}', '1e18') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{weights,bytes}', '1e100') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{network,hidden}', '[65536, 65536, 65536]') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{network,hidden}', '[-1]') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{metrics}', '"text"') WHERE version = 1 AND part = 0$$),
    -- what does no harm
    ($$meta = jsonb_set(meta, '{lineage}', '{"trained_at": "never", "rows": 1e30, "job": "x"}') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{settings,epochs}', '1e-300') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{target,means,0}', '1e20') WHERE version = 1 AND part = 0$$),
    ($$meta = jsonb_set(meta, '{target,means,0}', '-12345678901234567890') WHERE version = 1 AND part = 0$$)
) AS a(change);
SELECT attack('DELETE FROM hostile WHERE part = 0'), attack('TRUNCATE hostile');
SELECT attack('INSERT INTO hostile VALUES (-5, 0, ''manifest'', ''{}'', NULL), (7, 3, ''weights'', NULL, ''''), (8, 0, NULL, NULL, NULL)');
-- a version whose cache file is there is not read again: its checksum says that it is the same
SELECT attack('DELETE FROM hostile WHERE version = 1 AND part > 0; UPDATE hostile SET meta = meta');
\pset format aligned
\pset tuples_only off
SELECT size, isdir FROM pg_ls_dir('llmapp') AS file, pg_stat_file('llmapp/' || file)
WHERE file LIKE 'pgsql_tmp.%.' || 'hostile'::regclass::oid || '.1';
INSERT INTO hostile VALUES (7, 3, 'weights', NULL, ''), (8, 0, NULL, NULL, NULL);
SELECT version, live, task, problem FROM llmapp.model_versions WHERE model = 'hostile'::regclass;
SELECT llm_promote('hostile', 7);
SELECT llm_promote('hostile', 8);
DROP TABLE hostile, m;
DROP ROLE regress_model_owner, regress_model_reader;
