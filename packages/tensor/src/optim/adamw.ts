import { applyFused } from "../graph/apply.ts"
import type { ValueAndGrad } from "../graph/autograd.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { Arena, arenaLayout } from "./arena.ts"

export interface AdamWOptions {
  /** Learning rate of {@link AdamW.step}; {@link AdamW.update} takes its own. */
  readonly lr?: number
  readonly betas?: readonly [number, number]
  readonly eps?: number
  /** Decoupled weight decay; vectors (norms, biases) are left out of it. */
  readonly weightDecay?: number
}

export interface UpdateOptions {
  /** [1]; a tensor, so that a recorded program can take a new one each step. */
  readonly learningRate: Tensor
  /** L2 norm to which the whole gradient is clipped; 0 does not clip. */
  readonly maxGradNorm?: number
}

interface Attributes {
  readonly beta1: number
  readonly beta2: number
  readonly eps: number
  readonly weightDecay: number
  /** Elements from the start of the arena that decay. */
  readonly decayed: number
  readonly maxGradNorm: number
}

/** By its bits: WGSL lets compilers assume that no number is infinite or NaN. */
const isFinite = `
fn isFinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }`

/** 1 − βᵗ by recurrence: exact where 1 minus an f32 power would cancel. */
const advance: Kernel = {
  name: "adamw: bias corrections",
  params: { beta1: "f32", beta2: "f32", rest1: "f32", rest2: "f32" },
  buffers: [reads("norm"), writes("corrections")],
  body: () => `${isFinite}
@compute @workgroup_size(1)
fn main() {
  if (!isFinite(norm[0])) { return; }
  corrections[0] = fma(p.beta1, corrections[0], p.rest1);
  corrections[1] = fma(p.beta2, corrections[1], p.rest2);
}`,
}

const update: Kernel = {
  name: "adamw",
  params: {
    items: "u32",
    decayed: "u32",
    beta1: "f32",
    beta2: "f32",
    rest1: "f32",
    rest2: "f32",
    eps: "f32",
    weightDecay: "f32",
    maxGradNorm: "f32",
  },
  buffers: [
    reads("corrections"),
    reads("norm"),
    reads("learningRate"),
    writes("param", "vec4f"),
    writes("moment1", "vec4f"),
    writes("moment2", "vec4f"),
    writes("grad", "vec4f"),
  ],
  body: () => `${isFinite}${perItem(64, "p.items")}
  var g = grad[i];
  grad[i] = vec4f();
  let total = norm[0];
  if (!isFinite(total)) { return; }
  if (p.maxGradNorm > 0.0) { g *= min(1.0, p.maxGradNorm / (total + 1e-6)); }
  let lr = learningRate[0];
  let m = p.beta1 * moment1[i] + p.rest1 * g;
  let v = p.beta2 * moment2[i] + p.rest2 * g * g;
  moment1[i] = m;
  moment2[i] = v;
  let decay = select(0.0, lr * p.weightDecay, i * 4u < p.decayed);
  let denominator = sqrt(v) / sqrt(corrections[1]) + p.eps;
  param[i] = param[i] * (1.0 - decay) - (lr / corrections[0]) * m / denominator;
}`,
}

const adamwOp: FusedOp<Attributes> = {
  name: "adamw",
  infer: ([param, moment1, moment2, grad, corrections]) => [param!, moment1!, moment2!, grad!, corrections!],
  inPlace: () => ({ 0: 0, 1: 1, 2: 2, 3: 3, 4: 4 }),
  lower: (emit, [param, moment1, moment2, grad, corrections, norm, learningRate], _, attributes) => {
    const { beta1, beta2, eps, weightDecay, decayed, maxGradNorm } = attributes
    const betas = [beta1, beta2, 1 - beta1, 1 - beta2]
    emit.launch(advance, [norm!, corrections!], betas, [1])
    const items = param!.spec.shape[0]! / 4
    emit.launch(
      update,
      [corrections!, norm!, learningRate!, param!, moment1!, moment2!, grad!],
      [items, decayed, ...betas, eps, weightDecay, maxGradNorm],
      gridFor(items, 64),
    )
  },
}

/**
 * AdamW (I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019), PyTorch's formula, over all
 * parameters at once: they and their gradients and moments lie in one buffer each, and one launch updates them.
 */
export class AdamW {
  readonly params: readonly Tensor[]
  /** Accumulated gradients, one per parameter; zero after every update. */
  readonly grads: readonly Tensor[]
  readonly #options: Required<AdamWOptions>
  readonly #param: Arena
  readonly #grad: Arena
  readonly #moment1: Arena
  readonly #moment2: Arena
  readonly #corrections: Tensor
  readonly #decayed: number

  /** Moves `params` (f32) into one buffer. Create the optimiser before compiling functions that read them. */
  constructor(params: readonly Tensor[], options: AdamWOptions = {}) {
    this.#options = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, ...options }
    // Matrices first: those are what decays.
    const ordered = [...params.filter((p) => p.shape.length > 1), ...params.filter((p) => p.shape.length <= 1)]
    const layout = arenaLayout(ordered)
    const matrices = params.filter((p) => p.shape.length > 1).length
    this.#decayed = (layout.offsets[matrices] ?? layout.bytes) / 4
    this.#param = new Arena(ordered, layout, "parameters")
    this.#param.adopt(ordered)
    this.#grad = new Arena(ordered, layout, "gradients")
    this.#moment1 = new Arena(ordered, layout, "optimizer")
    this.#moment2 = new Arena(ordered, layout, "optimizer")
    this.#corrections = params[0]!.gpu.zeros([4], "f32", "optimizer")
    this.params = params
    this.grads = params.map((param) => this.#grad.views[ordered.indexOf(param)]!)
  }

  /** Adds gradients, in the order of {@link params}. */
  accumulate(grads: readonly Tensor[]): void {
    grads[0]?.gpu.pin(grads)
    grads.forEach((gradient, i) => gradient.gpu.accumulate(this.grads[i]!, gradient))
  }

  /**
   * Applies the accumulated gradient and clears it. Returns its L2 norm before clipping, []; if that is not finite, the
   * parameters and moments stay as they were.
   */
  update({ learningRate, maxGradNorm = 0 }: UpdateOptions): Tensor {
    const { betas, eps, weightDecay } = this.#options
    const norm = this.#grad.flat.square().sum().sqrt()
    const [param] = applyFused(
      adamwOp,
      [
        this.#param.flat,
        this.#moment1.flat,
        this.#moment2.flat,
        this.#grad.flat,
        this.#corrections,
        norm,
        learningRate,
      ],
      { beta1: betas[0], beta2: betas[1], eps, weightDecay, decayed: this.#decayed, maxGradNorm },
    )
    norm.gpu.effect(param!)
    return norm
  }

  /** One whole step at the constructor's learning rate; gives back the value that was differentiated. */
  step({ value, grads }: ValueAndGrad): Tensor {
    value.gpu.pin([value, ...grads])
    this.accumulate(grads)
    this.update({ learningRate: value.gpu.constant(this.#options.lr) })
    return value
  }

  /** Everything but the parameters that a resumed run needs: moments and bias corrections, by name. */
  get state(): Readonly<Record<string, Tensor>> {
    return { moment1: this.#moment1.flat, moment2: this.#moment2.flat, corrections: this.#corrections }
  }

  dispose(): void {
    for (const arena of [this.#grad, this.#moment1, this.#moment2]) arena.flat.dispose()
    this.#corrections.dispose()
  }
}

/** {@link AdamW} over `params`. */
export const adamw = (params: readonly Tensor[], options?: AdamWOptions): AdamW => new AdamW(params, options)
