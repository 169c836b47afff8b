# StoriesCheckpoint.pm
#   The model stories260K, a Llama of 260,000 weights in the layout of llama2.c, as a folder of Hugging Face's
#   libraries: config.json, model.safetensors, tokenizer.model, tokenizer_config.json; and as a GGUF file.
#   And folders of the small BERTs that are golden for the unit tests.
#
# In the source and in GGUF, rotary positions turn neighbours (2 i, 2 i + 1) of a head, in the folder numbers i and
# i + head_dim / 2: rows of queries and keys change places within their head.
package StoriesCheckpoint;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP;

our @EXPORT = qw(write_stories write_stories_gguf write_stories_parts write_golden write_golden_folders write_file read_file safetensors);

sub read_file
{
	my ($path) = @_;
	open my $file, '<:raw', $path or die "$path: $!";
	local $/ = undef;
	return scalar <$file>;
}

sub write_file
{
	my ($path, $bytes) = @_;
	open my $file, '>:raw', $path or die "$path: $!";
	print {$file} $bytes;
	close $file or die "$path: $!";
	return;
}

# Bytes of a file of tensors: name => [shape, bytes of float32].
sub safetensors
{
	my (%tensors) = @_;
	my ($data, @entries) = ('');
	foreach my $name (sort keys %tensors)
	{
		my ($shape, $bytes) = @{ $tensors{$name} };
		my $end = length($data) + length $bytes;
		push @entries, sprintf '"%s":{"dtype":"F32","shape":[%s],"data_offsets":[%d,%d]}', $name, join(',', @$shape), length $data, $end;
		$data .= $bytes;
	}
	my $header = '{"__metadata__":{"format":"pt"},' . join(',', @entries) . '}';
	$header .= ' ' x (-length($header) % 8);
	return pack('Q<', length $header) . $header . $data;
}

# Rows of a head: even ones first, then odd ones.
sub half_split
{
	my ($bytes, $heads, $dim, $width) = @_;
	my $row = 4 * $width;
	my $out = '';
	foreach my $head (0 .. $heads - 1)
	{
		$out .= substr $bytes, ($head * $dim + $_) * $row, $row foreach (grep { $_ % 2 == 0 } 0 .. $dim - 1), (grep { $_ % 2 } 0 .. $dim - 1);
	}
	return $out;
}

# Of protocol buffers: a number, bytes, a float.
sub varint { my ($n) = @_; my $out = ''; while ($n > 127) { $out .= chr($n & 127 | 128); $n >>= 7; } return $out . chr $n; }
sub number { my ($field, $n) = @_; return varint($field << 3) . varint($n); }
sub bytes { my ($field, $bytes) = @_; return varint($field << 3 | 2) . varint(length $bytes) . $bytes; }
sub float { my ($field, $n) = @_; return varint($field << 3 | 5) . pack 'f<', $n; }

# Pieces of SentencePiece as [text, score, type]: unknown, <s>, </s>, 256 bytes, then texts with their scores.
sub pieces
{
	my ($source, $vocab) = @_;
	my ($at, @pieces) = (4);
	foreach my $id (0 .. $vocab - 1)
	{
		my ($score, $length) = unpack 'f<l<', substr $source, $at, 8;
		my $text = substr $source, $at + 8, $length;
		my $type = $id == 0 ? 2 : $id < 3 ? 3 : $id < 259 ? 6 : 1;
		$text = $id == 0 ? '<unk>' : $id == 1 ? '<s>' : $id == 2 ? '</s>' : $text;
		$text =~ s/ /\xE2\x96\x81/g if $type == 1;
		push @pieces, [ $text, $score, $type ];
		$at += 8 + $length;
	}
	return @pieces;
}

sub sentencepiece
{
	my ($source, $vocab) = @_;
	my $model = join '', map { bytes(1, bytes(1, $_->[0]) . float(2, $_->[1]) . number(3, $_->[2])) } pieces($source, $vocab);
	my $trainer = number(3, 2) . number(4, $vocab) . number(35, 1) . number(40, 0) . number(41, 1) . number(42, 2);
	return $model . bytes(2, $trainer) . bytes(3, number(3, 1) . number(4, 0) . number(5, 1));
}

# Sizes and tensors of the source, by their names in the folder.
sub source_tensors
{
	my ($data) = @_;
	my $source = read_file("$data/stories260K.bin");
	my %c;
	@c{qw(width ffn depth heads kv_heads vocab context)} = unpack 'l<7', $source;
	my ($width, $ffn, $depth, $heads, $kv_heads, $vocab) = @c{qw(width ffn depth heads kv_heads vocab)};
	my $dim = $c{dim} = $width / $heads;
	my $at = 28;
	my %tensors;
	my $take = sub {
		my ($name, @shape) = @_;
		my $bytes = 4;
		$bytes *= $_ foreach @shape;
		$tensors{$name} = [ \@shape, substr $source, $at, $bytes ];
		$at += $bytes;
		return;
	};
	$take->('model.embed_tokens.weight', $vocab, $width);
	foreach my $part (
		[ 'input_layernorm', $width ], [ 'self_attn.q_proj', $width, $width ], [ 'self_attn.k_proj', $kv_heads * $dim, $width ],
		[ 'self_attn.v_proj', $kv_heads * $dim, $width ], [ 'self_attn.o_proj', $width, $width ], [ 'post_attention_layernorm', $width ],
		[ 'mlp.gate_proj', $ffn, $width ], [ 'mlp.down_proj', $width, $ffn ], [ 'mlp.up_proj', $ffn, $width ])
	{
		my ($name, @shape) = @$part;
		$take->("model.layers.$_.$name.weight", @shape) foreach 0 .. $depth - 1;
	}
	$take->('model.norm.weight', $width);
	return (\%c, \%tensors);
}

