import { ShapeError } from "../errors.ts"
import { applyFused } from "../graph/apply.ts"
import type { FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"

/** Where B completions that are decoded side by side stand. All of it lives on the GPU and is updated in place. */
export interface DecodeState {
  /** Last token of each, i32 [B]: the next step's input. */
  readonly tokens: Tensor
  /** Its position, i32 [B]. */
  readonly positions: Tensor
  /** Row of the key-value cache it is written to, i32 [B]. */
  readonly rows: Tensor
  /** Keys it attends to, i32 [B, 4]; see `attention`. */
  readonly spans: Tensor
  /** Counter of its next draw, u32 [B, 4]; the last word is the position within the completion. */
  readonly keys: Tensor
  /** Tokens sampled so far, i32 [B]. */
  readonly lengths: Tensor
  /** Most tokens of each, i32 [B]; a completion with as many is finished, and one with −length is stopped. */
  readonly limits: Tensor
  /** Completions, i32 [B, T], and their log-probabilities, f32 [B, T]. */
  readonly completions: Tensor
  readonly logProbs: Tensor
}

const stateNames = [
  "tokens",
  "positions",
  "rows",
  "spans",
  "keys",
  "lengths",
  "limits",
  "completions",
  "logProbs",
] as const satisfies readonly (keyof DecodeState)[]

// Two kernels, since a browser may let one have eight buffers only.

/** Stores the tokens, and finishes completions that drew a stop token. */
const append: Kernel = {
  name: "decode: append",
  params: { items: "u32", capacity: "u32", stops: "u32" },
  buffers: [
    reads("next", "i32"),
    reads("nextLogProb"),
    reads("stopTokens", "i32"),
    writes("lengths", "i32"),
    writes("limits", "i32"),
    writes("completions", "i32"),
    writes("logProbs"),
  ],
  body: () => `${perItem(64, "p.items")}
  let length = lengths[i];
  if (length >= limits[i]) { return; }
  let token = next[i];
  completions[i * p.capacity + u32(length)] = token;
  logProbs[i * p.capacity + u32(length)] = nextLogProb[i];
  lengths[i] = length + 1;
  for (var s = 0u; s < p.stops; s++) { if (stopTokens[s] == token) { limits[i] = -(length + 1); return; } }
}`,
}

/** Prepares the next step of completions that are not finished. */
const moveOn: Kernel = {
  name: "decode: move on",
  params: { items: "u32" },
  buffers: [
    reads("next", "i32"),
    reads("lengths", "i32"),
    reads("limits", "i32"),
    writes("tokens", "i32"),
    writes("positions", "i32"),
    writes("rows", "i32"),
    writes("spans", "vec4i"),
    writes("keys", "vec4u"),
  ],
  body: () => `${perItem(64, "p.items")}
  if (lengths[i] >= limits[i]) { return; }
  tokens[i] = next[i];
  positions[i] += 1;
  rows[i] += 1;
  spans[i].w += 1;
  keys[i].w += 1u;
}`,
}

const advanceOp: FusedOp<undefined> = {
  name: "advance decoding",
  infer: ([, , , ...state]) => state,
  inPlace: () => Object.fromEntries(stateNames.map((_, i) => [i, i + 3])),
  lower: (emit, inputs) => {
    const [next, nextLogProb, stopTokens, ...rest] = inputs as [Operand, Operand, Operand, ...Operand[]]
    const state = Object.fromEntries(stateNames.map((name, i) => [name, rest[i]!])) as Record<
      keyof DecodeState,
      Operand
    >
    const { tokens, positions, rows, spans, keys, lengths, limits, completions, logProbs } = state
    const [batch, capacity] = completions.spec.shape as [number, number]
    const stops = stopTokens.spec.shape[0]!
    const grid = gridFor(batch, 64)
    const appended = [next, nextLogProb, stopTokens, lengths, limits, completions, logProbs]
    emit.launch(append, appended, [batch, capacity, stops], grid)
    emit.launch(moveOn, [next, lengths, limits, tokens, positions, rows, spans, keys], [batch], grid)
  },
}

/**
 * Appends a sampled token (i32 [B]) and its log-probability (f32 [B]) to every completion that is not finished, and
 * moves it on. One that drew a stop token (i32 [S]) gets the negative of its length as limit; one that reached its
 * limit stays as it is. Runs for its effect, without a word from the host.
 */
export const advanceDecoding = (state: DecodeState, next: Tensor, nextLogProbs: Tensor, stopTokens: Tensor): void => {
  if (next.dtype !== "i32" || stopTokens.dtype !== "i32")
    throw new ShapeError("advanceDecoding", "tokens and stop tokens must be i32")
  const [tokens] = applyFused(
    advanceOp,
    [next, nextLogProbs, stopTokens, ...stateNames.map((name) => state[name])],
    undefined,
  )
  next.gpu.effect(tokens!)
}
