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
