# Databases whose encoding is not UTF-8: names, labels and texts with other letters go through trainings, predictions and scores.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $node = start_node('encodings');

sub check
{
	my ($encoding, $letter) = @_;    # $letter: an expression of SQL
	my $db = lc $encoding;
	my $sql = sub { return $node->safe_psql($db, $_[0]); };
	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	$sql->("CREATE EXTENSION llmapp");
	$sql->(qq{DO \$\$
		DECLARE l text := $letter;
		BEGIN
			EXECUTE format('CREATE TABLE caf (id int PRIMARY KEY, %I float8, city text, place text)', 'x' || l);
			EXECUTE format('INSERT INTO caf SELECT i, sin(i), %L, CASE WHEN sin(i) > 0 THEN %L ELSE %L END
				FROM generate_series(1, 300) AS i', 'Orl' || l, 'bar' || l, 'b' || l || 'r');
		END \$\$});
	$sql->(q{SELECT llm_train('m', 'SELECT * FROM caf', target => 'place', wait => true, params => '{"epochs": 5, "exclude": ["id"]}')});
	is($sql->("SELECT count(*) FROM llmapp.jobs WHERE status = 'succeeded'"), 1, "$encoding: a table is learned");
	is($sql->("SELECT count(*) > 290 FROM caf WHERE llm_predict('m', caf) = place"), 't', "$encoding: labels come back in its letters");
	is($sql->("SELECT report -> 'data' ->> 'rows_read' FROM llmapp.jobs"), 300, "$encoding: the report is readable");
	$sql->(q{CREATE TABLE scored (id int PRIMARY KEY, prediction text, probability float8, model_version int, predicted_at timestamptz, error text)});
	is($sql->(q{SELECT llm_score('m', 'caf', 'scored', '{id}', wait => true) > 0}), 't', "$encoding: a table is scored");
	is($sql->("SELECT count(*) > 290 FROM scored JOIN caf USING (id) WHERE prediction = place"), 't', "$encoding: scores have its letters");

	$sql->(q{SELECT llm_train('t', 'SELECT place FROM caf', target => 'place', task => 'generation', wait => true,
		params => '{"steps": 3, "layers": 1, "embed_dim": 16, "context": 16}')});
	is($sql->("SELECT count(*) FROM caf WHERE llm_detokenize('t', llm_tokenize('t', place)) = place"), 300, "$encoding: texts come back from tokens");
	is($sql->("SELECT bool_and(llm_perplexity('t', place || ' ' || place) > 1) FROM caf"), 't', "$encoding: texts have a perplexity");
	is($sql->("SELECT bool_and(substr(place, c.start, c.length) = c.text) FROM caf, llm_chunk('t', place, 4) AS c"), 't', "$encoding: pieces of texts are counted in its characters");
	is($sql->("SELECT count(*) FROM caf WHERE (SELECT string_agg(text, '' ORDER BY chunk) FROM llm_chunk('t', place, 4)) = place"), 300, "$encoding: and make up the text");
	my ($status, undef, $error) = $node->psql($db, "SELECT llm_train('e', 'SELECT place FROM caf', target => 'none' || $letter, wait => true)");
	like($error, qr/column "none.+" does not exist|no column "none/, "$encoding: an error names a column in its letters");
	return;
}

check('LATIN1', 'chr(233)');
check('EUC_JP', q{convert_from('\xa4a2', 'EUC_JP')});
check('SQL_ASCII', q{'e'});

done_testing();