# Fill the folder from the two files of folder $data; returns what tensors there are, by name.
sub write_stories
{
	my ($folder, $data) = @_;
	my ($c, $tensors) = source_tensors($data);
	my ($width, $ffn, $depth, $heads, $kv_heads, $vocab, $context, $dim) = @$c{qw(width ffn depth heads kv_heads vocab context dim)};
	my %tensors = %$tensors;
	foreach my $layer (0 .. $depth - 1)
	{
		my ($q, $k) = map { $tensors{"model.layers.$layer.self_attn.${_}_proj.weight"} } qw(q k);
		$q->[1] = half_split($q->[1], $heads, $dim, $width);
		$k->[1] = half_split($k->[1], $kv_heads, $dim, $width);
	}
	mkdir $folder;
	write_file("$folder/config.json", qq({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": $width,
		"intermediate_size": $ffn, "num_hidden_layers": $depth, "num_attention_heads": $heads, "num_key_value_heads": $kv_heads,
		"vocab_size": $vocab, "max_position_embeddings": $context, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
		"tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}));
	write_file("$folder/model.safetensors", safetensors(%tensors));
	write_file("$folder/tokenizer.model", sentencepiece(read_file("$data/stories260K_tok512.bin"), $vocab));
	write_file("$folder/tokenizer_config.json", '{"tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "add_eos_token": false,
		"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": true}');
	return %tensors;
}

# Names of tensors in GGUF.
my %gguf_names = (
	'model.embed_tokens' => 'token_embd', 'model.norm' => 'output_norm', 'input_layernorm' => 'attn_norm', 'self_attn.q_proj' => 'attn_q',
	'self_attn.k_proj' => 'attn_k', 'self_attn.v_proj' => 'attn_v', 'self_attn.o_proj' => 'attn_output',
	'post_attention_layernorm' => 'ffn_norm', 'mlp.gate_proj' => 'ffn_gate', 'mlp.up_proj' => 'ffn_up', 'mlp.down_proj' => 'ffn_down');

sub gguf_name
{
	my ($name) = @_;
	$name =~ s/\.weight$//;
	$name =~ s/^model\.layers\.(\d+)\.//;
	return (defined $1 ? "blk.$1." : '') . $gguf_names{$name} . '.weight';
}

sub gguf_string { my ($text) = @_; return pack 'Q<a*', length $text, $text; }
sub gguf_u32 { my ($key, $value) = @_; return gguf_string($key) . pack 'L<L<', 4, $value; }
sub gguf_f32 { my ($key, $value) = @_; return gguf_string($key) . pack 'L<f<', 6, $value; }
sub gguf_text { my ($key, $value) = @_; return gguf_string($key) . pack('L<', 8) . gguf_string($value); }

# Types of elements: 5 are whole numbers, 6 others, 8 texts.
sub gguf_array
{
	my ($key, $type, @values) = @_;
	my $bytes = $type == 8 ? join('', map { gguf_string($_) } @values) : pack(($type == 5 ? 'l<*' : 'f<*'), @values);
	return gguf_string($key) . pack('L<L<Q<', 9, $type, scalar @values) . $bytes;
}

# The file of keys, each the bytes that it has there, and of tensors of float32 as safetensors() takes them.
sub gguf
{
	my ($keys, %tensors) = @_;
	my ($infos, $data) = ('', '');
	foreach my $name (sort keys %tensors)
	{
		my ($shape, $bytes) = @{ $tensors{$name} };
		$infos .= gguf_string($name) . pack 'L<Q<*', scalar @$shape, reverse @$shape;
		$infos .= pack 'L<Q<', 0, length $data;
		$data .= $bytes . "\0" x (-length($bytes) % 32);
	}
	my $head = pack('a4L<Q<Q<', 'GGUF', 3, scalar keys %tensors, scalar @$keys) . join('', @$keys) . $infos;
	return $head . "\0" x (-length($head) % 32) . $data;
}

sub gguf_u16 { my ($key, $value) = @_; return gguf_string($key) . pack 'L<S<', 2, $value; }

# The same model as one file.
sub write_stories_gguf
{
	my ($path, $data) = @_;
	my ($keys, %tensors) = gguf_stories($data);
	write_file($path, gguf($keys, %tensors));
	return;
}

# The same in parts: "$stem-00001-of-00003.gguf" with all keys and no tensor, and others.  %wrong: what "count", of all
# tensors, is told to be, and whether the last two parts change places ("swap").
sub write_stories_parts
{
	my ($stem, $data, %wrong) = @_;
	my ($keys, %tensors) = gguf_stories($data);
	my @names = sort keys %tensors;
	my $half = int(@names / 2);
	my @parts = ([], [ @names[ 0 .. $half ] ], [ @names[ $half + 1 .. $#names ] ]);
	foreach my $part (0 .. $#parts)
	{
		my $number = $part > 0 && $wrong{swap} ? 3 - $part : $part;
		my @own = (gguf_u16('split.no', $number), gguf_u16('split.count', 3), gguf_u32('split.tensors.count', $wrong{count} // scalar @names));
		push @own, @$keys if $part == 0;
		write_file(sprintf("$stem-%05d-of-00003.gguf", $part + 1), gguf(\@own, map { $_ => $tensors{$_} } @{ $parts[$part] }));
	}
	return;
}

# Keys of the file, and its tensors.
sub gguf_stories
{
	my ($data) = @_;
	my ($c, $tensors) = source_tensors($data);
	my @pieces = pieces(read_file("$data/stories260K_tok512.bin"), $c->{vocab});
	my @keys = (
		gguf_text('general.architecture', 'llama'),
		gguf_u32('llama.context_length', $c->{context}), gguf_u32('llama.embedding_length', $c->{width}),
		gguf_u32('llama.block_count', $c->{depth}), gguf_u32('llama.feed_forward_length', $c->{ffn}),
		gguf_u32('llama.attention.head_count', $c->{heads}), gguf_u32('llama.attention.head_count_kv', $c->{kv_heads}),
		gguf_f32('llama.attention.layer_norm_rms_epsilon', 1e-5), gguf_u32('llama.rope.dimension_count', $c->{dim}),
		gguf_text('tokenizer.ggml.model', 'llama'), gguf_array('tokenizer.ggml.tokens', 8, map { $_->[0] } @pieces),
		gguf_array('tokenizer.ggml.scores', 6, map { $_->[1] } @pieces), gguf_array('tokenizer.ggml.token_type', 5, map { $_->[2] } @pieces),
		gguf_u32('tokenizer.ggml.bos_token_id', 1), gguf_u32('tokenizer.ggml.eos_token_id', 2), gguf_u32('tokenizer.ggml.unknown_token_id', 0));
	return (\@keys, map { gguf_name($_) => $tensors->{$_} } keys %$tensors);
}

# A folder of a golden BERT and a vocabulary of its size; its tensors "golden.*" are no part of the checkpoint.
# %changes: texts of its config.json and what stands there instead.
my @words = (qw([PAD] [UNK] [CLS] [SEP] [MASK] a the cat dog eats sees runs bird city street house is in on what where who old new red blue
	man woman child plays with and of to from likes ? .), ',', '!');

sub write_golden
{
	my ($folder, $name, %changes) = @_;
	my $bytes = read_file("tests/unit/golden/checkpoints/$name.safetensors");
	my ($text) = substr($bytes, 8, unpack 'Q<', $bytes) =~ /"config\.json":"((?:[^"\\]|\\.)*)"/;
	$text =~ s/\\(.)/$1/g;
	$text =~ s/\Q$_\E/$changes{$_}/g foreach keys %changes;
	mkdir $folder;
	write_file("$folder/config.json", $text);
	write_file("$folder/model.safetensors", $bytes);
	write_words($folder);
	return;
}

sub write_words
{
	my ($folder) = @_;
	write_file("$folder/vocab.txt", join("\n", @words) . "\n");
	write_file("$folder/tokenizer_config.json", '{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": 1000000000000000019884624838656}');
	return;
}

# The same with all files that the golden one has, and its tensors in a file of each folder that their names begin with.
sub write_golden_folders
{
	my ($folder, $name) = @_;
	my $bytes = read_file("tests/unit/golden/checkpoints/$name.safetensors");
	my $head = unpack 'Q<', $bytes;
	my $tensors = decode_json(substr $bytes, 8, $head);
	my $files = delete $tensors->{__metadata__};
	my %parts;
	foreach my $tensor (grep { !/^golden\./ } keys %$tensors)
	{
		my ($part, $own) = $tensor =~ m{^(.*/)?(.*)$};
		my ($begin, $end) = @{ $tensors->{$tensor}{data_offsets} };
		$parts{ $part // '' }{$own} = [ $tensors->{$tensor}{shape}, substr $bytes, 8 + $head + $begin, $end - $begin ];
	}
	mkdir $folder;
	mkdir "$folder/$_" foreach map { m{^(.*)/} ? $1 : () } keys %$files;
	write_file("$folder/$_", $files->{$_}) foreach keys %$files;
	write_file("$folder/${_}model.safetensors", safetensors(%{ $parts{$_} })) foreach keys %parts;
	write_words($folder);
	return;
}

1;
