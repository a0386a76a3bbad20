import { Tokenizer } from "@rlpt/core"
import { Effect } from "effect"
import { TrainError } from "../errors.ts"

/** Token ids of `text`, which stands `where`: a text that the vocabulary cannot express is an error of that place. */
export const tokenize = Effect.fnUntraced(function* (text: string, where: string) {
  const { encode } = yield* Tokenizer
  return yield* Effect.mapError(
    encode(text),
    (cause) => new TrainError({ message: `${where}: ${cause.message}`, cause }),
  )
})
