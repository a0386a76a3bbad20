import { showShape } from "../dtype.ts"
import { ShapeError } from "../errors.ts"
import type { Tensor } from "../graph/tensor.ts"
import { Optimizer, type Rule } from "./optimizer.ts"

export interface MuonOptions {
  /** Learning rate of `step`; `update` takes its own. */
  readonly lr?: number
  readonly momentum?: number
  readonly nesterov?: boolean
  /** Decoupled. */
  readonly weightDecay?: number
  /** Steps of the Newton–Schulz iteration. */
  readonly steps?: number
  /**
   * What the orthogonal update of a matrix [r, c] is multiplied with: `"original"` √max(1, r/c), or `"matchAdamW"`
   * 0.2 · √max(r, c), with which AdamW's learning rate and weight decay can stay (J. Liu et al., 2025).
   */
  readonly scale?: "original" | "matchAdamW"
}

/** Leaves in `grad` what is to be made orthogonal. */
const rule = (momentum: number, nesterov: boolean): Rule => ({
  name: nesterov ? "muon: nesterov" : "muon: momentum",
  moments: 1,
  constants: { momentum },
  weightDecay: 0,
  wgsl: `let m = mix(g, moment1[i], p.momentum);
  moment1[i] = m;
  grad[i] = ${nesterov ? "mix(g, m, p.momentum)" : "m"};`,
})

/**
 * Roughly the nearest matrix with orthonormal rows or columns: a quintic Newton–Schulz iteration that brings every
 * singular value near 1 (the coefficients are K. Jordan's). x: [r, c].
 */
export const orthogonalize = (x: Tensor, steps = 5): Tensor => {
  const [rows, columns] = x.shape as [number, number]
  const tall = rows > columns
  const start = tall ? x.transpose() : x
  let y = start.div(start.square().sum().sqrt().add(1e-7))
  for (let i = 0; i < steps; i++) {
    const gram = y.matmul(y, { transposeB: true })
    const mixed = gram.mul(-4.775).add(gram.matmul(gram).mul(2.0315))
    y = y.mul(3.4445).add(mixed.matmul(y))
  }
  return tall ? y.transpose() : y
}

/**
 * Muon: momentum made orthogonal (K. Jordan et al., 2024), for the matrices inside of a network. Vectors, embeddings and
 * heads belong to another optimiser; see `together`.
 */
export class Muon extends Optimizer {
  readonly #options: Required<MuonOptions>

  /** Throws a `ShapeError` if a parameter is no matrix. */
  constructor(params: readonly Tensor[], options: MuonOptions = {}) {
    const all = {
      lr: 1e-3,
      momentum: 0.95,
      nesterov: true,
      weightDecay: 0.1,
      steps: 5,
      scale: "original",
      ...options,
    } as const
    const vector = params.find(({ shape }) => shape.length !== 2)
    if (vector)
      throw new ShapeError(
        "muon",
        `updates matrices only, not ${showShape(vector.shape)}: give it to another optimiser`,
      )
    super(params, rule(all.momentum, all.nesterov), all.lr)
    this.#options = all
  }

  protected override finish(norm: Tensor, learningRate: Tensor): void {
    const { steps, scale, weightDecay } = this.#options
    // The gradient was not finite: everything stays as it is.
    const rate = norm.isFinite().where(learningRate, 0)
    this.masters.forEach((param, i) => {
      const [rows, columns] = param.shape as [number, number]
      const factor =
        scale === "original" ? Math.sqrt(Math.max(1, rows / columns)) : 0.2 * Math.sqrt(Math.max(rows, columns))
      const move = orthogonalize(this.grads[i]!, steps).mul(factor).add(param.mul(weightDecay))
      param.gpu.accumulate(param, move.mul(rate.neg()))
    })
    this.clear()
  }
}

/** {@link Muon} over `params`. */
export const muon = (params: readonly Tensor[], options?: MuonOptions): Muon => new Muon(params, options)
