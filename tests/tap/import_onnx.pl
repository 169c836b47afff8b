# Networks in ONNX files: predictions are those of ONNX Runtime, as bytes and by path; whatever is wrong with a file is an
# error that names it, comes at once and leaves nothing behind.
use strict;
use warnings;
use File::Copy;
use File::Path qw(make_path);
use JSON::PP;
use LlmappTest;
use Test::More;
use Time::HiRes qw(time);

my $node = start_node('import_onnx');
my $folder = PostgreSQL::Test::Utils::tempdir() . '/onnx';
make_path($folder);
chmod 0755, $folder;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub quoted { return "'" . $_[0] =~ s/'/''/gr . "'"; }
sub slurp { open my $file, '<:raw', $_[0] or die "$_[0]: $!"; local $/; return scalar <$file>; }
sub spew { my ($name, $bytes) = @_; open my $file, '>:raw', "$folder/$name" or die; print $file $bytes; close $file; return "$folder/$name"; }

# ---- predictions ----

sub softmax { my @e = map { exp } @_; my $sum = 0; $sum += $_ foreach @e; return map { $_ / $sum } @e; }

sub nmse
{
	my ($made, $wanted) = @_;
	my ($error, $sum, $squares) = (0, 0, 0);
	foreach my $i (0 .. $#$wanted)
	{
		$error += ($made->[$i] - $wanted->[$i])**2;
		$sum += $wanted->[$i];
		$squares += $wanted->[$i]**2;
	}
	return $error / ($squares - $sum**2 / @$wanted);
}

# Outputs of the live version for the rows of a table, in the order of the file.
sub outputs
{
	my ($model, $labels) = @_;
	return map { @{ decode_json($_) } } split /\n/, sql("SELECT to_json(llm_predict('$model', r)::jsonb) FROM rows AS r ORDER BY id") unless $labels;
	my $order = join ',', map { quoted($_) } @$labels;
	return map { @{ decode_json($_) } } split /\n/, sql("SELECT (SELECT json_agg(probability ORDER BY array_position(ARRAY[$order], label))
		FROM llm_probabilities('$model', r)) FROM rows AS r ORDER BY id");
}

# Labels as the file has them; undef: numbers.
my %labels = (mlp => [qw(b c a)], mlp_dynamo => [qw(0 1 2)], mlp_17 => [qw(0 1 2)], cnn => [qw(north east south west)], cnn_dynamo => [qw(north east south west)],
	binary => [qw(yes no)]);
foreach my $name (qw(mlp mlp_dynamo mlp_17 cnn cnn_dynamo binary table forms))
{
	my $source = "tests/unit/golden/onnx/$name.onnx";
	my $golden = decode_json(slurp($source =~ s/onnx$/json/r));
	my $params = quoted(encode_json($golden->{params}));
	my $input = $golden->{params}{input} // {};
	my $columns = $input->{columns} ? join ', ', map { "v[$_] AS $input->{columns}[$_ - 1]" } 1 .. @{ $input->{columns} } : 'v AS ' . ($input->{name} // 'input');
	my $values = join ', ', map { "($_, '{" . join(',', @{ $golden->{inputs}[$_] }) . "}'::real[])" } 0 .. $#{ $golden->{inputs} };
	sql("DROP TABLE IF EXISTS rows; CREATE TABLE rows AS SELECT id, $columns FROM (VALUES $values) AS t (id, v)");
	copy($source, "$folder/$name.onnx");
	sql("SELECT llm_import('$name', '$folder/$name.onnx', $params, wait => true)");
	my @wanted = map { @$_ == 1 && $labels{$name} ? (1 - $_->[0], $_->[0]) : $name =~ /cnn/ ? softmax(@$_) : @$_ } @{ $golden->{outputs} };
	my @made = outputs($name, $labels{$name});
	is(scalar(@made), scalar(@wanted), "$name: so many outputs");
	cmp_ok(nmse(\@made, \@wanted), '<=', 1e-10, "$name: predictions are those of ONNX Runtime");
	sql("SELECT llm_import('${name}_bytes', '\\x" . unpack('H*', slurp($source)) . "'::bytea, $params)");
	is_deeply([ outputs("${name}_bytes", $labels{$name}) ], \@made, "$name: as bytes it is the same");
}

# ---- what is known of the model ----

my ($sum) = split ' ', `sha256sum $folder/cnn.onnx`;
is( sql(q{SELECT lineage -> 'imported' ->> 'format', file ->> 'name', file ->> 'sha256'
	FROM llmapp.model_versions, jsonb_array_elements(lineage -> 'imported' -> 'files') AS file WHERE model = 'cnn'::regclass}),
	"onnx|cnn.onnx|$sum", 'the file is in the lineage with its SHA-256');
is( sql(q{SELECT lineage -> 'imported' ->> 'format', lineage -> 'imported' ->> 'sha256' FROM llmapp.model_versions WHERE model = 'cnn_bytes'::regclass}),
	"onnx|$sum", 'bytes, too');
is(sql(q{SELECT string_agg(layer ->> 'type', ' ' ORDER BY n) FROM mlp, jsonb_array_elements(meta -> 'settings' -> 'layers' -> 'value') WITH ORDINALITY AS l (layer, n)
	WHERE kind = 'manifest'}), 'linear layer_norm activation linear activation add linear', 'its layers are in the manifest');
is(sql(q{SELECT report ->> 'task' FROM llmapp.jobs WHERE model = 'public.mlp'}), 'classification', 'the job reports the task');
is(sql(q{SELECT task || ' ' || target FROM llmapp.models WHERE model = 'cnn'::regclass}), 'classification wind', 'what it predicts');
sql(q{SELECT llm_import('mlp_copy', llm_export('mlp'))});
is(sql(q{SELECT llm_predict('mlp_copy', '{1,2,3,4,5,6}'::real[]) = llm_predict('mlp', '{1,2,3,4,5,6}'::real[])}), 't', 'it goes out and comes in as every other');
is(sql(q{SELECT llm_predict('table', t) = llm_predict('table', '{"w": 1, "x": 2, "y": 3, "z": 4}'::jsonb) FROM (SELECT 1 AS w, 2::numeric AS x, 3::real AS y, 4::bigint AS z) AS t}),
	't', 'columns of any type of numbers');

# ---- what is wrong ----

my $mlp = slurp("$folder/mlp.onnx");
sub fails
{
	my ($bytes, $params, $expected, $what) = @_;
	my $path = spew('broken.onnx', $bytes);
	foreach my $call ("'$path', '$params', wait => true", "'\\x" . unpack('H*', $bytes) . "'::bytea, '$params'")
	{
		my $start = time;
		my ($status, $out, $err) = $node->psql('postgres', "SELECT llm_import('broken', $call)");
		my $took = time - $start;
		isnt($status, 0, "$what fails");
		like($err, $expected, "$what says what is wrong");
		cmp_ok($took, '<', 1, 'at once');
	}
	return;
}
fails(substr($mlp, 0, 900), '{}', qr/does not end within its message/, 'a file cut short');
fails($mlp =~ s/Gelu/Gulu/gr, '{}', qr{node "/g?.*Gulu.*is of an operation that no layer has.*Operations are Add, AveragePool, }s, 'another operation');
fails($mlp =~ s/(.*)norm\.bias/$1norm.bios/sr, '{}', qr{reads "norm\.bias", which no initializer is}, 'an initializer that is missing');
fails($mlp =~ s/\x08\x08\x08\x08\x10\x01\x42/\x08\x04\x08\x10\x10\x01\x42/r, '{}', qr{for which initializer b\.weight FLOAT \(4, 16\) is not made}, 'an initializer of another shape');
fails($mlp =~ s/(.*)\x2a(.)\x08\x03/$1\x2a$2\x08\x7f/sr, '{}', qr{bytes, which are not those of its shape and type}, 'a shape that lies');
fails($mlp, '{"layers": []}', qr/unknown parameter "?layers/, 'layers beside a graph');
fails($mlp, '{"classes": ["a", "b"]}', qr/must be an array of 3 labels/, 'too few labels');
fails($mlp, '{"task": "regression"}', qr/makes probabilities of classes, but "task" is "regression"/, 'numbers of a softmax');
fails($mlp, '{"input": {"shape": [6]}}', qr/unknown key of parameter "input" "shape"/, 'a shape beside a graph');
fails("\x08\x08\x3a\xff\xff\xff\xff\x0f", '{}', qr/does not end within its message/, 'a length that lies');
sql("CREATE ROLE reader LOGIN; GRANT CREATE ON SCHEMA public TO reader");
my ($status, $out, $err) = $node->psql('postgres', "SET ROLE reader; SELECT llm_import('mine', '$folder/mlp.onnx', wait => true)");
like($err, qr/permission denied to read files of the server.*GRANT pg_read_server_files TO reader/s, 'not without the right to read files');
is(sql(q{SELECT to_regclass('broken') IS NULL AND to_regclass('mine') IS NULL}), 't', 'nothing is left of what failed');
is(sql(q{SELECT count(*) FROM llmapp.jobs WHERE model = 'public.broken' AND status <> 'failed'}), '0', 'and each job says so');
done_testing();
