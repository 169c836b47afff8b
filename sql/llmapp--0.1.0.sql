\echo Use "CREATE EXTENSION llmapp" to load this file. \quit

-- Functions and the type tensor go to the schema of CREATE EXTENSION, tables and views to schema llmapp.
-- Nothing is replaced: an object of the same name ends the installation.

CREATE SCHEMA llmapp;
COMMENT ON SCHEMA llmapp IS 'tables and views of llmapp: models, jobs, progress';
GRANT USAGE ON SCHEMA llmapp TO PUBLIC;

CREATE FUNCTION llm_version() RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llm_version() IS 'version of the loaded llmapp library';

-- section: type

CREATE TYPE tensor;

CREATE FUNCTION tensor_in(cstring, oid, integer) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_in(cstring, oid, integer) IS 'text input of tensor';

CREATE FUNCTION tensor_out(tensor) RETURNS cstring
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_out(tensor) IS 'text output of tensor';

CREATE FUNCTION tensor_recv(internal, oid, integer) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_recv(internal, oid, integer) IS 'binary input of tensor';

CREATE FUNCTION tensor_send(tensor) RETURNS bytea
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_send(tensor) IS 'binary output of tensor';

CREATE FUNCTION tensor_typmod_in(cstring[]) RETURNS integer
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_typmod_in(cstring[]) IS 'shape of tensor(...) to type modifier';

CREATE FUNCTION tensor_typmod_out(integer) RETURNS cstring
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_typmod_out(integer) IS 'type modifier of tensor to its shape';

