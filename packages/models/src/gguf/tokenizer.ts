import { ModelError } from "../errors.ts"
import type { TokenizerFiles } from "../tokenizer/tokenizer.ts"
import type { Metadata } from "./metadata.ts"
import { preTokenizations, type PreTokenization } from "./pre-tokenizers.ts"

/** `tokenizer.ggml.token_type` */
const UNKNOWN = 2
const CONTROL = 3
const USER_DEFINED = 4
const UNUSED = 5

/** Twice what the longest tokens of published models have, runs of spaces; finding merges is quadratic in it. */
const MAX_TOKEN_LENGTH = 1024

/** The SentencePiece mark of a space, U+2581. */
const SPACE = "\u2581"

/**
 * `tokenizer.json` and `tokenizer_config.json` (with the chat template) from GGUF metadata, or undefined for a file
 * without a vocabulary.
 *
 * @throws ModelError for a kind of tokenizer that is not supported, or lists that do not fit each other
 */
export const tokenizerFromGguf = (metadata: Metadata, file: string): TokenizerFiles | undefined => {
  const model = metadata.string("tokenizer.ggml.model")
  const tokens = metadata.strings("tokenizer.ggml.tokens")
  if (model === undefined || model === "none" || tokens === undefined) return undefined
  const types = metadata.numbers("tokenizer.ggml.token_type") ?? []
  if (model === "gpt2") return byteLevelBpe(metadata, tokens, types, file)
  if (model === "llama") return sentencePiece(metadata, tokens, types, file)
  const problem = `tokenizer ${JSON.stringify(model)} is not supported (supported: gpt2, llama)`
  throw new ModelError("unsupported", file, problem)
}

const byteLevelBpe = (
  metadata: Metadata,
  tokens: ReadonlyArray<string>,
  types: ReadonlyArray<number>,
  file: string,
): TokenizerFiles => {
  const words = preTokenization(metadata, file)
  const added = addedTokens(tokens, types)
  const merges = metadata.required("tokenizer.ggml.merges", metadata.strings("tokenizer.ggml.merges"))
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: words.normalizer,
      pre_tokenizer: words.preTokenizer,
      post_processor: surround(metadata, tokens, { bos: words.addBos, eos: false }, file),
      decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: words.ignoreMerges,
        vocab: vocabulary(tokens, (id) => types[id] !== UNUSED, file),
        merges,
      },
    },
    config: tokenizerConfig(metadata, tokens, file),
  }
}

const preTokenization = (metadata: Metadata, file: string): PreTokenization => {
  const name = metadata.string("tokenizer.ggml.pre")
  const known = name !== undefined && Object.hasOwn(preTokenizations, name) ? preTokenizations[name] : undefined
  if (known !== undefined) return known
  // Without the right one a text still gets tokens, but not those that the model was trained on.
  const problem =
    name === undefined || name === "default"
      ? `does not say how text is cut into words ("tokenizer.ggml.pre"); convert the model with a newer llama.cpp`
      : `pre-tokenizer ${JSON.stringify(name)} is not supported (supported: ${Object.keys(preTokenizations).join(", ")})`
  throw new ModelError("unsupported", file, problem)
}

/** As transformers converts a SentencePiece model of type BPE: merges follow from the scores. */
const sentencePiece = (
  metadata: Metadata,
  tokens: ReadonlyArray<string>,
  types: ReadonlyArray<number>,
  file: string,
): TokenizerFiles => {
  const scores = metadata.required("tokenizer.ggml.scores", metadata.numbers("tokenizer.ggml.scores"))
  if (scores.length !== tokens.length) {
    throw new ModelError("tokenizer", file, `has ${tokens.length} tokens but ${scores.length} scores`)
  }
  const prefixSpace = metadata.boolean("tokenizer.ggml.add_space_prefix") ?? true
  const vocab = vocabulary(tokens, () => true, file)
  const unknown = specialToken(metadata, tokens, "unknown", file) ?? tokens[types.indexOf(UNKNOWN)] ?? null
  const spaces = { type: "Replace", pattern: { String: " " }, content: SPACE }
  const normalizers = prefixSpace ? [{ type: "Prepend", prepend: SPACE }, spaces] : [spaces]
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: addedTokens(tokens, types),
      normalizer: { type: "Sequence", normalizers },
      pre_tokenizer: null,
      post_processor: surround(metadata, tokens, { bos: true, eos: false }, file),
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: SPACE }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
          ...(prefixSpace ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
        ],
      },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: unknown,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        ignore_merges: false,
        vocab,
        merges: mergesFromScores(tokens, types, scores, new Map(tokens.map((token, id) => [token, id]))),
      },
    },
    config: tokenizerConfig(metadata, tokens, file),
  }
}

