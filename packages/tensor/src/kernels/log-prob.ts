import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import { applyFused } from "../graph/apply.ts"
import type { Emitter, FusedOp, Operand } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { launchMatmul, type Epilogue, type Layout } from "./matmul/launch.ts"
import { launchRows, type RowKernel } from "./rows/launch.ts"
import { launchSoftCap, softCapWgsl } from "./soft-cap.ts"

export interface LogProbOptions {
  /** Divides the logits before log-softmax. */
  readonly temperature: number
}

export interface TokenLogProbOptions extends LogProbOptions {
  /** Logits z become softCap · tanh(z / softCap), as `softCap` computes it, before the temperature. Default off. */
  readonly softCap?: number | undefined
}

export interface TokenLogProbs {
  /** log softmax(logits / temperature)[target], [N]. */
  readonly logProbs: Tensor
  /** Entropy of softmax(logits / temperature), [N] (nats). */
  readonly entropy: Tensor
}

/** Bytes of logits that exist at one time. */
const chunkBytes = 16 * 2 ** 20

/** Rows per chunk: as many as fit, in multiples of 64 so that chunks start on aligned addresses. */
const chunkRows = (rows: number, vocabulary: number): number =>
  Math.min(rows, Math.max(64, Math.floor(chunkBytes / (vocabulary * 4 * 64)) * 64))

/** Bytes of logits that exist at one time while {@link tokenLogProbs} goes through `rows` rows. */
export const logProbChunkBytes = (rows: number, vocabulary: number): number =>
  chunkRows(rows, vocabulary) * vocabulary * 4

const forward: RowKernel = {
  name: "token log-prob",
  params: { inverseTemperature: "f32" },
  buffers: [reads("logits", "T"), reads("targets", "i32"), writes("logProbs"), writes("entropy"), writes("lse")],
  body: ({ exponentials, once, element }) => `
  ${exponentials((at) => `logits[${at}] * p.inverseTemperature`, { energy: true })}
  let norm = log(total);
  ${once(`logProbs[row] = ${element("logits", "u32(targets[row])")} * p.inverseTemperature - top - norm;
  entropy[row] = norm - energy / total;
  lse[row] = top + norm;`)}`,
}

/** Turns logits into their gradient where they lie; capped ones into that of the logits before the cap. */
const backward = (capped: boolean): Kernel => ({
  name: `token log-prob gradient${capped ? ", soft cap" : ""}`,
  params: { items: "u32", vocabulary: "u32", inverseTemperature: "f32", softCap: "f32" },
  buffers: [
    reads("targets", "i32"),
    reads("lse"),
    reads("entropy"),
    reads("gradLogProb"),
    reads("gradEntropy"),
    writes("logits"),
  ],
  body: () => `${softCapWgsl}
${perItem(64, "p.items")}
  let row = i / p.vocabulary;
  let logP = logits[i] * p.inverseTemperature - lse[row];
  let prob = exp(logP);
  let hit = select(0.0, 1.0, u32(targets[row]) == i % p.vocabulary);
  let slope = ${capped ? "softCapSlope(logits[i], p.softCap) * p.inverseTemperature" : "p.inverseTemperature"};
  logits[i] = (gradLogProb[row] * (hit - prob) - gradEntropy[row] * prob * (logP + entropy[row])) * slope;
}`,
})

const product = (emit: Emitter, layout: Layout, epilogue: Epilogue, a: Operand, b: Operand, out: Operand): void => {
  const [M, N] = out.spec.shape as [number, number]
  const K = layout === "tn" ? a.spec.shape[0]! : a.spec.shape[1]!
  launchMatmul(emit, { layout, epilogue, M, N, K }, { a, b, out })
}

type Attributes = TokenLogProbOptions
/** And whether the head wants a gradient: a frozen one costs none. */
type GradientAttributes = Attributes & { readonly trainsHead: boolean }

/** Logits of some rows, [count, V], after the cap if there is one. */
const logitsOf = (emit: Emitter, hidden: Operand, head: Operand, { softCap }: Attributes): Operand => {
  const spec = { shape: [hidden.spec.shape[0]!, head.spec.shape[0]!], dtype: "f32" } as const
  const logits = emit.scratch(spec)
  product(emit, "nt", "store", hidden, head, logits)
  if (softCap === undefined) return logits
  const capped = emit.scratch(spec)
  launchSoftCap(emit, logits, capped, softCap)
  return capped
}

/** Calls `visit` with the first row and number of rows of each chunk. */
const eachChunk = (rows: number, vocabulary: number, visit: (start: number, count: number) => void): void => {
  const chunk = chunkRows(rows, vocabulary)
  for (let start = 0; start < rows; start += chunk) visit(start, Math.min(chunk, rows - start))
}

