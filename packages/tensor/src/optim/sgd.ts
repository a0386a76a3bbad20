import type { Tensor } from "../graph/tensor.ts"
import { Optimizer, type Rule } from "./optimizer.ts"

export interface SgdOptions {
  /** Learning rate of `step`; `update` takes its own. */
  readonly lr?: number
  readonly momentum?: number
  /** Looks ahead by one momentum step (Y. Nesterov, 1983). */
  readonly nesterov?: boolean
  /** Part of the gradient; vectors (norms, biases) are left out of it. */
  readonly weightDecay?: number
}

const rule = ({ momentum = 0, nesterov = false, weightDecay = 0 }: SgdOptions): Rule => ({
  name: momentum === 0 ? "sgd" : nesterov ? "sgd: nesterov" : "sgd: momentum",
  moments: momentum === 0 ? 0 : 1,
  constants: momentum === 0 ? {} : { momentum },
  weightDecay,
  wgsl: `g += decay * param[i];
  ${momentum === 0 ? "" : "let m = p.momentum * moment1[i] + g; moment1[i] = m;"}
  param[i] -= lr * ${momentum === 0 ? "g" : nesterov ? "(g + p.momentum * m)" : "m"};`,
})

/** Stochastic gradient descent, with momentum if asked, PyTorch's formula. */
export class Sgd extends Optimizer {
  constructor(params: readonly Tensor[], options: SgdOptions = {}) {
    super(params, rule(options), options.lr ?? 1e-2)
  }
}

/** {@link Sgd} over `params`. */
export const sgd = (params: readonly Tensor[], options?: SgdOptions): Sgd => new Sgd(params, options)