CREATE FUNCTION tensor_subscript(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_subscript(internal) IS 'subscripts of tensor';

CREATE TYPE tensor (
    INPUT = tensor_in, OUTPUT = tensor_out, RECEIVE = tensor_recv, SEND = tensor_send,
    TYPMOD_IN = tensor_typmod_in, TYPMOD_OUT = tensor_typmod_out, SUBSCRIPT = tensor_subscript,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = external
);
COMMENT ON TYPE tensor IS 'real numbers in 1 to 4 dimensions; tensor(28,28) holds only values of this shape';

CREATE FUNCTION tensor(tensor, integer, boolean) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor(tensor, integer, boolean) IS 'check the shape against the type modifier';

CREATE FUNCTION tensor_to_array(tensor) RETURNS real[]
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_to_array(tensor) IS 'tensor to array of the same shape';

CREATE FUNCTION tensor_to_jsonb(tensor) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_to_jsonb(tensor) IS 'tensor to nested JSON arrays';

CREATE FUNCTION tensor_to_json(tensor) RETURNS json
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_to_json(tensor) IS 'tensor to nested JSON arrays';

CREATE FUNCTION tensor_from_array(real[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(real[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_array(double precision[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(double precision[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_array(smallint[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(smallint[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_array(integer[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(integer[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_array(bigint[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(bigint[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_array(numeric[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_array(numeric[]) IS 'array to tensor of the same shape';

CREATE FUNCTION tensor_from_jsonb(jsonb) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_from_jsonb(jsonb) IS 'nested JSON arrays to tensor';

CREATE CAST (tensor AS tensor) WITH FUNCTION tensor(tensor, integer, boolean) AS IMPLICIT;
COMMENT ON CAST (tensor AS tensor) IS 'hold a value to the shape of its column';

CREATE CAST (tensor AS real[]) WITH FUNCTION tensor_to_array(tensor) AS IMPLICIT;
COMMENT ON CAST (tensor AS real[]) IS 'tensor to array of the same shape';

CREATE CAST (tensor AS jsonb) WITH FUNCTION tensor_to_jsonb(tensor) AS ASSIGNMENT;
COMMENT ON CAST (tensor AS jsonb) IS 'tensor to nested JSON arrays';

CREATE CAST (tensor AS json) WITH FUNCTION tensor_to_json(tensor) AS ASSIGNMENT;
COMMENT ON CAST (tensor AS json) IS 'tensor to nested JSON arrays, for to_jsonb(row) and row_to_json(row)';

CREATE CAST (real[] AS tensor) WITH FUNCTION tensor_from_array(real[]) AS ASSIGNMENT;
COMMENT ON CAST (real[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (double precision[] AS tensor) WITH FUNCTION tensor_from_array(double precision[]) AS ASSIGNMENT;
COMMENT ON CAST (double precision[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (smallint[] AS tensor) WITH FUNCTION tensor_from_array(smallint[]) AS ASSIGNMENT;
COMMENT ON CAST (smallint[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (integer[] AS tensor) WITH FUNCTION tensor_from_array(integer[]) AS ASSIGNMENT;
COMMENT ON CAST (integer[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (bigint[] AS tensor) WITH FUNCTION tensor_from_array(bigint[]) AS ASSIGNMENT;
COMMENT ON CAST (bigint[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (numeric[] AS tensor) WITH FUNCTION tensor_from_array(numeric[]) AS ASSIGNMENT;
COMMENT ON CAST (numeric[] AS tensor) IS 'array to tensor of the same shape';

CREATE CAST (jsonb AS tensor) WITH FUNCTION tensor_from_jsonb(jsonb) AS ASSIGNMENT;
COMMENT ON CAST (jsonb AS tensor) IS 'nested JSON arrays to tensor';

CREATE FUNCTION tensor_eq(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_eq(tensor, tensor) IS 'equal shape and elements';

CREATE FUNCTION tensor_ne(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_ne(tensor, tensor) IS 'different shape or elements';

CREATE FUNCTION tensor_lt(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_lt(tensor, tensor) IS 'less than, by rank, lengths, elements';

CREATE FUNCTION tensor_le(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_le(tensor, tensor) IS 'less than or equal, by rank, lengths, elements';

CREATE FUNCTION tensor_gt(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_gt(tensor, tensor) IS 'greater than, by rank, lengths, elements';

CREATE FUNCTION tensor_ge(tensor, tensor) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_ge(tensor, tensor) IS 'greater than or equal, by rank, lengths, elements';

CREATE FUNCTION tensor_cmp(tensor, tensor) RETURNS integer
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_cmp(tensor, tensor) IS 'order by rank, lengths, elements: -1, 0 or 1';

CREATE FUNCTION tensor_hash(tensor) RETURNS integer
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_hash(tensor) IS 'hash of tensor';

CREATE FUNCTION tensor_hash_extended(tensor, bigint) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_hash_extended(tensor, bigint) IS 'hash of tensor with a seed';

CREATE OPERATOR = (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_eq, COMMUTATOR = =, NEGATOR = <>,
    RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
COMMENT ON OPERATOR = (tensor, tensor) IS 'equal shape and elements';

CREATE OPERATOR <> (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_ne, COMMUTATOR = <>, NEGATOR = =,
    RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR <> (tensor, tensor) IS 'different shape or elements';

CREATE OPERATOR < (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_lt, COMMUTATOR = >, NEGATOR = >=,
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR < (tensor, tensor) IS 'less than, by rank, lengths, elements';

CREATE OPERATOR <= (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_le, COMMUTATOR = >=, NEGATOR = >,
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR <= (tensor, tensor) IS 'less than or equal, by rank, lengths, elements';

CREATE OPERATOR > (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_gt, COMMUTATOR = <, NEGATOR = <=,
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR > (tensor, tensor) IS 'greater than, by rank, lengths, elements';

CREATE OPERATOR >= (
    LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_ge, COMMUTATOR = <=, NEGATOR = <,
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR >= (tensor, tensor) IS 'greater than or equal, by rank, lengths, elements';

CREATE OPERATOR FAMILY tensor_ops USING btree;
COMMENT ON OPERATOR FAMILY tensor_ops USING btree IS 'order of tensors';
CREATE OPERATOR CLASS tensor_ops DEFAULT FOR TYPE tensor USING btree FAMILY tensor_ops AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
    FUNCTION 1 tensor_cmp(tensor, tensor);
COMMENT ON OPERATOR CLASS tensor_ops USING btree IS 'order of tensors: by rank, lengths, elements';

CREATE OPERATOR FAMILY tensor_ops USING hash;
COMMENT ON OPERATOR FAMILY tensor_ops USING hash IS 'equality of tensors';
CREATE OPERATOR CLASS tensor_ops DEFAULT FOR TYPE tensor USING hash FAMILY tensor_ops AS
    OPERATOR 1 =, FUNCTION 1 tensor_hash(tensor), FUNCTION 2 tensor_hash_extended(tensor, bigint);
COMMENT ON OPERATOR CLASS tensor_ops USING hash IS 'equality of tensors; -0 equals 0';

CREATE FUNCTION llm_shape(value tensor) RETURNS integer[]
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llm_shape(value tensor) IS 'lengths of the dimensions';

CREATE FUNCTION llm_reshape(value tensor, shape integer[]) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llm_reshape(value tensor, shape integer[]) IS 'the same elements in another shape; -1 stands for the length that fits';

CREATE FUNCTION tensor_add(tensor, tensor) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_add(tensor, tensor) IS 'sum, element by element';

CREATE FUNCTION tensor_subtract(tensor, tensor) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_subtract(tensor, tensor) IS 'difference, element by element';

CREATE FUNCTION tensor_multiply(tensor, tensor) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_multiply(tensor, tensor) IS 'product, element by element';

CREATE FUNCTION tensor_scale(tensor, double precision) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_scale(tensor, double precision) IS 'every element times a number';

CREATE FUNCTION tensor_scale(double precision, tensor) RETURNS tensor
    AS 'MODULE_PATHNAME', 'tensor_scale_commuted' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_scale(double precision, tensor) IS 'every element times a number';

CREATE FUNCTION tensor_distance(tensor, tensor) RETURNS double precision
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_distance(tensor, tensor) IS 'Euclidean distance';

CREATE FUNCTION tensor_negative_inner_product(tensor, tensor) RETURNS double precision
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_negative_inner_product(tensor, tensor) IS 'negative inner product';

CREATE OPERATOR + (LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_add, COMMUTATOR = +);
COMMENT ON OPERATOR + (tensor, tensor) IS 'sum, element by element';

CREATE OPERATOR - (LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_subtract);
COMMENT ON OPERATOR - (tensor, tensor) IS 'difference, element by element';

CREATE OPERATOR * (LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_multiply, COMMUTATOR = *);
COMMENT ON OPERATOR * (tensor, tensor) IS 'product, element by element';

CREATE OPERATOR * (LEFTARG = tensor, RIGHTARG = double precision, FUNCTION = tensor_scale, COMMUTATOR = *);
COMMENT ON OPERATOR * (tensor, double precision) IS 'every element times a number';

CREATE OPERATOR * (LEFTARG = double precision, RIGHTARG = tensor, FUNCTION = tensor_scale, COMMUTATOR = *);
COMMENT ON OPERATOR * (double precision, tensor) IS 'every element times a number';

CREATE OPERATOR <-> (LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_distance, COMMUTATOR = <->);
COMMENT ON OPERATOR <-> (tensor, tensor) IS 'Euclidean distance';

CREATE OPERATOR <#> (LEFTARG = tensor, RIGHTARG = tensor, FUNCTION = tensor_negative_inner_product, COMMUTATOR = <#>);
COMMENT ON OPERATOR <#> (tensor, tensor) IS 'negative inner product: ascending order puts the most similar first';

CREATE FUNCTION tensor_accumulate(internal, tensor) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tensor_accumulate(internal, tensor) IS 'add a row to the state of sum(tensor) and avg(tensor)';

CREATE FUNCTION tensor_combine(internal, internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tensor_combine(internal, internal) IS 'add the states of two processes';

CREATE FUNCTION tensor_serialize(internal) RETURNS bytea
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_serialize(internal) IS 'state of sum(tensor) and avg(tensor) as bytes';

CREATE FUNCTION tensor_deserialize(bytea, internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tensor_deserialize(bytea, internal) IS 'bytes as state of sum(tensor) and avg(tensor)';

CREATE FUNCTION tensor_sum(internal) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tensor_sum(internal) IS 'result of sum(tensor)';

CREATE FUNCTION tensor_avg(internal) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tensor_avg(internal) IS 'result of avg(tensor)';

CREATE AGGREGATE sum(tensor) (
    SFUNC = tensor_accumulate, STYPE = internal, SSPACE = 8192, FINALFUNC = tensor_sum,
    COMBINEFUNC = tensor_combine, SERIALFUNC = tensor_serialize, DESERIALFUNC = tensor_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE sum(tensor) IS 'sum of all tensors, element by element';

CREATE AGGREGATE avg(tensor) (
    SFUNC = tensor_accumulate, STYPE = internal, SSPACE = 8192, FINALFUNC = tensor_avg,
    COMBINEFUNC = tensor_combine, SERIALFUNC = tensor_serialize, DESERIALFUNC = tensor_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE avg(tensor) IS 'mean of all tensors, element by element';

CREATE FUNCTION llm_image(data bytea, width integer DEFAULT NULL, height integer DEFAULT NULL,
                          channels integer DEFAULT NULL) RETURNS tensor
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llm_image(bytea, integer, integer, integer) IS
    'PNG, JPEG, PGM or PPM file to tensor(channels, height, width) of 0 to 1; one side alone keeps the ratio, channels is 1 or 3';

-- section: model tables

CREATE TYPE llmapp.model_part AS (version int4, part int4, kind text, meta jsonb, data bytea);
COMMENT ON TYPE llmapp.model_part IS 'row of a model: every table OF this type with primary key (version, part) is one';
COMMENT ON COLUMN llmapp.model_part.version IS 'version of the model, from 1; 0 for the row that names the live version';
COMMENT ON COLUMN llmapp.model_part.part IS '0 for the manifest of a version, 1 and on for its weights';
COMMENT ON COLUMN llmapp.model_part.kind IS 'head, manifest or weights';
COMMENT ON COLUMN llmapp.model_part.meta IS 'manifest: network, columns, target, settings, metrics, lineage; SELECT on it allows to predict';
COMMENT ON COLUMN llmapp.model_part.data IS 'at most 1 MiB of the weights; SELECT on it allows to read them';

CREATE FUNCTION llm_promote(model regclass, version integer) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_promote(regclass, integer) IS 'make a version of a model live, in this transaction';

CREATE FUNCTION llm_drop_version(model regclass, version integer) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_drop_version(regclass, integer) IS 'remove a version that is not live from a model, in this transaction';

CREATE FUNCTION llm_quantise(model regclass, weights text DEFAULT 'q8_0') RETURNS integer
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_quantise(regclass, text) IS
    'add the live version of a language model once more with its weights kept as f32, bf16, f16, q8_0 or q4_0, in this transaction';

CREATE FUNCTION llm_import(model text, data bytea, params jsonb DEFAULT '{}') RETURNS regclass
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_import(text, bytea, jsonb) IS
    'make a safetensors or ONNX file the live version of a model, in this transaction; params says which network the former holds';

CREATE FUNCTION llm_import(model text, path text, params jsonb DEFAULT '{}', wait boolean DEFAULT false) RETURNS bigint
    AS 'MODULE_PATHNAME', 'llm_import_path' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION llm_import(text, text, jsonb, boolean) IS
    'start a job that makes a checkpoint or ONNX file of the server the live version of a model; needs pg_read_server_files';

CREATE FUNCTION llm_export(model regclass) RETURNS bytea
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION llm_export(regclass) IS
    'live version of a model as a safetensors file with the names and orders of PyTorch';

CREATE FUNCTION llm_export(model regclass, path text, format text DEFAULT 'safetensors') RETURNS bigint
    AS 'MODULE_PATHNAME', 'llm_export_path' LANGUAGE C VOLATILE STRICT COST 10000;
COMMENT ON FUNCTION llm_export(regclass, text, text) IS
    'write the live version of a model that reads texts as a checkpoint for other libraries, a new folder on the server or, as gguf, a new file; returns its bytes; needs pg_write_server_files';

CREATE FUNCTION llmapp.llm_describe_model(model oid, OUT task text, OUT architecture text, OUT target text,
                                          OUT live_version integer, OUT versions integer, OUT size bigint,
                                          OUT trained_at timestamptz, OUT rows bigint, OUT metrics jsonb,
                                          OUT may_predict boolean, OUT problem text) RETURNS record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT COST 10000;
COMMENT ON FUNCTION llmapp.llm_describe_model(oid) IS 'what the caller may know of a model; never an error';

CREATE FUNCTION llmapp.llm_describe_versions(model oid, OUT version integer, OUT live boolean, OUT task text,
                                             OUT architecture text, OUT target text, OUT trained_at timestamptz,
                                             OUT rows bigint, OUT metrics jsonb, OUT bytes bigint, OUT job bigint,
                                             OUT settings jsonb, OUT findings jsonb, OUT lineage jsonb,
                                             OUT problem text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT COST 10000 ROWS 5;
COMMENT ON FUNCTION llmapp.llm_describe_versions(oid) IS 'what the caller may know of the versions of a model; never an error';

CREATE VIEW llmapp.models AS
    SELECT c.oid::pg_catalog.regclass AS model, n.nspname::text AS schema, c.relname::text AS name,
           pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
           d.task, d.architecture, d.target, d.live_version, d.versions, d.size, d.trained_at, d.rows, d.metrics,
           d.may_predict, d.problem
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    CROSS JOIN LATERAL llmapp.llm_describe_model(c.oid) AS d
    WHERE c.reloftype OPERATOR(pg_catalog.=) 'llmapp.model_part'::pg_catalog.regtype::pg_catalog.oid
          AND c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog."char"
          AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)
          AND pg_catalog.has_schema_privilege(n.oid, 'USAGE');
COMMENT ON VIEW llmapp.models IS 'models of this database, with what the reader may know of their live version';
COMMENT ON COLUMN llmapp.models.model IS 'the model, as functions take it';
COMMENT ON COLUMN llmapp.models.live_version IS 'version that predicts; NULL for none';
COMMENT ON COLUMN llmapp.models.size IS 'bytes on disk, all versions';
COMMENT ON COLUMN llmapp.models.rows IS 'rows of the source of the live version';
COMMENT ON COLUMN llmapp.models.metrics IS 'quality of the live version on held-out rows';
COMMENT ON COLUMN llmapp.models.may_predict IS 'whether the reader may predict with the model and know what is in its manifest';
COMMENT ON COLUMN llmapp.models.problem IS 'why the model cannot be used';
GRANT SELECT ON llmapp.models TO PUBLIC;

CREATE VIEW llmapp.model_versions AS
    SELECT c.oid::pg_catalog.regclass AS model, v.version, v.live, v.task, v.architecture, v.target, v.trained_at,
           v.rows, v.metrics, v.bytes, v.job, v.findings, v.lineage, v.problem
    FROM pg_catalog.pg_class AS c
    CROSS JOIN LATERAL llmapp.llm_describe_versions(c.oid) AS v
    WHERE c.reloftype OPERATOR(pg_catalog.=) 'llmapp.model_part'::pg_catalog.regtype::pg_catalog.oid
          AND c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog."char"
          AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)
          AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE');
COMMENT ON VIEW llmapp.model_versions IS 'versions of the models that the reader may predict with';
COMMENT ON COLUMN llmapp.model_versions.live IS 'whether this version predicts';
COMMENT ON COLUMN llmapp.model_versions.rows IS 'rows of the source';
COMMENT ON COLUMN llmapp.model_versions.metrics IS 'quality on held-out rows';
COMMENT ON COLUMN llmapp.model_versions.bytes IS 'size of the weights, or of what a version that is kept apart from its base holds';
COMMENT ON COLUMN llmapp.model_versions.job IS 'job that trained the version';
COMMENT ON COLUMN llmapp.model_versions.findings IS 'what training noticed about the columns';
COMMENT ON COLUMN llmapp.model_versions.lineage IS 'where the version comes from: query, rows, fingerprint, seed, device, time';
COMMENT ON COLUMN llmapp.model_versions.problem IS 'why the version cannot be used';
GRANT SELECT ON llmapp.model_versions TO PUBLIC;

CREATE VIEW llmapp.model_settings AS
    SELECT c.oid::pg_catalog.regclass AS model, v.version, s.key AS setting,
           s.value OPERATOR(pg_catalog.->) 'value' AS value, s.value OPERATOR(pg_catalog.->>) 'source' AS source
    FROM pg_catalog.pg_class AS c
    CROSS JOIN LATERAL llmapp.llm_describe_versions(c.oid) AS v
    CROSS JOIN LATERAL pg_catalog.jsonb_each(v.settings) AS s
    WHERE c.reloftype OPERATOR(pg_catalog.=) 'llmapp.model_part'::pg_catalog.regtype::pg_catalog.oid
          AND c.relkind OPERATOR(pg_catalog.=) 'r'::pg_catalog."char"
          AND NOT pg_catalog.pg_is_other_temp_schema(c.relnamespace)
          AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE');
COMMENT ON VIEW llmapp.model_settings IS 'settings that trained the versions of the models that the reader may predict with';
COMMENT ON COLUMN llmapp.model_settings.source IS 'user, default, auto: chosen from the data, or search: found in a range';
GRANT SELECT ON llmapp.model_settings TO PUBLIC;

-- section: jobs

CREATE TABLE llmapp.job (
    job bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner regrole NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    version integer,
    status text NOT NULL
        CHECK (status IN ('queued', 'running', 'paused', 'interrupted', 'succeeded', 'failed', 'cancelled')),
    phase text,
    device text NOT NULL,
    spec jsonb NOT NULL,
    report jsonb NOT NULL DEFAULT '{}',
    sqlstate text,
    message text,
    detail text,
    hint text,
    submitted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    crashes integer NOT NULL DEFAULT 0,
    system_identifier bigint NOT NULL,
    server_started_at timestamptz NOT NULL
);
REVOKE ALL ON llmapp.job FROM PUBLIC;
COMMENT ON TABLE llmapp.job IS 'jobs of all roles; read llmapp.jobs instead. Not dumped: a job belongs to one server';
COMMENT ON COLUMN llmapp.job.owner IS 'role that submitted the job and as which it runs';
COMMENT ON COLUMN llmapp.job.status IS 'as last written; llmapp.jobs shows interrupted for a running job whose worker is gone';
COMMENT ON COLUMN llmapp.job.phase IS 'phase in which the job failed or stopped';
COMMENT ON COLUMN llmapp.job.spec IS 'what was asked for, all names resolved, with the settings of the session that matter';
COMMENT ON COLUMN llmapp.job.report IS 'findings about the rows, counts, and how the result was judged';
COMMENT ON COLUMN llmapp.job.crashes IS 'ends of the server while the job ran, since it was last resumed by hand';
COMMENT ON COLUMN llmapp.job.system_identifier IS 'server that queued or ran the job; another one does not run it by itself';
COMMENT ON COLUMN llmapp.job.server_started_at IS 'start of the server under which the job was queued or last ran';
CREATE INDEX job_unfinished ON llmapp.job (job) WHERE status IN ('queued', 'running', 'interrupted');
COMMENT ON INDEX llmapp.job_unfinished IS 'finds the next queued job among many finished ones';
CREATE INDEX job_embedding ON llmapp.job ((spec ->> 'target')) WHERE kind = 'embed';
COMMENT ON INDEX llmapp.job_embedding IS 'finds the job of a table of embeddings';

CREATE TABLE llmapp.job_metric (
    job bigint NOT NULL REFERENCES llmapp.job ON DELETE CASCADE,
    step bigint NOT NULL,
    epoch double precision NOT NULL,
    split text NOT NULL,
    metric text NOT NULL,
    value double precision NOT NULL,
    at timestamptz NOT NULL,
    trial integer NOT NULL,
    fold integer NOT NULL
);
REVOKE ALL ON llmapp.job_metric FROM PUBLIC;
COMMENT ON COLUMN llmapp.job_metric.trial IS 'trial of the job, from 1; 0 when it has none';
COMMENT ON COLUMN llmapp.job_metric.fold IS 'fold of the trial, from 1; 0 when it has none';
COMMENT ON TABLE llmapp.job_metric IS 'measured values of jobs of all roles; read llmapp.job_metrics instead. Not dumped';
CREATE INDEX job_metric_job ON llmapp.job_metric (job, step);
COMMENT ON INDEX llmapp.job_metric_job IS 'curves of one job in order';

CREATE TABLE llmapp.job_trial (
    job bigint NOT NULL REFERENCES llmapp.job ON DELETE CASCADE,
    trial integer NOT NULL,
    fold integer NOT NULL,
    settings jsonb NOT NULL,
    metric text NOT NULL,
    value double precision,
    epochs bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'stopped', 'failed', 'finished', 'best')),
    PRIMARY KEY (job, trial, fold)
);
REVOKE ALL ON llmapp.job_trial FROM PUBLIC;
COMMENT ON TABLE llmapp.job_trial IS 'trials and folds of jobs of all roles; read llmapp.job_trials instead. Not dumped';
COMMENT ON COLUMN llmapp.job_trial.fold IS 'from 1; 0 in trials without folds';

CREATE FUNCTION llmapp.job_status(job bigint, status text, system_identifier bigint) RETURNS text
    AS 'MODULE_PATHNAME', 'llmapp_job_status' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llmapp.job_status(bigint, text, bigint) IS 'what the stored status of a job means now; for llmapp.jobs';

CREATE FUNCTION llmapp.running_jobs(OUT job bigint, OUT phase text, OUT done bigint, OUT total bigint, OUT epoch integer,
                                    OUT loss double precision, OUT per_second double precision, OUT eta interval, OUT bar text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'llmapp_running_jobs' LANGUAGE C VOLATILE STRICT ROWS 2;
COMMENT ON FUNCTION llmapp.running_jobs() IS 'running jobs that the caller may see; for llmapp.progress';

CREATE FUNCTION llmapp.list_devices(OUT device text, OUT available boolean, OUT name text, OUT threads integer,
                                    OUT kernels text, OUT reason text, OUT memory bigint, OUT memory_free bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'llmapp_list_devices' LANGUAGE C STABLE STRICT ROWS 2;
COMMENT ON FUNCTION llmapp.list_devices() IS 'what can train on this server; for llmapp.devices';

CREATE VIEW llmapp.jobs WITH (security_barrier) AS
    SELECT j.job, j.model, j.version, j.owner, j.kind, llmapp.job_status(j.job, j.status, j.system_identifier) AS status,
           coalesce(r.phase, j.phase) AS phase, coalesce(j.report #>> '{device,used}', j.device) AS device, j.sqlstate, j.message, j.detail, j.hint,
           j.submitted_at, j.started_at, j.finished_at, j.report
    FROM llmapp.job AS j LEFT JOIN llmapp.running_jobs() AS r USING (job)
    WHERE pg_catalog.pg_has_role(j.owner, 'USAGE');
GRANT SELECT ON llmapp.jobs TO PUBLIC;
COMMENT ON VIEW llmapp.jobs IS 'jobs of the roles of which the reader is a member';
COMMENT ON COLUMN llmapp.jobs.status IS 'queued, running, paused, interrupted, succeeded, failed or cancelled';
COMMENT ON COLUMN llmapp.jobs.phase IS 'loading, vocabulary, tokenizing, training, evaluating, saving, scoring or embedding; after a failure the one that failed';
COMMENT ON COLUMN llmapp.jobs.device IS 'the device it ran on; before it has run, the one that was asked for';
COMMENT ON COLUMN llmapp.jobs.report IS 'findings about the rows, counts, and how the result was judged';

CREATE VIEW llmapp.job_metrics WITH (security_barrier) AS
    SELECT m.job, m.step, m.epoch, m.split, m.metric, m.value, m.at, nullif(m.trial, 0) AS trial, nullif(m.fold, 0) AS fold
    FROM llmapp.job_metric AS m JOIN llmapp.job AS j USING (job)
    WHERE pg_catalog.pg_has_role(j.owner, 'USAGE');
GRANT SELECT ON llmapp.job_metrics TO PUBLIC;
COMMENT ON VIEW llmapp.job_metrics IS 'curves of jobs of the roles of which the reader is a member';
COMMENT ON COLUMN llmapp.job_metrics.step IS 'steps of the job, over all its trials and folds';
COMMENT ON COLUMN llmapp.job_metrics.epoch IS 'passes over the rows, with fractions';
COMMENT ON COLUMN llmapp.job_metrics.trial IS 'trial of a job that trains several networks';
COMMENT ON COLUMN llmapp.job_metrics.fold IS 'fold that is held out in a cross-validation';

CREATE VIEW llmapp.job_trials WITH (security_barrier) AS
    SELECT t.job, t.trial, nullif(t.fold, 0) AS fold, t.settings, t.metric, t.value, t.epochs, t.status
    FROM llmapp.job_trial AS t JOIN llmapp.job AS j USING (job)
    WHERE pg_catalog.pg_has_role(j.owner, 'USAGE');
GRANT SELECT ON llmapp.job_trials TO PUBLIC;
COMMENT ON VIEW llmapp.job_trials IS 'networks that jobs trained to compare, of the roles of which the reader is a member';
COMMENT ON COLUMN llmapp.job_trials.fold IS 'fold that was held out; NULL in trials without folds';
COMMENT ON COLUMN llmapp.job_trials.settings IS 'what this trial does not have in common with the others';
COMMENT ON COLUMN llmapp.job_trials.metric IS 'what is compared, lower is better: loss, log_loss or rmse';
COMMENT ON COLUMN llmapp.job_trials.value IS 'on the held-out rows; NULL as long as it is not known';
COMMENT ON COLUMN llmapp.job_trials.epochs IS 'passes over the training rows';
COMMENT ON COLUMN llmapp.job_trials.status IS 'running, finished, stopped (early, others did better), failed (diverged) or best (published)';

CREATE VIEW llmapp.progress WITH (security_barrier) AS
    SELECT r.job, j.model, r.phase, r.done, r.total, r.epoch, r.loss, r.per_second, r.eta, r.bar
    FROM llmapp.running_jobs() AS r LEFT JOIN llmapp.job AS j USING (job);
GRANT SELECT ON llmapp.progress TO PUBLIC;
COMMENT ON VIEW llmapp.progress IS 'running jobs of the roles of which the reader is a member, live';
COMMENT ON COLUMN llmapp.progress.done IS 'rows while loading, evaluating, scoring and embedding, steps while training';
COMMENT ON COLUMN llmapp.progress.per_second IS 'rows per second';
COMMENT ON COLUMN llmapp.progress.eta IS 'time left in this phase';

CREATE VIEW llmapp.devices AS
    SELECT device, available, name, threads, kernels, memory, memory_free, reason FROM llmapp.list_devices();
GRANT SELECT ON llmapp.devices TO PUBLIC;
COMMENT ON VIEW llmapp.devices IS 'devices that can train, or the reason why one cannot';
COMMENT ON COLUMN llmapp.devices.kernels IS 'instructions and library of matrix products that the arithmetic uses; of a GPU what it is';
COMMENT ON COLUMN llmapp.devices.memory IS 'bytes of a GPU';
COMMENT ON COLUMN llmapp.devices.memory_free IS 'bytes of a GPU that nobody uses now';

CREATE FUNCTION llm_train(model text, source text, target text DEFAULT NULL, task text DEFAULT NULL,
                          architecture text DEFAULT NULL, params jsonb DEFAULT '{}', base regclass DEFAULT NULL,
                          device text DEFAULT NULL, wait boolean DEFAULT false) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION llm_train(text, text, text, text, text, jsonb, regclass, text, boolean) IS
    'train a model on a relation or SELECT in the background; returns the number of the job, which starts at COMMIT';

CREATE FUNCTION llm_estimate(source text, target text DEFAULT NULL, task text DEFAULT NULL, architecture text DEFAULT NULL,
                             params jsonb DEFAULT '{}', base regclass DEFAULT NULL, OUT rows bigint, OUT tokens bigint,
                             OUT networks float8, OUT epochs bigint, OUT steps bigint, OUT parameters bigint,
                             OUT weight_bytes bigint, OUT memory_bytes bigint, OUT flops_per_epoch float8,
                             OUT flops float8, OUT seconds float8) RETURNS record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE COST 1000000;
COMMENT ON FUNCTION llm_estimate(text, text, text, text, jsonb, regclass) IS
    'what llm_train with the same arguments would take: size of the network, memory, arithmetic and time, from a sample of the source';

CREATE FUNCTION llm_score(model regclass, source text, into_table text, key text[] DEFAULT NULL,
                          device text DEFAULT NULL, wait boolean DEFAULT false) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION llm_score(regclass, text, text, text[], text, boolean) IS
    'fill a table with the predictions for a relation or SELECT in the background; returns the number of the job, which starts at COMMIT';

CREATE FUNCTION llm_wait(job bigint, timeout interval DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION llm_wait(bigint, interval) IS 'wait until a job has ended or stopped, or for the time given; returns its status';

CREATE FUNCTION llm_cancel(job bigint) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_cancel(bigint) IS 'end a job for good; returns its status, running when it needs more than a moment to react';

CREATE FUNCTION llm_pause(job bigint) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_pause(bigint) IS 'stop a job with a checkpoint, for llm_resume; returns its status';

CREATE FUNCTION llm_resume(job bigint) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_resume(bigint) IS 'go on with a paused, interrupted or failed job, at COMMIT';

-- section: prediction and evaluation

-- The input is "any": a row, jsonb, text, tensor or real[] each have one function to call, and a plain string
-- literal does not have to choose between several.
CREATE FUNCTION llm_predict_support(internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT;
COMMENT ON FUNCTION llm_predict_support(internal) IS 'planner support: cost by the model''s arithmetic, rows by its labels';

CREATE FUNCTION llm_predict(model regclass, input "any") RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 SUPPORT llm_predict_support;
COMMENT ON FUNCTION llm_predict(regclass, "any") IS 'label or number that a model predicts for a row, jsonb object, text, tensor or real[]';

CREATE FUNCTION llm_predict(model regclass, input "any", as_type anyelement) RETURNS anyelement
    AS 'MODULE_PATHNAME', 'llm_predict_as' LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llm_predict_support;
COMMENT ON FUNCTION llm_predict(regclass, "any", anyelement) IS 'prediction as a value of the type of as_type, as in NULL::numeric';

CREATE FUNCTION llm_probability(model regclass, input "any", label text DEFAULT NULL) RETURNS float8
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 1000 SUPPORT llm_predict_support;
COMMENT ON FUNCTION llm_probability(regclass, "any", text) IS 'probability of a label; without one of the second of two labels, or of the predicted one of more';

CREATE FUNCTION llm_probabilities(model regclass, input "any", OUT label text, OUT probability float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 ROWS 10 SUPPORT llm_predict_support;
COMMENT ON FUNCTION llm_probabilities(regclass, "any") IS 'all labels of a model with their probabilities, the most probable first';

CREATE FUNCTION llm_predict_over(model regclass, input "any") RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C WINDOW STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llm_predict_over(regclass, "any") IS 'llm_predict() as a window function, which runs many rows of its partition through the model at once';

CREATE FUNCTION llm_create_function(model regclass, name text) RETURNS regprocedure
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llm_create_function(regclass, text) IS
    'create a function of the model''s columns that returns its prediction; whoever is granted EXECUTE may call it';

CREATE FUNCTION llm_evaluate(model regclass, source text DEFAULT NULL, OUT metric text, OUT value float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 10;
COMMENT ON FUNCTION llm_evaluate(regclass, text) IS 'quality of a model on the rows, texts or pairs of texts of a relation or SELECT; without one on those held out at training';

CREATE FUNCTION llm_confusion(model regclass, source text DEFAULT NULL, OUT actual text, OUT predicted text, OUT count bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 10;
COMMENT ON FUNCTION llm_confusion(regclass, text) IS 'how many rows of each label were given which; actual is NULL for labels never seen in training';

CREATE FUNCTION llm_roc(model regclass, source text DEFAULT NULL, label text DEFAULT NULL,
                        OUT threshold float8, OUT true_positive_rate float8, OUT false_positive_rate float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 200;
COMMENT ON FUNCTION llm_roc(regclass, text, text) IS 'receiver operating characteristic of a label: rates when rows with at least this probability are called positive';

CREATE FUNCTION llm_text_metrics_accumulate(internal, text, text) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llm_text_metrics_accumulate(internal, text, text) IS 'add a row to the state of llm_text_metrics';

CREATE FUNCTION llm_text_metrics_combine(internal, internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION llm_text_metrics_combine(internal, internal) IS 'add the states of two processes';

CREATE FUNCTION llm_text_metrics_serialize(internal) RETURNS bytea
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llm_text_metrics_serialize(internal) IS 'state of llm_text_metrics as bytes';

CREATE FUNCTION llm_text_metrics_deserialize(bytea, internal) RETURNS internal
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION llm_text_metrics_deserialize(bytea, internal) IS 'bytes as state of llm_text_metrics';

CREATE FUNCTION llm_text_metrics_final(internal) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION llm_text_metrics_final(internal) IS 'result of llm_text_metrics';

CREATE AGGREGATE llm_text_metrics(prediction text, reference text) (
    SFUNC = llm_text_metrics_accumulate, STYPE = internal, SSPACE = 256, FINALFUNC = llm_text_metrics_final,
    COMBINEFUNC = llm_text_metrics_combine, SERIALFUNC = llm_text_metrics_serialize,
    DESERIALFUNC = llm_text_metrics_deserialize, PARALLEL = SAFE
);
COMMENT ON AGGREGATE llm_text_metrics(text, text) IS
    'quality of texts beside those that were wanted: n, bleu, rouge_l, exact_match, token_f1';

CREATE FUNCTION llmapp.model_statistics(OUT model oid, OUT calls bigint, OUT rows bigint, OUT served_rows bigint,
                                        OUT total_time double precision, OUT since timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'llmapp_model_statistics' LANGUAGE C VOLATILE STRICT ROWS 10;
COMMENT ON FUNCTION llmapp.model_statistics() IS 'use of the models that belong to the caller; for llmapp.stat_models';

CREATE FUNCTION llmapp.stat_models_reset() RETURNS void
    AS 'MODULE_PATHNAME', 'llmapp_stat_models_reset' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION llmapp.stat_models_reset() IS 'begin counting again for the models that the caller sees in llmapp.stat_models';

CREATE VIEW llmapp.stat_models WITH (security_barrier) AS
    SELECT c.oid::pg_catalog.regclass AS model, s.calls, s.rows, s.served_rows, s.total_time,
           CASE WHEN s.rows OPERATOR(pg_catalog.>) 0 THEN s.total_time OPERATOR(pg_catalog./) s.rows::double precision END AS mean_time,
           s.since
    FROM llmapp.model_statistics() AS s JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.model;
GRANT SELECT ON llmapp.stat_models TO PUBLIC;
COMMENT ON VIEW llmapp.stat_models IS 'use of the models of the roles of which the reader is a member, since the server started or the last reset';
COMMENT ON COLUMN llmapp.stat_models.calls IS 'statements, more exactly calls in them, that predicted with the model';
COMMENT ON COLUMN llmapp.stat_models.rows IS 'rows predicted';
COMMENT ON COLUMN llmapp.stat_models.served_rows IS 'of them, those that an inference server made, see llmapp.stat_inference';
COMMENT ON COLUMN llmapp.stat_models.total_time IS 'milliseconds spent on predictions, measured for a sample of the rows';
COMMENT ON COLUMN llmapp.stat_models.mean_time IS 'milliseconds per row';
COMMENT ON COLUMN llmapp.stat_models.since IS 'when counting began';

CREATE FUNCTION llmapp.inference_servers(OUT device text, OUT name text, OUT pid integer, OUT models integer, OUT memory bigint,
                                         OUT calls integer, OUT passes bigint, OUT tokens bigint, OUT shared_tokens bigint,
                                         OUT preempted bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'llmapp_inference_servers' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION llmapp.inference_servers() IS 'processes that compute for all sessions together; for llmapp.stat_inference';

CREATE VIEW llmapp.stat_inference AS
    SELECT s.device, s.name, s.pid, s.models, s.memory, s.calls, s.passes, s.tokens, s.shared_tokens, s.preempted
    FROM llmapp.inference_servers() AS s;
GRANT SELECT ON llmapp.stat_inference TO PUBLIC;
COMMENT ON VIEW llmapp.stat_inference IS 'inference servers: what each has in memory, and what it has done since it started';
COMMENT ON COLUMN llmapp.stat_inference.device IS 'cpu or cuda:N';
COMMENT ON COLUMN llmapp.stat_inference.name IS 'of the GPU';
COMMENT ON COLUMN llmapp.stat_inference.pid IS 'process';
COMMENT ON COLUMN llmapp.stat_inference.models IS 'in memory';
COMMENT ON COLUMN llmapp.stat_inference.memory IS 'bytes of the device that they take, weights on the CPU aside';
COMMENT ON COLUMN llmapp.stat_inference.calls IS 'calls of sessions that have texts or rows there now';
COMMENT ON COLUMN llmapp.stat_inference.passes IS 'passes through networks';
COMMENT ON COLUMN llmapp.stat_inference.tokens IS 'tokens in these passes';
COMMENT ON COLUMN llmapp.stat_inference.shared_tokens IS 'tokens that needed no pass, as another text began with the same ones';
COMMENT ON COLUMN llmapp.stat_inference.preempted IS 'texts whose memory was given to others, and which are computed again';

-- section: language

CREATE FUNCTION llm_generate(model regclass, prompt text, max_tokens integer DEFAULT 128, temperature float8 DEFAULT 0,
                             top_k integer DEFAULT 0, top_p float8 DEFAULT 1, stop text[] DEFAULT NULL, seed bigint DEFAULT NULL,
                             min_p float8 DEFAULT 0, repetition_penalty float8 DEFAULT 1, truncate text DEFAULT 'error',
                             schema jsonb DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION llm_generate(regclass, text, integer, float8, integer, float8, text[], bigint, float8, float8, text, jsonb) IS
    'text with which a language model goes on behind a prompt, JSON that satisfies the schema if one is given; at temperature 0, or with a seed, always the same';

CREATE FUNCTION llm_generate_over(model regclass, prompt text, max_tokens integer DEFAULT 128, temperature float8 DEFAULT 0,
                                  top_k integer DEFAULT 0, top_p float8 DEFAULT 1, stop text[] DEFAULT NULL,
                                  seed bigint DEFAULT NULL, min_p float8 DEFAULT 0, repetition_penalty float8 DEFAULT 1,
                                  truncate text DEFAULT 'error', schema jsonb DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C WINDOW VOLATILE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION llm_generate_over(regclass, text, integer, float8, integer, float8, text[], bigint, float8, float8, text, jsonb) IS
    'llm_generate() as a window function, which generates the texts of several rows of its partition at once';

CREATE FUNCTION llm_generate_stream(model regclass, prompt text, max_tokens integer DEFAULT 128, temperature float8 DEFAULT 0,
                                    top_k integer DEFAULT 0, top_p float8 DEFAULT 1, stop text[] DEFAULT NULL,
                                    seed bigint DEFAULT NULL, min_p float8 DEFAULT 0, repetition_penalty float8 DEFAULT 1,
                                    truncate text DEFAULT 'error', schema jsonb DEFAULT NULL,
                                    OUT "position" integer, OUT token text, OUT logprob float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000 ROWS 128;
COMMENT ON FUNCTION llm_generate_stream(regclass, text, integer, float8, integer, float8, text[], bigint, float8, float8, text, jsonb) IS
    'llm_generate() token by token, with the logarithm of the probability that the model gives each; in a SELECT list rows come as they are made';

CREATE FUNCTION llm_chat(model regclass, messages jsonb, max_tokens integer DEFAULT 128, temperature float8 DEFAULT 0,
                         top_k integer DEFAULT 0, top_p float8 DEFAULT 1, stop text[] DEFAULT NULL, seed bigint DEFAULT NULL,
                         min_p float8 DEFAULT 0, repetition_penalty float8 DEFAULT 1, truncate text DEFAULT 'error',
                         schema jsonb DEFAULT NULL, tools jsonb DEFAULT NULL, template text DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION llm_chat(regclass, jsonb, integer, float8, integer, float8, text[], bigint, float8, float8, text, jsonb, jsonb, text) IS
    'answer of a language model to the messages of a conversation, put into the form that the model was trained with';

CREATE FUNCTION llm_chat_prompt(model regclass, messages jsonb, tools jsonb DEFAULT NULL, template text DEFAULT NULL) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llm_chat_prompt(regclass, jsonb, jsonb, text) IS 'prompt that llm_chat() makes of the messages';

CREATE FUNCTION llm_schema(as_type anyelement) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION llm_schema(anyelement) IS 'JSON Schema of values of the type of as_type, as in NULL::numeric';

CREATE FUNCTION llm_extract(model regclass, input text, as_type anyelement, instruction text DEFAULT NULL,
                            max_tokens integer DEFAULT 512, temperature float8 DEFAULT 0, seed bigint DEFAULT NULL,
                            template text DEFAULT NULL) RETURNS anyelement
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION llm_extract(regclass, text, anyelement, text, integer, float8, bigint, text) IS
    'what a text says as a value of the type of as_type, as in NULL::invoice, written by a language model';

CREATE FUNCTION llm_tokenize(model regclass, input text) RETURNS integer[]
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llm_tokenize(regclass, text) IS 'numbers of the tokens that a model reads in a text';

CREATE FUNCTION llm_detokenize(model regclass, tokens integer[]) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION llm_detokenize(regclass, integer[]) IS 'text of the tokens of a model that reads texts';

CREATE FUNCTION llm_perplexity(model regclass, input text) RETURNS float8
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION llm_perplexity(regclass, text) IS
    'how surprised a language model is by a text: exp of its mean loss per token; NULL for fewer than two tokens';

CREATE FUNCTION llm_embed(model regclass, input text, pool text DEFAULT NULL, normalise boolean DEFAULT true) RETURNS real[]
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION llm_embed(regclass, text, text, boolean) IS
    'a text as numbers: the mean over its tokens of what the model''s transformer makes of them, or the first or last one, as it was trained when pool is NULL; of length 1 when normalised';

CREATE FUNCTION llm_embed_over(model regclass, input text) RETURNS real[]
    AS 'MODULE_PATHNAME' LANGUAGE C WINDOW STABLE PARALLEL SAFE COST 100000;
COMMENT ON FUNCTION llm_embed_over(regclass, text) IS
    'llm_embed() as a window function, which embeds the texts of several rows of its partition at once';

CREATE FUNCTION llm_rerank(model regclass, query text, documents text[], top integer DEFAULT NULL,
                           OUT document integer, OUT score float8, OUT text text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION llm_rerank(regclass, text, text[], integer) IS
    'documents by how well they answer a query, best first, with their places in the array: judged together with it by a model of pairs of texts, otherwise by the cosine of embeddings';

CREATE FUNCTION llm_extract_entities(model regclass, input text, OUT entity text, OUT label text, OUT start integer,
                                     OUT length integer, OUT probability float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 100000 ROWS 10;
COMMENT ON FUNCTION llm_extract_entities(regclass, text) IS
    'parts of a text that a model for labels of tokens finds: the words, what they are, first character from 1, characters, and how sure it is';

CREATE FUNCTION llm_chunk(model regclass, input text, max_tokens integer DEFAULT NULL, overlap integer DEFAULT 0,
                          OUT chunk integer, OUT start integer, OUT length integer, OUT tokens integer, OUT text text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE COST 10000 ROWS 10;
COMMENT ON FUNCTION llm_chunk(regclass, text, integer, integer) IS
    'a text in pieces of at most max_tokens tokens of a model, cut behind paragraphs, sentences or words where that is possible; start and length count characters';

-- section: embedded columns

CREATE FUNCTION llmapp.embeds(source regclass, model regclass, queue regclass, max_tokens integer, overlap integer) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN true;
COMMENT ON FUNCTION llmapp.embeds(regclass, regclass, regclass, integer, integer) IS
    'always true; the CHECK constraint by which a table says what its embeddings are made of';

CREATE FUNCTION llmapp.embed_changes() RETURNS trigger
    AS 'MODULE_PATHNAME', 'llmapp_embed_changes' LANGUAGE C;
COMMENT ON FUNCTION llmapp.embed_changes() IS 'trigger of llm_embed_column(): keys of changed rows go to the queue';

CREATE FUNCTION llm_embed_column(source regclass, text_column text, model regclass, target text,
                                 max_tokens integer DEFAULT NULL, overlap integer DEFAULT 0) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION llm_embed_column(regclass, text, regclass, text, integer, integer) IS
    'keep a table of the embeddings of a column up to date, or bring it up to date; returns the number of the job, which starts at COMMIT and again after changes';

CREATE FUNCTION llmapp.describe_embedding(target oid, OUT source oid, OUT column_name text, OUT model oid, OUT queue oid,
                                          OUT max_tokens integer, OUT overlap integer, OUT pending bigint,
                                          OUT failed bigint, OUT last_error text) RETURNS record
    AS 'MODULE_PATHNAME', 'llmapp_describe_embedding' LANGUAGE C VOLATILE STRICT COST 10000;
COMMENT ON FUNCTION llmapp.describe_embedding(oid) IS 'what the caller may know of a table of embeddings; for llmapp.embedded_columns';

CREATE VIEW llmapp.embedded_columns AS
    SELECT d.source::pg_catalog.regclass AS source, d.column_name, d.model::pg_catalog.regclass AS model,
           t.oid::pg_catalog.regclass AS target, d.queue::pg_catalog.regclass AS queue, d.max_tokens, d.overlap,
           d.pending, d.failed, coalesce(j.message, d.last_error) AS last_error, j.version AS model_version, j.job, j.status
    FROM pg_catalog.pg_class AS t
    CROSS JOIN LATERAL llmapp.describe_embedding(t.oid) AS d
    LEFT JOIN LATERAL (SELECT * FROM llmapp.jobs AS j
                       WHERE j.job OPERATOR(pg_catalog.=) (SELECT pg_catalog.max(b.job) FROM llmapp.job AS b
                                      WHERE b.kind OPERATOR(pg_catalog.=) 'embed' AND b.spec OPERATOR(pg_catalog.->>) 'target' OPERATOR(pg_catalog.=) t.oid::text AND b.owner::oid OPERATOR(pg_catalog.=) t.relowner)) AS j
        ON true
    WHERE t.oid IN (SELECT c.conrelid FROM pg_catalog.pg_depend AS p
                    JOIN pg_catalog.pg_constraint AS c ON c.oid OPERATOR(pg_catalog.=) p.objid
                    WHERE p.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass
                          AND p.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
                          AND p.refobjid OPERATOR(pg_catalog.=) 'llmapp.embeds'::pg_catalog.regproc)
          AND d.source IS NOT NULL AND pg_catalog.has_schema_privilege(t.relnamespace, 'USAGE');
GRANT SELECT ON llmapp.embedded_columns TO PUBLIC;
COMMENT ON VIEW llmapp.embedded_columns IS 'columns whose embeddings are kept up to date';
COMMENT ON COLUMN llmapp.embedded_columns.target IS 'table of the embeddings';
COMMENT ON COLUMN llmapp.embedded_columns.queue IS 'table of the keys whose embeddings are to be made anew';
COMMENT ON COLUMN llmapp.embedded_columns.max_tokens IS 'tokens of the longest piece; NULL: as many as the model reads';
COMMENT ON COLUMN llmapp.embedded_columns.overlap IS 'tokens that a piece may repeat of the one before';
COMMENT ON COLUMN llmapp.embedded_columns.pending IS 'rows in the queue; NULL when the reader may not read it';
COMMENT ON COLUMN llmapp.embedded_columns.failed IS 'rows of the target that hold an error; NULL when the reader may not read it';
COMMENT ON COLUMN llmapp.embedded_columns.last_error IS 'message of the job, or the newest error of a row';
COMMENT ON COLUMN llmapp.embedded_columns.model_version IS 'version of the model in the last run that ended';
COMMENT ON COLUMN llmapp.embedded_columns.job IS 'job that does it, when the reader is a member of its role';

-- section: self-description

CREATE FUNCTION llm_selftest(OUT test text, OUT passed boolean, OUT detail text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT ROWS 10;
COMMENT ON FUNCTION llm_selftest() IS 'computes known results on this machine and compares: products, gradients, training, formats';

CREATE FUNCTION llm_architectures(OUT architecture text, OUT tasks text, OUT description text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION llm_architectures() IS 'architectures that llm_train can train';

CREATE FUNCTION llm_params(architecture text, OUT name text, OUT type text, OUT "default" text, OUT range text,
                           OUT description text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE ROWS 40;
COMMENT ON FUNCTION llm_params(text) IS 'settings that params of llm_train may hold for an architecture; a default of NULL is chosen from the data';