const logProbOp: FusedOp<Attributes> = {
  name: "tokenLogProbs",
  floats: [0, 1],
  readsPacked: [1],
  infer: ([hidden, head, targets]) => {
    const rows = hidden!.shape[0]!
    if (hidden!.shape[1] !== head!.shape[1] || targets!.shape[0] !== rows || targets!.dtype !== "i32")
      throw new ShapeError(
        "tokenLogProbs",
        `hidden ${showShape(hidden!.shape)}, head ${showShape(head!.shape)} and ${targets!.dtype} targets ${showShape(targets!.shape)} must be [N, D], [V, D] and i32 [N]`,
      )
    const perRow = { shape: [rows], dtype: "f32" } as const
    return [perRow, perRow, perRow]
  },
  lower: (emit, [hidden, head, targets], outputs, attributes) => {
    const { temperature } = attributes
    const [vocabulary] = head!.spec.shape as [number]
    eachChunk(hidden!.spec.shape[0]!, vocabulary, (start, count) => {
      const part = (operand: Operand) => emit.rows(operand, start, count)
      const logits = logitsOf(emit, part(hidden!), head!, attributes)
      const operands = [logits, part(targets!), ...outputs.map(part)]
      launchRows(emit, forward, [count, vocabulary], operands, [1 / temperature])
    })
  },
  backward: ({ inputs, outputs: [, entropy, lse], grads: [gradLogProb, gradEntropy], attributes, needs }) => {
    const none = () => lse!.gpu.constant(0).broadcastTo(lse!.shape)
    const operands = [...inputs, lse!, entropy!, gradLogProb ?? none(), gradEntropy ?? none()]
    const [dHidden, dHead] = applyFused(gradientOp, operands, { ...attributes, trainsHead: needs[1]! })
    return [dHidden, dHead, undefined]
  },
}

/** The forward kernel alone, over logits that exist. */
const rowsOp: FusedOp<LogProbOptions> = {
  name: "logProbsOf",
  floats: [0],
  infer: ([logits, targets]) => {
    if (logits!.shape.length !== 2 || targets!.shape[0] !== logits!.shape[0] || targets!.dtype !== "i32")
      throw new ShapeError(
        "logProbsOf",
        `logits ${showShape(logits!.shape)} and ${targets!.dtype} targets ${showShape(targets!.shape)} must be [N, V] and i32 [N]`,
      )
    const perRow = { shape: [logits!.shape[0]!], dtype: "f32" } as const
    return [perRow, perRow, perRow]
  },
  lower: (emit, [logits, targets], outputs, { temperature }) => {
    const shape = logits!.spec.shape as [number, number]
    launchRows(emit, forward, shape, [logits!, targets!, ...outputs], [1 / temperature])
  },
}

/**
 * log softmax(logits / temperature)[target] of each row, [N], from logits [N, V] (capped if need be) and targets i32 [N]:
 * the numbers of {@link tokenLogProbs} bit for bit, without gradient.
 */
export const logProbsOf = (logits: Tensor, targets: Tensor, { temperature }: LogProbOptions): Tensor =>
  applyFused(rowsOp, [logits, targets], { temperature })[0]!

const gradientOp: FusedOp<GradientAttributes> = {
  name: "tokenLogProbs gradient",
  readsPacked: [1],
  infer: ([hidden, head], { trainsHead }) => [hidden!, ...(trainsHead ? [{ ...head!, dtype: "f32" as const }] : [])],
  lower: (emit, [hidden, head, ...perRow], [dHidden, dHead], attributes) => {
    const { temperature, softCap } = attributes
    const [vocabulary] = head!.spec.shape as [number]
    eachChunk(hidden!.spec.shape[0]!, vocabulary, (start, count) => {
      const part = (operand: Operand) => emit.rows(operand, start, count)
      const logits = logitsOf(emit, part(hidden!), head!, attributes)
      const items = count * vocabulary
      emit.launch(
        backward(softCap !== undefined),
        [...perRow.map(part), logits],
        [items, vocabulary, 1 / temperature, softCap ?? 0],
        gridFor(items, 64),
      )
      product(emit, "nn", "store", logits, head!, part(dHidden!))
      if (dHead) product(emit, "tn", start === 0 ? "store" : "accumulate", logits, part(hidden!), dHead)
    })
  },
}

/**
 * log-probability of one target token per row, and the entropy of the whole distribution, without an N × V matrix: the
 * language-model head, the softmax and the gather run over chunks of rows, and again in the backward pass.
 * hidden: [N, D]; head: [V, D], which may be packed; targets: i32 [N], 0 ≤ target < V. Exponentials are summed in blocks of 64, in order.
 */
export const tokenLogProbs = (
  hidden: Tensor,
  head: Tensor,
  targets: Tensor,
  { temperature, softCap }: TokenLogProbOptions,
): TokenLogProbs => {
  const [logProbs, entropy] = applyFused(logProbOp, [hidden, head, targets], { temperature, softCap })
  return { logProbs: logProbs!, entropy: entropy! }
}
