import { ModelError } from "../errors.ts"
import type { ChatMessage, ChatOptions, ChatTemplate, Span } from "./chat-template.ts"

/** A conversation as a model reads it. */
export interface EncodedChat {
  readonly text: string
  readonly tokens: Int32Array<ArrayBuffer>
  /** 1 for each token that the assistant wrote, the one that ends its turn included; else 0. */
  readonly assistantMask: Uint8Array<ArrayBuffer>
}

/** What chat needs from a tokenizer. */
export interface ChatEncoding {
  readonly template: ChatTemplate
  /** Token ids of a text, without special tokens around it: the template writes its own. */
  readonly encode: (text: string) => Int32Array<ArrayBuffer>
  /** The texts of tokens that end an assistant's turn. */
  readonly endOfTurn: ReadonlyArray<string>
  /** The name that errors carry. */
  readonly path: string
}

/**
 * Writes a conversation with the model's template and finds which tokens are the assistant's: those that the template's
 * `{% generation %}` tags enclose, as transformers does, or else what each assistant's message adds to the conversation
 * before it, up to the end-of-turn token.
 *
 * @param options `from`: what the assistant says before the message of this number is left out of the mask
 * @throws ModelError if the template refuses the conversation, or rewrites it so that the assistant's part is not clear
 */
export const encodeChat = (
  chat: ChatEncoding,
  messages: ReadonlyArray<ChatMessage>,
  { from = 0, ...options }: ChatOptions & { readonly from?: number } = {},
): EncodedChat => {
  const { template, encode } = chat
  const text = template.render(messages, options)
  const tokens = encode(text)
  const tagged = template.generationSpans(messages, options)
  const spans = tagged
    ? tagged.slice(spansBefore(template, messages.slice(0, from), options))
    : assistantSpans(chat, messages, options, text, from)
  const assistantMask = new Uint8Array(tokens.length)
  for (const { begin, end } of spans) {
    if (begin === end) continue
    // A token that reaches over a span's beginning or end is partly the assistant's, and counts.
    assistantMask.fill(1, boundary(chat, text, tokens, begin).before, boundary(chat, text, tokens, end).after)
  }
  return { text, tokens, assistantMask }
}

/** Spans that the tags of a template enclose in the first messages of a conversation. */
const spansBefore = (template: ChatTemplate, messages: ReadonlyArray<ChatMessage>, options: ChatOptions): number => {
  // Without an answer there is none; and some templates refuse a conversation without messages.
  if (!messages.some(({ role }) => role === "assistant")) return 0
  return template.generationSpans(messages, { ...options, addGenerationPrompt: false })!.length
}

/**
 * A conversation that a model is to go on with: with the words that start an answer, or, if the assistant's is the last
 * message, open at the end of what it says, as transformers does for `continue_final_message`.
 *
 * @throws ModelError if the template refuses the conversation, or does not write a last message of the assistant's
 */
export const encodePrompt = (
  { template, encode, path }: ChatEncoding,
  messages: ReadonlyArray<ChatMessage>,
  options: Omit<ChatOptions, "addGenerationPrompt"> = {},
): Pick<EncodedChat, "text" | "tokens"> => {
  const last = messages.at(-1)
  const isOpen = last?.role === "assistant"
  const written = template.render(messages, { ...options, addGenerationPrompt: !isOpen })
  const text = isOpen ? openAt(written, last.content, path) : written
  return { text, tokens: encode(text) }
}

/** `written` up to the end of the last message's content. Templates may trim that. */
const openAt = (written: string, content: unknown, path: string): string => {
  const trimmed = typeof content === "string" ? content.trim() : ""
  const at = written.lastIndexOf(trimmed)
  if (typeof content !== "string" || at < 0) {
    const problem = "the chat template does not write the last message as it is, so that it cannot be gone on with"
    throw new ModelError("tokenizer", path, problem)
  }
  const whole = content.trimStart()
  return written.slice(0, at + (written.startsWith(whole, at) ? whole : trimmed).length)
}

/**
 * How many tokens lie before position `at` of the text, without and with one that reaches over it. The library gives no
 * offsets; but where a text can be cut, one side of the cut alone has the tokens that it has in the whole.
 */
