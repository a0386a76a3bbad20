import { applyFusedOne } from "../graph/apply.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { reads, writes, type Kernel } from "../program/kernel.ts"
import { isFiniteWgsl, Optimizer, type Rule } from "./optimizer.ts"

export interface AdamWOptions {
  /** Learning rate of {@link AdamW.step}; {@link AdamW.update} takes its own. */
  readonly lr?: number
  readonly betas?: readonly [number, number]
  readonly eps?: number
  /** Weight decay; vectors (norms, biases) are left out of it. */
  readonly weightDecay?: number
}

interface Decays {
  readonly beta1: number
  readonly beta2: number
  readonly rest1: number
  readonly rest2: number
}

/** 1 − βᵗ by recurrence: exact where 1 minus an f32 power would cancel. */
const advance: Kernel = {
  name: "adam: bias corrections",
  params: { beta1: "f32", beta2: "f32", rest1: "f32", rest2: "f32" },
  buffers: [reads("norm"), writes("corrections")],
  body: () => `${isFiniteWgsl}
@compute @workgroup_size(1)
fn main() {
  if (!isFinite(norm[0])) { return; }
  corrections[0] = fma(p.beta1, corrections[0], p.rest1);
  corrections[1] = fma(p.beta2, corrections[1], p.rest2);
}`,
}

const advanceOp: FusedOp<Decays> = {
  name: "adam: bias corrections",
  infer: ([corrections]) => [corrections!],
  inPlace: () => ({ 0: 0 }),
  lower: (emit, [corrections, norm], _, { beta1, beta2, rest1, rest2 }) =>
    emit.launch(advance, [norm!, corrections!], [beta1, beta2, rest1, rest2], [1]),
}

/** Decay of the weights themselves, or through the gradient and so through the moments. */
type Coupling = "decoupled" | "coupled"

const rule = (coupling: Coupling, eps: number, weightDecay: number, decays: Decays): Rule => ({
  name: coupling === "decoupled" ? "adamw" : "adam",
  moments: 2,
  reads: ["corrections"],
  constants: { ...decays, eps },
  weightDecay,
  wgsl: `${coupling === "coupled" ? "g += decay * param[i];" : ""}
  let m = p.beta1 * moment1[i] + p.rest1 * g;
  let v = p.beta2 * moment2[i] + p.rest2 * g * g;
  moment1[i] = m;
  moment2[i] = v;
  let denominator = sqrt(v) / sqrt(corrections[1]) + p.eps;
  let kept = ${coupling === "decoupled" ? "param[i] * (1.0 - lr * decay)" : "param[i]"};
  param[i] = kept - (lr / corrections[0]) * m / denominator;`,
})

abstract class AdaptiveMoments extends Optimizer {
  readonly #decays: Decays
  readonly #corrections: Tensor

  constructor(
    params: readonly Tensor[],
    coupling: Coupling,
    { lr = 1e-3, betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0 }: AdamWOptions,
  ) {
    const decays = { beta1, beta2, rest1: 1 - beta1, rest2: 1 - beta2 }
    super(params, rule(coupling, eps, weightDecay, decays), lr)
    this.#decays = decays
    const { gpu } = params[0]!
    this.#corrections = gpu.unscoped(() => gpu.zeros([4], "f32", "optimizer"))
  }

  /** Moments and bias corrections. */
  override get state(): Readonly<Record<string, Tensor>> {
    return { ...super.state, corrections: this.#corrections }
  }

  override dispose(): void {
    super.dispose()
    this.#corrections.dispose()
  }

  protected override prepare(norm: Tensor): readonly Tensor[] {
    return [applyFusedOne(advanceOp, [this.#corrections, norm], this.#decays)]
  }
}

/** AdamW (I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019), PyTorch's formula. */
export class AdamW extends AdaptiveMoments {
  constructor(params: readonly Tensor[], options: AdamWOptions = {}) {
    super(params, "decoupled", options)
  }
}

/** Adam (D. P. Kingma and J. Ba, 2015), PyTorch's formula: weight decay is part of the gradient. */
export class Adam extends AdaptiveMoments {
  constructor(params: readonly Tensor[], options: AdamWOptions = {}) {
    super(params, "coupled", options)
  }
}

/** {@link AdamW} over `params`. */
export const adamw = (params: readonly Tensor[], options?: AdamWOptions): AdamW => new AdamW(params, options)

/** {@link Adam} over `params`. */
export const adam = (params: readonly Tensor[], options?: AdamWOptions): Adam => new Adam(params, options)
