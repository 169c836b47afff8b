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

-- section: model tables

-- section: jobs

-- section: prediction and evaluation

-- section: self-description

CREATE FUNCTION llm_architectures(OUT architecture text, OUT tasks text, OUT description text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE ROWS 10;
COMMENT ON FUNCTION llm_architectures() IS 'architectures that llm_train can train';

CREATE FUNCTION llm_params(architecture text, OUT name text, OUT type text, OUT "default" text, OUT range text,
                           OUT description text) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE ROWS 40;
COMMENT ON FUNCTION llm_params(text) IS 'settings that params of llm_train may hold for an architecture; a default of NULL is chosen from the data';