const boundary = (
  { encode }: ChatEncoding,
  text: string,
  tokens: Int32Array,
  at: number,
): { readonly before: number; readonly after: number } => {
  const left = encode(text.slice(0, at))
  let common = 0
  while (common < left.length && left[common] === tokens[common]) common++
  if (common === left.length) return { before: common, after: common }
  const right = encode(text.slice(at))
  const start = tokens.length - right.length
  if (start >= common && right.every((token, i) => token === tokens[start + i])) return { before: start, after: start }
  return { before: common, after: common + 1 }
}

/** The assistant's parts of `text`, by rendering the conversation up to each of its messages. */
const assistantSpans = (
  { template, endOfTurn, path }: ChatEncoding,
  messages: ReadonlyArray<ChatMessage>,
  options: ChatOptions,
  text: string,
  from: number,
): ReadonlyArray<Span> =>
  messages.flatMap(({ role }, index) => {
    if (role !== "assistant" || index < from) return []
    // Some templates refuse a conversation without messages.
    const before =
      index === 0 ? "" : template.render(messages.slice(0, index), { ...options, addGenerationPrompt: false })
    const prompt =
      index === 0 ? "" : template.render(messages.slice(0, index), { ...options, addGenerationPrompt: true })
    const after = template.render(messages.slice(0, index + 1), { ...options, addGenerationPrompt: false })
    // A prompt may open what the template leaves out of messages that are over, such as "<think>".
    const begin = text.startsWith(prompt) ? prompt.length : commonLength(prompt, text)
    const end = text.startsWith(after) ? endOfLastTurn(after, begin, endOfTurn) : endOfFirstTurn(text, begin, endOfTurn)
    if (begin < before.length || end === undefined) {
      throw new ModelError(
        "tokenizer",
        path,
        `the chat template rewrites message ${index + 1} when others follow, so that its tokens cannot be told; ` +
          "put {% generation %} and {% endgeneration %} around what the assistant writes",
      )
    }
    return [{ begin, end }]
  })

const commonLength = (a: string, b: string): number => {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return length
}

/** Where a turn that ends `text` is over: behind the end-of-turn token, if nothing but white space follows it. */
const endOfLastTurn = (text: string, begin: number, endOfTurn: ReadonlyArray<string>): number => {
  const trimmed = text.trimEnd()
  const closed = endOfTurn.some((token) => trimmed.endsWith(token)) && trimmed.length > begin
  return closed ? trimmed.length : text.length
}

const endOfFirstTurn = (text: string, begin: number, endOfTurn: ReadonlyArray<string>): number | undefined => {
  const ends = endOfTurn.flatMap((token) => {
    const at = text.indexOf(token, begin)
    return at < 0 ? [] : [at + token.length]
  })
  return ends.length === 0 ? undefined : Math.min(...ends)
}

/**
 * The tokens between a sampled answer and the next one: what the template writes behind an assistant's message, the
 * messages that follow (a tool's result, a user's next question), and the words that start the next answer. They go
 * behind the sampled tokens, which are never turned into text and back: that could give other tokens than were sampled.
 *
 * @param history the conversation up to and including the answer, whose content is not read
 * @param following the messages after it
 * @param answerEnded the sampled tokens end with an end-of-text token, which is then not written again
 * @throws ModelError if the template does not write the answer's content as it is
 */
export const encodeFollowing = (
  { template, encode, endOfTurn, path }: ChatEncoding,
  history: ReadonlyArray<ChatMessage>,
  following: ReadonlyArray<ChatMessage>,
  { answerEnded, ...options }: ChatOptions & { readonly answerEnded: boolean },
): Int32Array<ArrayBuffer> => {
  const answer = { role: "assistant", content: ANSWER }
  const text = template.render([...history.slice(0, -1), answer, ...following], {
    addGenerationPrompt: true,
    ...options,
  })
  const pieces = text.split(ANSWER)
  if (pieces.length !== 2) {
    const problem = "the chat template does not write an assistant's message once and unchanged; turns cannot be joined"
    throw new ModelError("tokenizer", path, problem)
  }
  const rest = pieces[1]!
  const written = endOfTurn.find((token) => rest.startsWith(token))
  return encode(answerEnded && written !== undefined ? rest.slice(written.length) : rest)
}

/** Stands for an answer that is kept as tokens. */
const ANSWER = "\uFDD1"
