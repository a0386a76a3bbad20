import { elementBytes } from "../dtype.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { ValueAndGrad } from "../graph/autograd.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { Arena, arenaLayouts, type ArenaLayout } from "./arena.ts"

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

interface Decays {
  readonly beta1: number
  readonly beta2: number
}

interface Attributes extends Decays {
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

const betas = ({ beta1, beta2 }: Decays): readonly number[] => [beta1, beta2, 1 - beta1, 1 - beta2]

const advanceOp: FusedOp<Decays> = {
  name: "adamw: bias corrections",
  infer: ([corrections]) => [corrections!],
  inPlace: () => ({ 0: 0 }),
  lower: (emit, [corrections, norm], _, decays) => emit.launch(advance, [norm!, corrections!], betas(decays), [1]),
}

const updateOp: FusedOp<Attributes> = {
  name: "adamw",
  infer: ([param, moment1, moment2, grad]) => [param!, moment1!, moment2!, grad!],
  inPlace: () => ({ 0: 0, 1: 1, 2: 2, 3: 3 }),
  lower: (emit, [param, moment1, moment2, grad, corrections, norm, learningRate], _, attributes) => {
    const { eps, weightDecay, decayed, maxGradNorm } = attributes
    const items = param!.spec.shape[0]! / 4
    emit.launch(
      update,
      [corrections!, norm!, learningRate!, param!, moment1!, moment2!, grad!],
      [items, decayed, ...betas(attributes), eps, weightDecay, maxGradNorm],
      gridFor(items, 64),
    )
  },
}

/** What one launch updates: a part of the parameters, with their gradients and moments. */
class Shard {
  readonly param: Arena
  readonly grad: Arena
  readonly moment1: Arena
  readonly moment2: Arena
  /** Elements from the start on that decay. */
  readonly decayed: number

  constructor(layout: ArenaLayout) {
    this.param = new Arena(layout, "parameters")
    this.param.adopt()
    this.grad = new Arena(layout, "gradients")
    this.moment1 = new Arena(layout, "optimizer")
    this.moment2 = new Arena(layout, "optimizer")
    this.decayed = (layout.offsets[layout.params.filter(decays).length] ?? layout.bytes) / elementBytes
  }
}

const decays = ({ shape }: Tensor): boolean => shape.length > 1

/**
 * AdamW (I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019), PyTorch's formula, over all
 * parameters at once: they and their gradients and moments lie in one buffer each (or several, of 128 MiB), and one launch
 * updates them.
 */
export class AdamW {
  readonly params: readonly Tensor[]
  /** Accumulated gradients, one per parameter; zero after every update. */
  readonly grads: readonly Tensor[]
  readonly #options: Required<AdamWOptions>
  readonly #shards: readonly Shard[]
  readonly #corrections: Tensor

  /** Moves `params` (f32) into its own buffers. Create the optimiser before compiling functions that read them. */
  constructor(params: readonly Tensor[], options: AdamWOptions = {}) {
    this.#options = { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, ...options }
    // Matrices first: those are what decays.
    const ordered = [...params.filter(decays), ...params.filter((param) => !decays(param))]
    this.#shards = arenaLayouts(ordered).map((layout) => new Shard(layout))
    this.#corrections = params[0]!.gpu.zeros([4], "f32", "optimizer")
    this.params = params
    const grads = this.#shards.flatMap(({ grad }) => grad.views)
    this.grads = params.map((param) => grads[ordered.indexOf(param)]!)
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
    const { eps, weightDecay } = this.#options
    const [beta1, beta2] = this.#options.betas
    const squares = this.#shards.map(({ grad }) => grad.flat.square().sum())
    const norm = squares.reduce((total, square) => total.add(square)).sqrt()
    const corrections = applyFusedOne(advanceOp, [this.#corrections, norm], { beta1, beta2 })
    for (const { param, moment1, moment2, grad, decayed } of this.#shards) {
      const inPlace = [param.flat, moment1.flat, moment2.flat, grad.flat]
      const attributes = { beta1, beta2, eps, weightDecay, decayed, maxGradNorm }
      norm.gpu.effect(applyFused(updateOp, [...inPlace, corrections, norm, learningRate], attributes)[0]!)
    }
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
    const moments = this.#shards.flatMap(({ moment1, moment2 }, i) => {
      const part = i === 0 ? "" : `.${i}`
      return [[`moment1${part}`, moment1.flat] as const, [`moment2${part}`, moment2.flat] as const]
    })
    return { ...Object.fromEntries(moments), corrections: this.#corrections }
  }

  /** Gives gradients and moments back; the parameters stay. */
  dispose(): void {
    for (const { grad, moment1, moment2 } of this.#shards)
      for (const arena of [grad, moment1, moment2]) arena.flat.dispose()
    this.#corrections.dispose()
  }
}

/** {@link AdamW} over `params`. */
export const adamw = (params: readonly Tensor[], options?: AdamWOptions): AdamW => new AdamW(params, options)
