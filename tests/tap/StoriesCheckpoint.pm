# StoriesCheckpoint.pm
#   The model stories260K, a Llama of 260,000 weights in the layout of llama2.c, as a folder of Hugging Face's
#   libraries: config.json, model.safetensors, tokenizer.model, tokenizer_config.json.
#
# In the source, rotary positions turn neighbours (2 i, 2 i + 1) of a head, there numbers i and i + head_dim / 2:
# rows of queries and keys change places within their head.
package StoriesCheckpoint;

use strict;
use warnings;
use Exporter 'import';

our @EXPORT = qw(write_stories write_file read_file safetensors);

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

# Pieces of SentencePiece: unknown, <s>, </s>, 256 bytes, then texts with their scores.
sub sentencepiece
{
	my ($source, $vocab) = @_;
	my ($at, $model) = (4, '');
	foreach my $id (0 .. $vocab - 1)
	{
		my ($score, $length) = unpack 'f<l<', substr $source, $at, 8;
		my $text = substr $source, $at + 8, $length;
		my $type = $id == 0 ? 2 : $id < 3 ? 3 : $id < 259 ? 6 : 1;
		$text = $id == 0 ? '<unk>' : $id == 1 ? '<s>' : $id == 2 ? '</s>' : $text;
		$text =~ s/ /\xE2\x96\x81/g if $type == 1;
		$model .= bytes(1, bytes(1, $text) . float(2, $score) . number(3, $type));
		$at += 8 + $length;
	}
	my $trainer = number(3, 2) . number(4, $vocab) . number(35, 1) . number(40, 0) . number(41, 1) . number(42, 2);
	return $model . bytes(2, $trainer) . bytes(3, number(3, 1) . number(4, 0) . number(5, 1));
}

# Fill the folder from the two files of folder $data; returns what tensors there are, by name.
sub write_stories
{
	my ($folder, $data) = @_;
	my $source = read_file("$data/stories260K.bin");
	my ($width, $ffn, $depth, $heads, $kv_heads, $vocab, $context) = unpack 'l<7', $source;
	my $dim = $width / $heads;
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

1;
