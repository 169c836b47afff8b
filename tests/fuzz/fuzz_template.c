/*
 * fuzz_template.c
 *	  Any bytes as a chat template, rendered with a conversation.
 *
 * Of the prompt as many bytes are marked as there are marks, and only where messages can have come in.
 */
#include <stdlib.h>

#include "../../src/text/template.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *given, *own;

static void
make_variables(void)
{
	given =
		json_pack("{s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:[{s:s, s:s}], s:{s:i, s:f, s:b, s:n}}]}", "messages", "role",
				  "system", "content", "Be brief.", "role", "user", "content", " <s>Gr\xC3\xBC\xC3\x9F\x65\n", "role",
				  "assistant", "content", "type", "text", "text", "x", "more", "a", 1, "b", 2.5, "c", 1, "d");
	own = json_pack("{s:b, s:s, s:s}", "add_generation_prompt", 1, "bos_token", "<s>", "eos_token", "</s>");
	REQUIRE(given != NULL && own != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct tm now = {.tm_year = 124, .tm_mday = 1};
	llm_error err = {.code = LLM_OK};
	text_buffer text = {0}, marks = {0};
	chat_template *t;

	if (given == NULL)
		make_variables();
	t = template_parse((const char *) data, size, &err);
	REQUIRE((t == NULL) == (err.code != LLM_OK));
	if (t != NULL && template_render(t, given, own, &now, &text, &marks, &err))
	{
		REQUIRE(text.size == marks.size);
		for (size_t i = 0; i < marks.size; i++)
			REQUIRE(marks.bytes[i] == 0 || marks.bytes[i] == 1);
	}
	template_free(t);
	free(text.bytes);
	free(marks.bytes);
	return 0;
}
