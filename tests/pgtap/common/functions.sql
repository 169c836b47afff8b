-- What a trained model is asked in several files: a metric, a setting of its last version and where that came from, its weights, and why a job failed.
CREATE FUNCTION metric(model regclass, wanted text) RETURNS float8 LANGUAGE sql AS
    $$ SELECT value FROM llm_evaluate(model) WHERE metric = wanted $$;
CREATE FUNCTION setting(model regclass, wanted text) RETURNS text LANGUAGE sql AS
    $$ SELECT value #>> '{}' || ' ' || source FROM llmapp.model_settings AS s WHERE s.model = $1 AND s.setting = wanted ORDER BY version DESC LIMIT 1 $$;
CREATE FUNCTION weights(model regclass, wanted int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT md5(string_agg(data, '''' ORDER BY part)) FROM %s WHERE version = $1 AND kind = ''weights''', model)
        INTO result USING wanted;
    RETURN result;
END $$;
CREATE FUNCTION failure(job bigint) RETURNS text LANGUAGE sql AS $$ SELECT sqlstate || ' ' || message FROM llmapp.jobs AS j WHERE j.job = failure.job $$;
