import type { ChatMessage, RewardInput } from "@rlpt/core"
import type { ModelTokenizer } from "@rlpt/models"

/** The tokens of prompt and completion, as a reward model is trained on them. */
export const textOf = (tokenizer: ModelTokenizer, input: RewardInput): Int32Array => {
  const { completion, finishReason, messages, prompt } = input
  if (messages !== undefined) return tokenizer.encodeChat(answered(messages, completion)).tokens
  const { encode, endOfText } = tokenizer
  // The prompt is tokenised by itself, as it is when a model is sampled from.
  const before = encode(prompt)
  const joined = encode(prompt + completion)
  const isWhole = before.every((token, i) => joined[i] === token)
  const tokens = isWhole ? joined : [...before, ...encode(completion).subarray(encode("").length)]
  const end = finishReason === "stop" && !endOfText.includes(tokens.at(-1)!) ? endOfText.slice(0, 1) : []
  return Int32Array.from([...tokens, ...end])
}

/** A conversation with its answer; one that ends with an open answer goes on in it. */
const answered = (messages: ReadonlyArray<ChatMessage>, completion: string): ReadonlyArray<ChatMessage> => {
  const last = messages.at(-1)
  return last?.role === "assistant" && typeof last.content === "string"
    ? [...messages.slice(0, -1), { ...last, content: last.content + completion }]
    : [...messages, { role: "assistant", content: completion }]
}
