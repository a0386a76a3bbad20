import { Context, Schema, type Effect } from "effect"
import type { ChatMessage, ChatOptions, EncodedChat, MaskedChat } from "../chat.ts"

export class TokenizerError extends Schema.TaggedError<TokenizerError>()("TokenizerError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect()),
}) {}

/** The policy's tokenizer. */
export class Tokenizer extends Context.Service<
  Tokenizer,
  {
    /** Token ids of `text`, with the special tokens that start a sequence (BOS) if the model has them. */
    readonly encode: (text: string) => Effect.Effect<Int32Array, TokenizerError>
    /**
     * A conversation that the model is to go on with, by its chat template: with the words that start an answer, or, if
     * the assistant's is the last message, open at the end of it. Fails for a model without a chat template.
     */
    readonly encodePrompt: (
      messages: ReadonlyArray<ChatMessage>,
      options?: ChatOptions,
    ) => Effect.Effect<EncodedChat, TokenizerError>
    /** A whole conversation; the mask leaves out what the assistant says before message number `from`. */
    readonly encodeChat: (
      messages: ReadonlyArray<ChatMessage>,
      options?: ChatOptions & { readonly from?: number },
    ) => Effect.Effect<MaskedChat, TokenizerError>
    /** Text of `tokens`, special tokens left out. */
    readonly decode: (tokens: Int32Array) => string
    /** The tokens that end a text. */
    readonly endOfText: ReadonlyArray<number>
    readonly vocabularySize: number
  }
>()("@rlpt/core/Tokenizer") {}
