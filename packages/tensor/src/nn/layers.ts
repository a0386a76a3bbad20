import type { Gpu } from "../device/gpu.ts"
import type { Tensor } from "../graph/tensor.ts"
import { embedding } from "../kernels/embedding.ts"
import { layerNorm } from "../kernels/layer-norm.ts"
import { linear } from "../kernels/matmul/matmul.ts"
import { dropout } from "../kernels/random.ts"
import { rmsNorm } from "../kernels/rms-norm.ts"
import { conv2d, type ConvolutionOptions } from "../ops/convolution.ts"
import type { Pair } from "../kernels/unfold.ts"
import { Module } from "./module.ts"

export interface Seeded {
  /** Of the initial values. Give every layer one of its own. */
  readonly seed: number
}

/** Uniform in ±1/√fanIn, PyTorch's default for linear layers and convolutions. */
const initial = (gpu: Gpu, shape: readonly number[], fanIn: number, seed: number): Tensor => {
  const bound = 1 / Math.sqrt(fanIn)
  return gpu.uniform(shape, { seed, low: -bound, high: bound })
}

export interface LinearLayerOptions extends Seeded {
  /** Default: with one. */
  readonly bias?: boolean
}

/** x · weightᵀ + bias over the last axis: [..., in] to [..., out]. weight: [out, in], bias: [out]. */
export class Linear extends Module {
  readonly weight: Tensor
  readonly bias: Tensor | undefined

  constructor(gpu: Gpu, inFeatures: number, outFeatures: number, { seed, bias = true }: LinearLayerOptions) {
    super()
    this.weight = initial(gpu, [outFeatures, inFeatures], inFeatures, seed)
    this.bias = bias ? initial(gpu, [outFeatures], inFeatures, seed + 2 ** 51) : undefined
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias ? { bias: this.bias } : {})
  }
}

/** Rows of a table: ids (i32, any shape) to [..., width]. weight: [count, width], normal with deviation `std`. */
export class Embedding extends Module<[ids: Tensor]> {
  readonly weight: Tensor

  constructor(gpu: Gpu, count: number, width: number, { seed, std = 1 }: Seeded & { readonly std?: number }) {
    super()
    this.weight = gpu.normal([count, width], { seed, std })
  }

  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids)
  }
}

/** x / √(mean x² + eps) · weight over the last axis. weight: [width]. */
export class RMSNorm extends Module {
  readonly weight: Tensor
  readonly #eps: number

  constructor(gpu: Gpu, width: number, { eps = 1e-6 }: { readonly eps?: number } = {}) {
    super()
    this.weight = gpu.ones([width])
    this.#eps = eps
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.#eps)
  }
}

/** (x − mean) / √(variance + eps) · weight + bias over the last axis. weight and bias: [width]. */
export class LayerNorm extends Module {
  readonly weight: Tensor
  readonly bias: Tensor
  readonly #eps: number

  constructor(gpu: Gpu, width: number, { eps = 1e-5 }: { readonly eps?: number } = {}) {
    super()
    this.weight = gpu.ones([width])
    this.bias = gpu.zeros([width])
    this.#eps = eps
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.#eps)
  }
}

export interface Conv2dLayerOptions extends Seeded, Omit<ConvolutionOptions<number | Pair>, "bias"> {
  /** Default: with one. */
  readonly bias?: boolean
}

/** `conv2d` with weight [out, in/groups, h, w] and bias [out]: [B, in, H, W] to [B, out, …]. */
export class Conv2d extends Module {
  readonly weight: Tensor
  readonly bias: Tensor | undefined
  readonly #options: ConvolutionOptions<number | Pair>

  constructor(
    gpu: Gpu,
    inChannels: number,
    outChannels: number,
    size: number | Pair,
    { seed, bias = true, ...options }: Conv2dLayerOptions,
  ) {
    super()
    const [height, width] = typeof size === "number" ? [size, size] : size
    const perGroup = inChannels / (options.groups ?? 1)
    this.weight = initial(gpu, [outChannels, perGroup, height, width], perGroup * height * width, seed)
    this.bias = bias ? initial(gpu, [outChannels], perGroup * height * width, seed + 2 ** 51) : undefined
    this.#options = options
  }

  forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias ? { ...this.#options, bias: this.bias } : this.#options)
  }
}

/** `dropout` where it is given a key, nothing where it is not: at inference. */
export class Dropout extends Module<[x: Tensor, key?: Tensor]> {
  readonly #rate: number

  constructor(rate: number) {
    super()
    this.#rate = rate
  }

  forward(x: Tensor, key?: Tensor): Tensor {
    return key ? dropout(x, key, this.#rate) : x
  }
}

/** One module, or function, after another. */
export class Sequential extends Module {
  readonly layers: readonly (Module | ((x: Tensor) => Tensor))[]

  constructor(...layers: readonly (Module | ((x: Tensor) => Tensor))[]) {
    super()
    this.layers = layers
  }

  forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer) => (typeof layer === "function" ? layer(h) : layer.forward(h)), x)
  }
}
