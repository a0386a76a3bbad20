import type { Compiled } from "../device/compiled.ts"
import { valueAndGrad, type ValueAndGrad } from "../graph/autograd.ts"
import type { Tensor } from "../graph/tensor.ts"
import { pcg4d } from "../random/host.ts"

/** What {@link trainStep} needs of an optimiser. */
export interface Steps {
  readonly params: readonly Tensor[]
  readonly step: (result: ValueAndGrad) => Tensor
}

/**
 * One step of training as a recorded program: takes a batch, moves the optimiser's parameters down the gradient of `loss`,
 * and gives back the loss from before. The loss reads the parameters where they are, in a module for instance.
 */
export const trainStep = <Batch extends readonly Tensor[]>(
  optimizer: Steps,
  loss: (...batch: Batch) => Tensor,
): Compiled<Batch, Tensor> =>
  optimizer.params[0]!.gpu.compile(
    (...batch: Batch) => optimizer.step(valueAndGrad(() => loss(...batch), optimizer.params)),
    { name: "train step" },
  )

/**
 * The numbers 0 … count − 1 in random order, `size` at a time; what is left over is left out. Another `epoch` has another
 * order.
 */
export function* shuffledBatches(
  count: number,
  size: number,
  { seed, epoch = 0 }: { readonly seed: number; readonly epoch?: number },
): Generator<Int32Array<ArrayBuffer>> {
  const order = Int32Array.from({ length: count }, (_, i) => i)
  // Fisher–Yates.
  for (let i = count - 1; i > 0; i--) {
    const [word] = pcg4d(seed >>> 0, Math.floor(seed / 2 ** 32), i, epoch)
    const j = Math.floor((word / 2 ** 32) * (i + 1))
    const moved = order[i]!
    order[i] = order[j]!
    order[j] = moved
  }
  for (let start = 0; start + size <= count; start += size) yield order.slice(start, start + size)
}