/** `generate_merges` of transformers' convert_slow_tokenizer.py: every split of a token into two, best score first. */
const mergesFromScores = (
  tokens: ReadonlyArray<string>,
  types: ReadonlyArray<number>,
  scores: ReadonlyArray<number>,
  ids: ReadonlyMap<string, number>,
): ReadonlyArray<string> => {
  const merges: Array<{ left: string; right: string; score: number }> = []
  for (const [id, token] of tokens.entries()) {
    if (types[id] === CONTROL || types[id] === UNKNOWN) continue
    const splits: Array<{ left: string; right: string; score: number }> = []
    for (let at = 1; at < token.length; at++) {
      const left = token.slice(0, at)
      const right = token.slice(at)
      if (ids.has(left) && ids.has(right)) splits.push({ left, right, score: scores[id]! })
    }
    splits.sort((a, b) => ids.get(a.left)! - ids.get(b.left)! || ids.get(a.right)! - ids.get(b.right)!)
    merges.push(...splits)
  }
  const length = (text: string) => Array.from(text).length
  merges.sort((a, b) => b.score - a.score || length(b.left) - length(a.left) || length(b.right) - length(a.right))
  return merges.map(({ left, right }) => `${left} ${right}`)
}

const vocabulary = (
  tokens: ReadonlyArray<string>,
  keep: (id: number) => boolean,
  file: string,
): Readonly<Record<string, number>> => {
  const vocab = new Map<string, number>()
  for (const [id, token] of tokens.entries()) {
    if (!keep(id)) continue
    if (token.length > MAX_TOKEN_LENGTH) {
      const problem = `token ${id} has ${token.length} characters (at most ${MAX_TOKEN_LENGTH} are allowed)`
      throw new ModelError("tokenizer", file, problem)
    }
    if (vocab.has(token)) {
      const problem = `token ${JSON.stringify(token)} has two ids, ${vocab.get(token)} and ${id}`
      throw new ModelError("tokenizer", file, problem)
    }
    vocab.set(token, id)
  }
  return Object.fromEntries(vocab)
}

/** Tokens that are found in a text before anything else. */
const addedTokens = (tokens: ReadonlyArray<string>, types: ReadonlyArray<number>) =>
  tokens.flatMap((content, id) => {
    const type = types[id]
    if (type !== UNKNOWN && type !== CONTROL && type !== USER_DEFINED) return []
    const special = type !== USER_DEFINED
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }]
  })

/** The BOS and EOS tokens around a sequence, or null. */
const surround = (
  metadata: Metadata,
  tokens: ReadonlyArray<string>,
  fallback: { readonly bos: boolean; readonly eos: boolean },
  file: string,
): unknown => {
  const wanted = (name: "bos" | "eos") => {
    const add = metadata.boolean(`tokenizer.ggml.add_${name}_token`) ?? fallback[name]
    return add ? specialToken(metadata, tokens, name, file) : undefined
  }
  const [bos, eos] = [wanted("bos"), wanted("eos")]
  const around = [...new Set([bos, eos])].filter((token) => token !== undefined)
  if (around.length === 0) return null
  const one = (sequence: "A" | "B", type: number) => [
    ...(bos === undefined ? [] : [{ SpecialToken: { id: bos, type_id: type } }]),
    { Sequence: { id: sequence, type_id: type } },
    ...(eos === undefined ? [] : [{ SpecialToken: { id: eos, type_id: type } }]),
  ]
  return {
    type: "TemplateProcessing",
    single: one("A", 0),
    pair: [...one("A", 0), ...one("B", 1)],
    special_tokens: Object.fromEntries(
      around.map((token) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }]),
    ),
  }
}

const specialToken = (
  metadata: Metadata,
  tokens: ReadonlyArray<string>,
  name: "bos" | "eos" | "unknown" | "padding",
  file: string,
): string | undefined => {
  const key = `tokenizer.ggml.${name}_token_id`
  const id = metadata.number(key)
  if (id === undefined) return undefined
  const token = tokens[id]
  if (token !== undefined) return token
  throw new ModelError("tokenizer", file, `"${key}" is ${id}, but there are ${tokens.length} tokens`)
}

const tokenizerConfig = (metadata: Metadata, tokens: ReadonlyArray<string>, file: string) => {
  const special = { bos_token: "bos", eos_token: "eos", unk_token: "unknown", pad_token: "padding" } as const
  const named = Object.entries(special).flatMap(([key, name]) => {
    const token = specialToken(metadata, tokens, name, file)
    return token === undefined ? [] : [[key, token]]
  })
  const template = metadata.string("tokenizer.chat_template")
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    clean_up_tokenization_spaces: false,
    ...Object.fromEntries(named),
    ...(template !== undefined && { chat_template: template }),
  }
}
