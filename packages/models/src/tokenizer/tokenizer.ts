import { Tokenizer } from "@huggingface/tokenizers"
import { tokenIds, type DecoderConfig } from "../config.ts"
import { ModelError } from "../errors.ts"
import { readJson, readText, type FileSource } from "../files.ts"
import { parseChatTemplate, type ChatMessage, type ChatOptions, type ChatTemplate } from "./chat-template.ts"
import { encodeChat, encodeFollowing, encodePrompt, type ChatEncoding, type EncodedChat } from "./chat.ts"
import { repairByteFallback, repairDigits } from "./repairs.ts"

/** `tokenizer.json` and `tokenizer_config.json`, parsed, and the text of `chat_template.jinja`. */
export interface TokenizerFiles {
  readonly tokenizer: Readonly<Record<string, unknown>>
  readonly config: Readonly<Record<string, unknown>>
  /** Absent: `chat_template` of the configuration. */
  readonly chatTemplate?: string
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
  /** Whether the model has a chat template; without one, the functions below throw. */
  readonly hasChatTemplate: boolean
  /**
   * The text of a conversation, by the model's chat template.
   *
   * @throws ModelError if there is none, or it refuses the conversation
   */
  readonly applyChatTemplate: (messages: ReadonlyArray<ChatMessage>, options?: ChatOptions) => string
  /** Its tokens, and which of them the assistant wrote. See {@link encodeChat}. */
  readonly encodeChat: (
    messages: ReadonlyArray<ChatMessage>,
    options?: ChatOptions & { readonly from?: number },
  ) => EncodedChat
  /** The text and tokens of a conversation that the model is to go on with. See {@link encodePrompt}. */
  readonly encodePrompt: (
    messages: ReadonlyArray<ChatMessage>,
    options?: Omit<ChatOptions, "addGenerationPrompt">,
  ) => Pick<EncodedChat, "text" | "tokens">
  /** The tokens between a sampled answer and the next one. See {@link encodeFollowing}. */
  readonly encodeFollowing: (
    history: ReadonlyArray<ChatMessage>,
    following: ReadonlyArray<ChatMessage>,
    options: ChatOptions & { readonly answerEnded: boolean },
  ) => Int32Array<ArrayBuffer>
}

/** Where transformers 5 saves the chat template. */
const TEMPLATE = "chat_template.jinja"

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
  const result = createTokenizer(
    { tokenizer, config, ...(source.has(TEMPLATE) && { chatTemplate: await readText(source, TEMPLATE) }) },
    [...model.eosTokenIds, ...more],
    path,
  )
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
  const eosToken = tokenContent(files.config["eos_token"])
  const eos = eosToken === undefined ? undefined : tokenizer.token_to_id(eosToken)
  let vocabularySize = 0
  for (const id of tokenizer.get_vocab().values()) vocabularySize = Math.max(vocabularySize, id + 1)

  const encode = (text: string, addSpecialTokens = true) => {
    const { ids, tokens } = tokenizer.encode(text, { add_special_tokens: addSpecialTokens })
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

  const ends = endOfText.length > 0 ? [...new Set(endOfText)] : eos === undefined ? [] : [eos]
  const templates = chatTemplates(files, path)
  const chat = ({ tools }: ChatOptions = {}): ChatEncoding => {
    const template = templates.parse(tools !== undefined)
    if (template === undefined) {
      const problem = "the model has no chat template; give prompts as text, or put a chat_template.jinja beside it"
      throw new ModelError("tokenizer", path, problem)
    }
    const endOfTurn = ends.flatMap((id) => tokenizer.id_to_token(id) ?? [])
    return { template, encode: (text) => encode(text, false), endOfTurn, path }
  }

  return {
    encode: (text) => encode(text),
    decode,
    endOfText: ends,
    vocabularySize,
    hasChatTemplate: templates.exist,
    applyChatTemplate: (messages, options) => chat(options).template.render(messages, options),
    encodeChat: (messages, options) => encodeChat(chat(options), messages, options),
    encodePrompt: (messages, options) => encodePrompt(chat(options), messages, options),
    encodeFollowing: (history, following, options) => encodeFollowing(chat(options), history, following, options),
  }
}

/**
 * The chat templates for conversations with and without tools: `tool_use` and `default` where there are several. They
 * are parsed when they are first used: a template beyond this library must not keep a model from loading.
 */
const chatTemplates = ({ config, chatTemplate }: TokenizerFiles, path: string) => {
  const stored = chatTemplate ?? config["chat_template"]
  const named = (name: string): unknown =>
    Array.isArray(stored) ? stored.find((entry: unknown) => isNamed(entry) && entry.name === name)?.template : undefined
  const fallback = Array.isArray(stored) ? named("default") : stored
  const sources = [fallback, named("tool_use") ?? fallback]
  const specialTokens = Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) => {
      const content = key.endsWith("_token") ? tokenContent(value) : undefined
      return content === undefined ? [] : [[key, content]]
    }),
  )
  const parsed = new Map<unknown, ChatTemplate>()
  const parse = (withTools: boolean): ChatTemplate | undefined => {
    const source = sources[withTools ? 1 : 0]
    if (typeof source !== "string") return undefined
    const known = parsed.get(source) ?? parseChatTemplate(source, specialTokens, path)
    parsed.set(source, known)
    return known
  }
  return { exist: sources.some((source) => typeof source === "string"), parse }
}

const isNamed = (entry: unknown): entry is { readonly name: unknown; readonly template: unknown } =>
  typeof entry === "object" && entry !== null && "name" in entry && "template" in entry

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

/** Text of a special token, which `tokenizer_config.json` gives as a string or as an object. */
const tokenContent = (token: unknown): string | undefined => {
  const content = typeof token === "object" && token !== null && "content" in token ? token.content : token
  return typeof content === "string" ? content : undefined
}
