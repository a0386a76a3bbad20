import { adamw, type AdamWOptions, type Gpu, type Tensor } from "../../src/index.ts"
import { randomArray } from "../reference.ts"

/** Sizes that leave gaps in the optimiser's buffers: 5 and 7 are no multiples of four. */
export const shapes = [[3, 5], [7], [2, 66], [1], [64]] as const
const sizes = [15, 7, 132, 1, 64]

export const initial = () => sizes.map((size, i) => randomArray(size, 20 + i))
/** Gradients of step `t`; every third is large enough to be clipped. */
export const gradients = (t: number) =>
  sizes.map((size, i) => randomArray(size, 1000 * t + i, -1, t % 3 === 0 ? 40 : 1))

interface Settings extends Required<Omit<AdamWOptions, "lr">> {
  readonly maxGradNorm: number
}

/** torch.optim.AdamW (single tensor path) after torch.nn.utils.clip_grad_norm_, in float64. */
export class Reference {
  readonly params = initial().map((p) => Float64Array.from(p))
  readonly m = sizes.map((size) => new Float64Array(size))
  readonly v = sizes.map((size) => new Float64Array(size))
  #steps = 0

  step(grads: readonly ArrayLike<number>[], lr: number, { betas, eps, weightDecay, maxGradNorm }: Settings): number {
    const [beta1, beta2] = betas
    const norm = Math.sqrt(grads.reduce((sum, g) => sum + Array.from(g).reduce((s, x) => s + x * x, 0), 0))
    const factor = maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1
    const t = ++this.#steps
    this.params.forEach((p, i) => {
      const decay = shapes[i]!.length > 1 ? weightDecay : 0
      for (let k = 0; k < p.length; k++) {
        const g = grads[i]![k]! * factor
        p[k]! *= 1 - lr * decay
        this.m[i]![k] = beta1 * this.m[i]![k]! + (1 - beta1) * g
        this.v[i]![k] = beta2 * this.v[i]![k]! + (1 - beta2) * g * g
        const denominator = Math.sqrt(this.v[i]![k]!) / Math.sqrt(1 - beta2 ** t) + eps
        p[k]! -= ((lr / (1 - beta1 ** t)) * this.m[i]![k]!) / denominator
      }
    })
    return norm
  }
}

export const settings: Settings = { betas: [0.9, 0.99], eps: 1e-8, weightDecay: 0.1, maxGradNorm: 5 }

export const setUp = (device: Gpu, options: AdamWOptions = settings) => {
  const params = initial().map((data, i) => device.tensor(data, shapes[i]))
  const optimizer = adamw(params, options)
  const step = device.compile((lr: Tensor, ...grads: Tensor[]) => {
    optimizer.accumulate(grads)
    return optimizer.update({ learningRate: lr, maxGradNorm: settings.maxGradNorm })
  })
  const run = async (t: number, lr: number, grads = gradients(t)) => {
    const inputs = [device.tensor([lr]), ...grads.map((g, i) => device.tensor(g, shapes[i]))]
    const norm = step(...(inputs as [Tensor, ...Tensor[]]))
    const value = await norm.item()
    for (const tensor of [norm, ...inputs]) tensor.dispose()
    return value
  }
  return { params, optimizer, run }
}

export const learningRate = (t: number) => 0.01 * (1 - t / 40)
