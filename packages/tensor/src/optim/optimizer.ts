import { elementBytes, isHalf } from "../dtype.ts"
import { ShapeError, TensorError } from "../errors.ts"
import { applyFused, applyFusedOne } from "../graph/apply.ts"
import type { ValueAndGrad } from "../graph/autograd.ts"
import type { FusedOp } from "../graph/fused-op.ts"
import type { Tensor } from "../graph/tensor.ts"
import { packInto } from "../kernels/pack.ts"
import { gridFor, perItem, reads, writes, type Kernel } from "../program/kernel.ts"
import { Arena, arenaLayouts, type ArenaLayout } from "./arena.ts"

export interface UpdateOptions {
  /** [1]; a tensor, so that a recorded program can take a new one each step. */
  readonly learningRate: Tensor
  /** L2 norm to which the whole gradient is clipped; 0 does not clip. */
  readonly maxGradNorm?: number
}

/** How one launch changes all parameters, four elements an invocation. */
export interface Rule {
  readonly name: string
  /** Running averages that it keeps for each parameter. */
  readonly moments: number
  /** Names of further buffers that it reads: what {@link Optimizer.prepare} returns. */
  readonly reads?: readonly string[]
  /** Numbers that it takes as `p.…`. */
  readonly constants: Readonly<Record<string, number>>
  /** Weight decay of matrices; vectors (norms, biases) are left out of it. */
  readonly weightDecay: number
  /**
   * Updates `param[i]` and `moment1[i]`, …, from the clipped gradient `g`, the learning rate `lr` and the weight decay of
   * this element, `decay`.
   */
  readonly wgsl: string
}

/** By its bits: WGSL lets compilers assume that no number is infinite or NaN. */
export const isFiniteWgsl = `
fn isFinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }`

const momentNames = ({ moments }: Rule): readonly string[] =>
  Array.from({ length: moments }, (_, i) => `moment${i + 1}`)

const updateKernel = (rule: Rule): Kernel => ({
  name: rule.name,
  params: {
    items: "u32",
    decayed: "u32",
    weightDecay: "f32",
    maxGradNorm: "f32",
    ...Object.fromEntries(Object.keys(rule.constants).map((name) => [name, "f32"] as const)),
  },
  buffers: [
    reads("norm"),
    reads("learningRate"),
    ...(rule.reads ?? []).map((name) => reads(name)),
    ...["param", "grad", ...momentNames(rule)].map((name) => writes(name, "vec4f")),
  ],
  body: () => `${isFiniteWgsl}${perItem(64, "p.items")}
  var g = grad[i];
  grad[i] = vec4f();
  let total = norm[0];
  if (!isFinite(total)) { return; }
  if (p.maxGradNorm > 0.0) { g *= min(1.0, p.maxGradNorm / (total + 1e-6)); }
  let lr = learningRate[0];
  let decay = select(0.0, p.weightDecay, i * 4u < p.decayed);
  ${rule.wgsl}
}`,
})

interface Attributes {
  readonly rule: Rule
  /** Elements from the start of the arena that decay. */
  readonly decayed: number
  readonly maxGradNorm: number
}

const updateOp: FusedOp<Attributes> = {
  name: "optimizer",
  infer: (inputs, { rule }) => inputs.slice(0, 2 + rule.moments),
  inPlace: ({ rule }) => Object.fromEntries(Array.from({ length: 2 + rule.moments }, (_, i) => [i, i])),
  lower: (emit, inputs, _, { rule, decayed, maxGradNorm }) => {
    const inPlace = inputs.slice(0, 2 + rule.moments)
    const items = inPlace[0]!.spec.shape[0]! / 4
    emit.launch(
      updateKernel(rule),
      [...inputs.slice(2 + rule.moments), ...inPlace],
      [items, decayed, rule.weightDecay, maxGradNorm, ...Object.values(rule.constants)],
      gridFor(items, 64),
    )
  },
}

const clearKernel: Kernel = {
  name: "clear gradients",
  params: { items: "u32" },
  buffers: [writes("grad", "vec4f")],
  body: () => `${perItem(64, "p.items")}
  grad[i] = vec4f();
}`,
}

const clearOp: FusedOp<undefined> = {
  name: "clear gradients",
  infer: ([grad]) => [grad!],
  inPlace: () => ({ 0: 0 }),
  lower: (emit, [grad]) => {
    const items = grad!.spec.shape[0]! / 4
    emit.launch(clearKernel, [grad!], [items], gridFor(items, 64))
  },
}

/** What one launch updates: a part of the parameters, with their gradients and moments. */
class Shard {
  readonly param: Arena
  /** The parameters in f32, where they are halves: what the rule changes, and they are rounded from. */
  readonly master: Arena | undefined
  readonly grad: Arena
  readonly moments: readonly Arena[]
  /** Elements from the start on that decay. */
  readonly decayed: number

  constructor(layout: ArenaLayout, moments: number) {
    this.param = new Arena(layout, "parameters", layout.dtype)
    this.param.adopt()
    if (layout.dtype !== "f32") {
      this.master = new Arena(layout, "optimizer")
      this.master.widen(this.param)
    }
    this.grad = new Arena(layout, "gradients")
    this.moments = Array.from({ length: moments }, () => new Arena(layout, "optimizer"))
    this.decayed = (layout.offsets[layout.params.filter(decays).length] ?? layout.bytes) / elementBytes
  }
}

