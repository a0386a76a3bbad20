import type { Tensor } from "../graph/tensor.ts"
import { Optimizer, type Rule } from "./optimizer.ts"

export interface LionOptions {
  /** Learning rate of `step`; `update` takes its own. A third to a tenth of AdamW's. */
  readonly lr?: number
  readonly betas?: readonly [number, number]
  /** Decoupled; vectors (norms, biases) are left out of it. */
  readonly weightDecay?: number
}

const rule = ({ betas: [beta1, beta2] = [0.9, 0.99], weightDecay = 0 }: LionOptions): Rule => ({
  name: "lion",
  moments: 1,
  constants: { beta1, beta2, rest1: 1 - beta1, rest2: 1 - beta2 },
  weightDecay,
  wgsl: `let m = moment1[i];
  param[i] = param[i] * (1.0 - lr * decay) - lr * sign(p.beta1 * m + p.rest1 * g);
  moment1[i] = p.beta2 * m + p.rest2 * g;`,
})

/** Lion: the sign of an interpolated momentum (X. Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023). */
export class Lion extends Optimizer {
  constructor(params: readonly Tensor[], options: LionOptions = {}) {
    super(params, rule(options), options.lr ?? 1e-4)
  }
}

/** {@link Lion} over `params`. */
export const lion = (params: readonly Tensor[], options?: LionOptions): Lion => new Lion(params, options)
