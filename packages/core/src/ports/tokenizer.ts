import { Context, Schema, type Effect } from "effect"

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
    /** Text of `tokens`, special tokens left out. */
    readonly decode: (tokens: Int32Array) => string
    /** The tokens that end a text. */
    readonly endOfText: ReadonlyArray<number>
    readonly vocabularySize: number
  }
>()("@rlpt/core/Tokenizer") {}
