import { type ChatMessage, type Content, type TaskRow, Tokenizer, type TokenizerError } from "@rlpt/core"
import { Effect } from "effect"
import { TrainError } from "../errors.ts"

/** How the chat template writes the conversations of a task. */
export interface ChatTemplateOptions {
  /** More variables for the template. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>>
}

/** A prompt as the model reads it. */
export interface EncodedPrompt {
  readonly text: string
  readonly tokens: Int32Array
  /** Of a conversation. */
  readonly messages?: ReadonlyArray<ChatMessage>
}

/** A prompt with its completion, as a model learns from it. */
export interface EncodedExample {
  readonly tokens: Int32Array
  /** 1 for each token that is learnt: those of the completion, and of a conversation those that the assistant wrote. */
  readonly mask: Uint8Array
}

/** Token ids of `text`, which stands `where`: a text that the vocabulary cannot express is an error of that place. */
export const tokenize = Effect.fnUntraced(function* (text: string, where: string) {
  const { encode } = yield* Tokenizer
  return yield* at(where, encode(text))
})

const at = <A>(where: string, encoded: Effect.Effect<A, TokenizerError>) =>
  Effect.mapError(encoded, (cause) => new TrainError({ message: `${where}: ${cause.message}`, cause }))

const chatOptions = ({ tools }: TaskRow, { chatTemplateKwargs: variables }: ChatTemplateOptions) => ({
  ...(variables && { variables }),
  ...(tools && { tools }),
})

/** The row's prompt: text as it stands, or a conversation up to where the model's answer starts. */
export const encodePrompt = Effect.fnUntraced(function* (row: TaskRow, options: ChatTemplateOptions, where: string) {
  const { prompt } = row
  if (typeof prompt === "string") {
    return { text: prompt, tokens: yield* tokenize(prompt, where) } satisfies EncodedPrompt
  }
  const { encodePrompt: encode } = yield* Tokenizer
  return { ...(yield* at(where, encode(prompt, chatOptions(row, options)))), messages: prompt } satisfies EncodedPrompt
})

/**
 * The row's prompt with `completion` behind it, which ends the text. A prompt in words is tokenised by itself, exactly
 * as it is when the model is sampled from; a conversation is written by the chat template as a whole.
 */
export const encodeExample = Effect.fnUntraced(function* (
  row: TaskRow,
  completion: Content,
  options: ChatTemplateOptions,
  where: string,
) {
  const { prompt } = row
  const isText = typeof prompt === "string"
  if (isText !== (typeof completion === "string")) {
    const [text, chat] = isText ? ["prompt", "completion"] : ["completion", "prompt"]
    return yield* new TrainError({
      message: `${where}: the ${text} is text, but the ${chat} is a list of messages: write both in the same way`,
    })
  }
  if (isText) return yield* encodeText(prompt, completion as string, where)
  const { encodeChat } = yield* Tokenizer
  const messages = [...prompt, ...(completion as ReadonlyArray<ChatMessage>)]
  const chat = encodeChat(messages, { ...chatOptions(row, options), from: prompt.length })
  const { tokens, assistantMask: mask } = yield* at(where, chat)
  return { tokens, mask } satisfies EncodedExample
})

const encodeText = Effect.fnUntraced(function* (prompt: string, completion: string, where: string) {
  const { endOfText } = yield* Tokenizer
  const encode = (text: string) => tokenize(text, where)
  const promptTokens = yield* encode(prompt)
  const completionTokens =
    continuation(promptTokens, yield* encode(prompt + completion)) ??
    (yield* encode(completion)).subarray((yield* encode("")).length)
  const last = completionTokens.at(-1)
  const end = last !== undefined && endOfText.includes(last) ? [] : endOfText.slice(0, 1)
  const tokens = Int32Array.from([...promptTokens, ...completionTokens, ...end])
  return { tokens, mask: new Uint8Array(tokens.length).fill(1, promptTokens.length) } satisfies EncodedExample
})

/** What follows `prefix` in `tokens`; `undefined` where the text was cut differently across the boundary. */
const continuation = (prefix: Int32Array, tokens: Int32Array): Int32Array | undefined =>
  prefix.every((token, i) => tokens[i] === token) ? tokens.subarray(prefix.length) : undefined