const decays = ({ shape }: Tensor): boolean => shape.length > 1

/**
 * What optimisers have in common: parameters, their gradients and moments lie in one buffer each (or several, of 128
 * MiB), and one launch updates them all.
 */
export abstract class Optimizer {
  readonly params: readonly Tensor[]
  /** Accumulated gradients, one per parameter; zero after every update. */
  readonly grads: readonly Tensor[]
  readonly #rule: Rule
  readonly #learningRate: number
  readonly #shards: readonly Shard[]
  /** What the rule changes, in f32: the parameters, or the numbers that they are rounded from. */
  protected readonly masters: readonly Tensor[]

  /**
   * Moves `params` into its own buffers. Create the optimiser before compiling functions that read them. Parameters of f16
   * or bf16 are rounded, after every update, from a copy in f32 that is part of the state.
   */
  constructor(params: readonly Tensor[], rule: Rule, learningRate: number) {
    const fail = (message: string) => new TensorError(rule.name, message)
    if (params.length === 0) throw fail("there is no parameter to update")
    if (new Set(params.map(({ value }) => value.node)).size < params.length) throw fail("a parameter is given twice")
    if (!(learningRate >= 0 && Number.isFinite(learningRate)))
      throw fail(`the learning rate is a number from 0 on, not ${learningRate}`)
    const frozen = params.find(({ dtype }) => dtype !== "f32" && !isHalf(dtype))
    if (frozen) throw new ShapeError("optimizer", `parameters must be f32, f16 or bf16, not ${frozen.dtype}`)
    this.#rule = rule
    this.#learningRate = learningRate
    // Of each dtype matrices first: those are what decays.
    const ordered = (["f32", "bf16", "f16"] as const).flatMap((of) => {
      const own = params.filter(({ dtype }) => dtype === of)
      return [...own.filter(decays), ...own.filter((param) => !decays(param))]
    })
    const layouts = arenaLayouts(ordered)
    this.#shards = params[0]!.gpu.unscoped(() => layouts.map((layout) => new Shard(layout, rule.moments)))
    this.params = params
    const grads = this.#shards.flatMap(({ grad }) => grad.views)
    this.grads = params.map((param) => grads[ordered.indexOf(param)]!)
    const masters = this.#shards.flatMap(({ master, param }) => (master ?? param).views)
    this.masters = params.map((param) => (param.dtype === "f32" ? param : masters[ordered.indexOf(param)]!))
  }

  /** Adds gradients, in the order of {@link params}. */
  accumulate(grads: readonly Tensor[]): void {
    if (grads.length !== this.params.length)
      throw new TensorError(
        this.#rule.name,
        `${this.params.length} parameters need as many gradients, not ${grads.length}`,
      )
    grads[0]!.gpu.pin(grads)
    grads.forEach((gradient, i) => gradient.gpu.accumulate(this.grads[i]!, gradient))
  }

  /**
   * Applies the accumulated gradient and clears it. Returns its L2 norm before clipping, []; if that is not finite, the
   * parameters and moments stay as they were.
   */
  update({ learningRate, maxGradNorm = 0 }: UpdateOptions): Tensor {
    const squares = this.#shards.map(({ grad }) => grad.flat.square().sum())
    const norm = squares.reduce((total, square) => total.add(square)).sqrt()
    const more = this.prepare(norm)
    for (const { param, master = param, grad, moments, decayed } of this.#shards) {
      const inPlace = [master, grad, ...moments].map((arena) => arena.flat)
      const attributes = { rule: this.#rule, decayed, maxGradNorm }
      norm.gpu.effect(applyFused(updateOp, [...inPlace, norm, learningRate, ...more], attributes)[0]!)
    }
    this.finish(norm, learningRate)
    for (const { param, master } of this.#shards) if (master) norm.gpu.effect(packInto(param.flat, master.flat))
    return norm
  }

  /** One whole step at the constructor's learning rate; gives back the value that was differentiated. */
  step({ value, grads }: ValueAndGrad): Tensor {
    value.gpu.pin([value, ...grads])
    this.accumulate(grads)
    this.update({ learningRate: value.gpu.constant(this.#learningRate) })
    return value
  }

  /** Everything but the parameters that a resumed run needs, by name. */
  get state(): Readonly<Record<string, Tensor>> {
    const kept = this.#shards.flatMap(({ master, moments }, i) => {
      const moment = momentNames(this.#rule).map((name, k) => [name, moments[k]!] as const)
      const arenas = [...moment, ...(master ? [["master", master] as const] : [])]
      return arenas.map(([name, { flat }]) => [i === 0 ? name : `${name}.${i}`, flat] as const)
    })
    return Object.fromEntries(kept)
  }

  /** Gives gradients and state back; the parameters stay. */
  dispose(): void {
    for (const { grad, master, moments } of this.#shards)
      for (const arena of [grad, ...(master ? [master] : []), ...moments]) arena.flat.dispose()
  }

  /** What the rule reads beside the gradient's norm and the learning rate. */
  protected prepare(_norm: Tensor): readonly Tensor[] {
    return []
  }

  /** What remains to be done when the rule has been applied. */
  protected finish(_norm: Tensor, _learningRate: Tensor): void {}

  /** Sets all gradients to zero. */
  protected clear(): void {
    for (const { grad } of this.#shards) grad.flat.gpu.effect(applyFusedOne(clearOp, [grad.flat], undefined))
  }
}
