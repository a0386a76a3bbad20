import type { TokenizerFiles } from "./tokenizer.ts"

/**
 * A tokenizer with one token per character, for small models made from scratch. Ids: `bos` 0, `eos` 1, then the
 * characters in order. Encoding starts with `bos` and refuses a character outside of the vocabulary.
 *
 * @param characters Unicode characters (code points), each once
 * @throws RangeError for a character given twice
 */
export const characterTokenizer = (
  characters: Iterable<string>,
  { bos, eos }: { readonly bos: string; readonly eos: string },
): TokenizerFiles => {
  const tokens = [bos, eos, ...characters]
  const vocab: Record<string, number> = {}
  for (const [id, token] of tokens.entries()) {
    if (Object.hasOwn(vocab, token)) throw new RangeError(`token ${JSON.stringify(token)} is given twice`)
    if (id > 1 && Array.from(token).length !== 1) throw new RangeError(`${JSON.stringify(token)} is not one character`)
    vocab[token] = id
  }
  const special = (content: string, id: number) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [special(bos, 0), special(eos, 1)],
      normalizer: null,
      pre_tokenizer: { type: "Split", pattern: { Regex: "[\\s\\S]" }, behavior: "Isolated", invert: false },
      post_processor: {
        type: "TemplateProcessing",
        single: [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
        pair: [
          { SpecialToken: { id: bos, type_id: 0 } },
          { Sequence: { id: "A", type_id: 0 } },
          { Sequence: { id: "B", type_id: 1 } },
        ],
        special_tokens: { [bos]: { id: bos, ids: [0], tokens: [bos] } },
      },
      decoder: { type: "Fuse" },
      // WordLevel must name a token for unknowns; this one is not in the vocabulary, so unknowns are an error.
      model: { type: "WordLevel", vocab, unk_token: "<unk>" },
    },
    config: {
      tokenizer_class: "PreTrainedTokenizerFast",
      bos_token: bos,
      eos_token: eos,
      clean_up_tokenization_spaces: false,
    },
  }
}
