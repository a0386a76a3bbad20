/** A message of a conversation. Chat templates may read more fields: `tool_calls`, `reasoning_content`, `name`. */
export interface ChatMessage {
  /** `system`, `user`, `assistant` or `tool`, mostly. */
  readonly role: string
  readonly content?: unknown
  readonly [field: string]: unknown
}

/** What a model reads: text as it stands, or a conversation that its chat template writes. */
export type Content = string | ReadonlyArray<ChatMessage>

/** Descriptions of the tools that an assistant may call, as JSON Schema, mostly of OpenAI's function form. */
export type ChatTools = ReadonlyArray<Readonly<Record<string, unknown>>>

/** What a chat template reads besides messages. */
export interface ChatOptions {
  readonly tools?: ChatTools
  /** More variables for the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>
}

/** A conversation as a model reads it. */
export interface EncodedChat {
  readonly text: string
  readonly tokens: Int32Array
}

/** A conversation, and which of its tokens the assistant wrote. */
export interface MaskedChat extends EncodedChat {
  /** 1 for each token of the assistant's, the one that ends its turn included; else 0. */
  readonly assistantMask: Uint8Array
}
