# Linear and logistic regression find the coefficients that MADlib documents for its two example tables.
use strict;
use warnings;
use LlmappTest;
use Test::More;

my $data = ($ENV{LLMAPP_TEST_DATA} // '../shared/data') . '/peers/madlib';
plan skip_all => "no data in $data" unless -e "$data/houses.csv" && -e "$data/patients.csv";

my $node = start_node('known_coefficients');
sub sql { return $node->safe_psql('postgres', $_[0]); }

sub load
{
	my ($table, $columns) = @_;
	open my $file, '<', "$data/$table.csv" or die;
	my ($header, @rows) = map { s/\s+$//r } <$file>;
	sql("CREATE TABLE $table ($columns); INSERT INTO $table VALUES " . join(',', map { "($_)" } @rows));
	return;
}

load('houses', 'id int, tax float8, bedroom float8, bath float8, price float8, size float8, lot float8');
load('patients', 'id int, second_attack int, treatment float8, trait_anxiety float8');

my $params = q({"hidden": [], "validation": 0, "epochs": 6000, "batch_size": 32, "learning_rate": 0.02,
	"weight_decay": 0, "early_stopping": 0, "clip_norm": 0});

# Slope of the prediction over one column.
sub slope
{
	my ($function, $model, $column, $low, $high, $others) = @_;
	return sql("SELECT ($function('$model', '{\"$column\": $high, $others}'::jsonb)::float8
		- $function('$model', '{\"$column\": $low, $others}'::jsonb)::float8) / ($high - $low)");
}

sub near
{
	my ($actual, $expected, $relative, $name) = @_;
	cmp_ok(abs($actual / $expected - 1), '<=', $relative, "$name: $actual, documented $expected");
	return;
}

sql("SELECT llm_train('house_price', 'SELECT tax, bath, size, price FROM houses', target => 'price',
	task => 'regression', params => '$params', wait => true)");
near(slope('llm_predict', 'house_price', 'tax', 0, 4000, '"bath": 2, "size": 1500'), 28.9613922651765, 1e-3, 'tax');
near(slope('llm_predict', 'house_price', 'bath', 1, 3, '"tax": 1000, "size": 1500'), 10181.6290712648, 1e-3, 'bath');
near(slope('llm_predict', 'house_price', 'size', 500, 3000, '"tax": 1000, "bath": 2'), 50.516894915354, 1e-3, 'size');

# The least-squares loss itself, by the server's own two-pass arithmetic over MADlib's coefficients.
my $rmse = sql("SELECT value FROM llm_evaluate('house_price', 'SELECT * FROM houses') WHERE metric = 'rmse'");
my $best = sql("SELECT sqrt(avg((price - (-12849.4168959872 + 28.9613922651765 * tax + 10181.6290712648 * bath
	+ 50.516894915354 * size)) ^ 2)) FROM houses");
near($rmse ** 2, $best ** 2, 1e-4, 'squared loss');

sql("SELECT llm_train('second_attack', 'SELECT second_attack::text, treatment, trait_anxiety FROM patients',
	target => 'second_attack', params => '$params', wait => true)");
my $log_loss = sql("SELECT value FROM llm_evaluate('second_attack',
	'SELECT second_attack::text, treatment, trait_anxiety FROM patients') WHERE metric = 'log_loss'");
near($log_loss, 9.41018298388876 / 20, 1e-4, 'log loss');
my $logit = sub {
	my ($treatment, $anxiety) = @_;
	return sql("SELECT ln(p / (1 - p)) FROM llm_probability('second_attack',
		'{\"treatment\": $treatment, \"trait_anxiety\": $anxiety}'::jsonb, '1') AS p");
};
near($logit->(1, 50) - $logit->(0, 50), -1.02410605239327, 2e-3, 'treatment');
near(($logit->(0, 80) - $logit->(0, 40)) / 40, 0.119044916668605, 2e-3, 'trait_anxiety');
done_testing();
