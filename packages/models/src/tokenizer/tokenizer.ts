import { Tokenizer } from "@huggingface/tokenizers"
import { tokenIds, type DecoderConfig } from "../config.ts"
import { ModelError } from "../errors.ts"
import { readJson, type FileSource } from "../files.ts"
import { repairByteFallback, repairDigits } from "./repairs.ts"

/** `tokenizer.json` and `tokenizer_config.json`, parsed. */
export interface TokenizerFiles {
  readonly tokenizer: Readonly<Record<string, unknown>>
  readonly config: Readonly<Record<string, unknown>>
}

/** Text to token ids and back, as `transformers.AutoTokenizer` does it. */
export interface ModelTokenizer {
  /**
   * Token ids of `text`, with the special tokens that `tokenizer.json` puts around a sequence (BOS, mostly).
   *
   * @throws ModelError if the text has a character that the vocabulary cannot express
   */
  readonly encode: (text: string) => Int32Array<ArrayBuffer>
  /** Text of `tokens`, special tokens left out. Ids without a token (a padded vocabulary has some) give no text. */
  readonly decode: (tokens: ArrayLike<number>) => string
  /** The tokens that end a text. */
  readonly endOfText: ReadonlyArray<number>
  /** One more than the largest token id. */
  readonly vocabularySize: number
}

/**
 * The tokenizer in a model's directory, or undefined if there is no `tokenizer.json`. A text ends at the `eos_token_id`s
 * of `config.json` and `generation_config.json`, and without any at the tokenizer's `eos_token`.
 *
 * @throws ModelError if a file is malformed or the vocabulary is larger than the model's
 */
export const loadTokenizer = async (source: FileSource, model: DecoderConfig): Promise<ModelTokenizer | undefined> => {
  if (!source.has("tokenizer.json")) return undefined
  const path = source.path("tokenizer.json")
  const tokenizer = await readJson(source, "tokenizer.json")
  const config = source.has("tokenizer_config.json") ? await readJson(source, "tokenizer_config.json") : {}
  const generation = source.has("generation_config.json") ? await readJson(source, "generation_config.json") : {}
  const more = tokenIds(generation, "eos_token_id", null, source.path("generation_config.json"))
  const result = createTokenizer({ tokenizer, config }, [...model.eosTokenIds, ...more], path)
  if (result.vocabularySize > model.vocabSize) {
    throw new ModelError(
      "tokenizer",
      path,
      `has token ids up to ${result.vocabularySize - 1}, but the model's vocab_size is ${model.vocabSize}; ` +
        "this is the tokenizer of another model",
    )
  }
  return result
}

/**
 * @param endOfText ids that end a text; empty for the tokenizer's own `eos_token`
 * @param path the name that errors carry
 */
export const createTokenizer = (
  files: TokenizerFiles,
  endOfText: ReadonlyArray<number> = [],
  path = "tokenizer.json",
): ModelTokenizer => {
  const tokenizer = construct(files, path)
  const eos = tokenId(tokenizer, files.config["eos_token"])
  let vocabularySize = 0
  for (const id of tokenizer.get_vocab().values()) vocabularySize = Math.max(vocabularySize, id + 1)

  const encode = (text: string) => {
    const { ids, tokens } = tokenizer.encode(text)
    // The library gives no id to a token that it does not know when there is no token for unknowns.
    const unknown = (ids as ReadonlyArray<number | undefined>).indexOf(undefined)
    if (unknown >= 0) {
      const problem = `${JSON.stringify(tokens[unknown])} is not in the vocabulary, and there is no token for unknowns`
      throw new ModelError("tokenizer", path, problem)
    }
    return Int32Array.from(ids)
  }

  const decode = (tokens: ArrayLike<number>) => {
    const known = Array.from(tokens).filter((id) => tokenizer.id_to_token(id) !== undefined)
    // The library refuses an empty list. Its clean-up of spaces around punctuation would corrupt the text.
    if (known.length === 0) return ""
    return tokenizer.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false })
  }

  return {
    encode,
    decode,
    endOfText: endOfText.length > 0 ? [...new Set(endOfText)] : eos === undefined ? [] : [eos],
    vocabularySize,
  }
}

const construct = ({ tokenizer: json, config }: TokenizerFiles, path: string): Tokenizer => {
  let tokenizer: Tokenizer
  try {
    tokenizer = new Tokenizer({ ...json, pre_tokenizer: repairDigits(json["pre_tokenizer"]) }, config)
  } catch (cause) {
    throw new ModelError("tokenizer", path, `cannot be used (${(cause as Error).message})`, { cause })
  }
  repairByteFallback(tokenizer.decoder)
  return tokenizer
}

/** Id of a special token, which `tokenizer_config.json` gives as a string or as an object. */
const tokenId = (tokenizer: Tokenizer, token: unknown): number | undefined => {
  const content = typeof token === "object" && token !== null && "content" in token ? token.content : token
  return typeof content === "string" ? tokenizer.token_to_id(content) : undefined
}
