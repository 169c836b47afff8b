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

-- section: model tables

-- section: jobs

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

CREATE FUNCTION llm_evaluate(model regclass, source text DEFAULT NULL, OUT metric text, OUT value float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 10;
COMMENT ON FUNCTION llm_evaluate(regclass, text) IS 'quality of a model on the rows of a relation or SELECT; without one on those held out at training';

CREATE FUNCTION llm_confusion(model regclass, source text DEFAULT NULL, OUT actual text, OUT predicted text, OUT count bigint)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 10;
COMMENT ON FUNCTION llm_confusion(regclass, text) IS 'how many rows of each label were given which; actual is NULL for labels never seen in training';

CREATE FUNCTION llm_roc(model regclass, source text DEFAULT NULL, label text DEFAULT NULL,
                        OUT threshold float8, OUT true_positive_rate float8, OUT false_positive_rate float8) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE COST 10000 ROWS 200;
COMMENT ON FUNCTION llm_roc(regclass, text, text) IS 'receiver operating characteristic of a label: rates when rows with at least this probability are called positive';

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
